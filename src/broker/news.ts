/**
 * What the log says of a broker: once when it goes, once when it is back.
 *
 * States: unknown → up ⇄ away, refused. Away is what time mends; refused is what somebody has to mend, there or here, and
 * is told in the broker's own words, again where they change. Blocked is beside them: the broker is there, and takes
 * nothing.
 */
import type { Logger } from '../logging.ts'

export interface News {
  /** All is well. */
  up: () => void
  /** Something is not, and why. */
  away: (error: unknown) => void
  /** Why it takes nothing, or undefined where it does again. */
  blocked: (why: string | undefined) => void
}

/** @param closing what ends from then on was ended by us. */
export function createNews(log: Logger, closing: AbortSignal): News {
  let told: 'up' | 'away' | { refused: string } | undefined
  let toldBlocked = false

  return {
    up() {
      if (told === undefined) log.info({ event: 'broker_up' }, 'connected to the broker')
      else if (told !== 'up') log.info({ event: 'broker_back' }, 'the broker is back')
      told = 'up'
    },
    away(error) {
      if (closing.aborted) return
      if (isRefused(error)) {
        const refused = wordsOf(error)
        if (typeof told !== 'object' || told.refused !== refused)
          log.error({ event: 'broker_refused', err: error }, adviceFor(error))
        told = { refused }
      } else if (typeof told !== 'object') {
        if (told !== 'away')
          log.warn({ event: 'broker_away', err: error }, 'the broker is away: no events come or go')
        told = 'away'
      }
    },
    blocked(why) {
      if (why !== undefined && !toldBlocked)
        log.warn(
          { event: 'broker_blocked', why },
          'the broker takes nothing now: it is short of memory or disk',
        )
      if (why === undefined && toldBlocked)
        log.info({ event: 'broker_unblocked' }, 'the broker takes messages again')
      toldBlocked = why !== undefined
    },
  }
}

/** The broker is there and will not have it: to try again helps only when somebody has changed something. */
export function isRefused(error: unknown): error is Error {
  if (!(error instanceof Error)) return false
  if ('code' in error && typeof error.code === 'number') return error.code in refusals
  return isTurnedAway(error) || vhostRefused.test(error.message)
}

/** By the broker's reply code: 403 access refused, 406 precondition failed, 530 not allowed. */
const refusals: Record<number, string> = {
  403: 'the broker does not let us: its user, password and permissions (configure, write, read) are to be looked at',
  406: 'the broker has a queue or an exchange of this name that is different: delete it there, or configure another name',
  530: 'the broker does not let us into this vhost: it is not there, or not open to this user',
}

/** Both come without a code. */
const isTurnedAway = ({ message }: Error) => /^Handshake terminated by server: 403 /.test(message)
/** amqplib keeps the broker's words of this one to itself. */
const vhostRefused = /^Expected ConnectionOpenOk; got <ConnectionClose /

function adviceFor(error: Error): string {
  const code = 'code' in error ? Number(error.code) : isTurnedAway(error) ? 403 : 530
  return refusals[code] ?? 'the broker refuses'
}

/** Those of the broker, without who among us asked. */
const wordsOf = ({ message }: Error) => /with message "(.*)"/.exec(message)?.[1] ?? message
