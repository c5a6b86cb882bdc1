/**
 * Door of generation: starts, finds and stops the generations of this process.
 *
 * States: open → draining (no new ones; running ones may finish) → closed. A generation is found from its start
 * until it has settled.
 */
import type { Caller } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { startRun, type Generation, type GenerationSpec, type RunDeps } from './run.ts'
import { abandon } from './settle.ts'

export type { Generation, GenerationSpec, Settled } from './run.ts'
export { createViewer } from './viewer.ts'
export { attach, outcomeOf, type ResumeDeps } from './resume.ts'
export { createJournal, type Journal } from './journal.ts'
export { createMirrors, type Mirrors } from './mirror.ts'
export { createWatched, type Watched } from './watched.ts'
export { createReaper, reap } from './reaper.ts'
export { heedStops, requestStop, tellStops } from './stop.ts'

export interface Engine {
  /** @throws AppError `shutting_down` while draining: ask before storing a turn. */
  assertOpen(): void
  start(spec: GenerationSpec): Generation
  /** For a turn whose COMMIT was never acknowledged: resolves when it locks nothing, should it be stored. */
  abandon(turn: {
    caller: Caller
    generationId: string
    conversationId: string
    messageId: string
  }): Promise<void>
  find(generationId: string): Generation | undefined
  /** For whoever has stored a request to stop a generation of another instance: it hears of it at once. */
  tellStop: (generationId: string) => void
  running(): number
  /** Lets running generations finish for `graceMs`, then settles the rest as interrupted. */
  drain(graceMs: number): Promise<void>
}

export interface EngineDeps extends RunDeps {
  tellStop?: (generationId: string) => void
}

export function createEngine(deps: EngineDeps): Engine {
  const generations = new Map<string, Generation>()
  const abandoning = new Set<Promise<void>>()
  let draining = false

  return {
    assertOpen() {
      if (draining)
        throw new AppError('shutting_down', {
          detail: 'This server is being restarted: try again.',
          retryAfter: 5,
        })
    },
    start(spec) {
      deps.log.info(
        {
          event: 'generation_started',
          generationId: spec.id,
          conversationId: spec.conversationId,
          model: spec.order.models[0],
        },
        'generation started',
      )
      const generation = startRun(deps, spec)
      generations.set(spec.id, generation)
      void generation.settled.finally(() => generations.delete(spec.id))
      // A turn that was being stored when the drain began.
      if (draining) generation.stop('interrupted')
      return generation
    },
    abandon(turn) {
      const abandoned = abandon(deps, turn)
      abandoning.add(abandoned)
      return abandoned.finally(() => abandoning.delete(abandoned))
    },
    find: (generationId) => generations.get(generationId),
    tellStop: (generationId) => deps.tellStop?.(generationId),
    running: () => generations.size,
    async drain(graceMs) {
      draining = true
      const all = () => Promise.allSettled([...generations.values()].map(({ settled }) => settled))
      let timer: NodeJS.Timeout | undefined
      const grace = new Promise((resolve) => {
        timer = setTimeout(resolve, graceMs)
      })
      await Promise.race([all(), grace])
      clearTimeout(timer)
      for (const generation of generations.values()) generation.stop('interrupted')
      await all()
      await Promise.all(abandoning)
    },
  }
}
