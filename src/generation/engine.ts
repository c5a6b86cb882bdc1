/**
 * Door of generation: starts, finds and stops the generations of this process.
 *
 * States: open → draining (no new ones; running ones may finish) → closed. A generation is found from its start
 * until it has settled.
 */
import { AppError } from '../errors.ts'
import { startRun, type Generation, type GenerationSpec, type RunDeps } from './run.ts'

export type { Generation, GenerationSpec, Settled } from './run.ts'
export { createViewer } from './viewer.ts'
export { settleOrphans } from './settle.ts'

export interface Engine {
  /** @throws AppError `shutting_down` while draining: ask before storing a turn. */
  assertOpen(): void
  start(spec: GenerationSpec): Generation
  find(generationId: string): Generation | undefined
  running(): number
  /** Lets running generations finish for `graceMs`, then settles the rest as interrupted. */
  drain(graceMs: number): Promise<void>
}

export function createEngine(deps: RunDeps): Engine {
  const generations = new Map<string, Generation>()
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
          model: spec.request.model,
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
    find: (generationId) => generations.get(generationId),
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
    },
  }
}
