/** What was accepted, held against what arrived. */
import { spread, type Spread } from '../statistics.ts'
import type { Events } from './crowd.ts'

export interface Findings {
  delivered: number
  /** Accepted for somebody who never got it. */
  missing: number
  /** Arrived again. */
  twice: number
  /** From sending the request to reading the frame, ms. */
  fromSendMs: Spread
  /** From the beginning of the commit to reading the frame, ms; NaN where commits were not noted. */
  fromCommitMs: Spread
}

/** @param accepted who has to get it, by what names it @param commits by the same, when it was committed, µs */
export function compareWith(
  accepted: ReadonlyMap<number, readonly number[]>,
  events: Events,
  commits?: ReadonlyMap<number, number>,
): Findings {
  const arrived = new Map<number, Set<number>>()
  const sends: number[] = []
  const afterCommits: number[] = []
  let twice = 0
  for (const [index, sentUs] of events.sentUs.entries()) {
    if (!accepted.has(sentUs)) continue
    const user = events.users[index] ?? NaN
    const readUs = events.readUs[index] ?? NaN
    const users = arrived.get(sentUs) ?? new Set()
    arrived.set(sentUs, users)
    if (users.has(user)) {
      twice++
      continue
    }
    users.add(user)
    sends.push((readUs - sentUs) / 1000)
    const commitUs = commits?.get(sentUs)
    if (commitUs !== undefined) afterCommits.push((readUs - commitUs) / 1000)
  }
  let missing = 0
  for (const [sentUs, users] of accepted) {
    const got = arrived.get(sentUs)
    missing += users.reduce((count, user) => count + Number(got?.has(user) !== true), 0)
  }
  return {
    delivered: sends.length,
    missing,
    twice,
    fromSendMs: spread(sends),
    fromCommitMs: spread(afterCommits),
  }
}
