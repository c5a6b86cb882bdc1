/**
 * The crowd: thousands of clients in a process of their own. They connect, take what comes, answer heartbeats, come back
 * when they are cut, and tell what they saw. One job at a time, over IPC.
 *
 * Bounded: what is kept of events ends at `samplesMax`, a job at its own time limit.
 */
import { createHmac } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { nowUs } from '../probe.ts'
import type { DialectName } from './dialects.ts'
import { createMember, type Member, type State } from './member.ts'
import type { Ending } from './wire.ts'

export type CrowdJob =
  /** Users `first` … `first + count - 1`. Resolves when all are live, or after `withinMs`. */
  | {
      kind: 'open'
      dialect: DialectName
      secret: string
      first: number
      count: number
      /** Each member tries them in turn. */
      ports: number[]
      withinMs: number
    }
  /** Where everybody connects to from now on. */
  | { kind: 'aim'; ports: number[] }
  | { kind: 'stop-reading'; first: number; count: number }
  | { kind: 'go-on-reading' }
  /** Resolves when so many are live, or after `withinMs`. */
  | { kind: 'await-live'; count: number; withinMs: number }
  /** Resolves when so many events are kept, or after `withinMs`. */
  | { kind: 'await-events'; count: number; withinMs: number }
  /** Hands over the events, and forgets them. */
  | { kind: 'take' }
  | { kind: 'state' }
  /** Forgets what was counted. */
  | { kind: 'forget' }
  | { kind: 'cursors' }
  | { kind: 'leave'; first: number; count: number }

/** Three columns of one table. */
export interface Events {
  users: Int32Array
  /** What names an event: when its sender sent it, µs. */
  sentUs: Float64Array
  readUs: Float64Array
}

export interface CrowdState {
  live: number
  /** Not to come back. */
  gone: number
  events: number
  duplicates: number
  gaps: number
  resets: number
  /** Frames that named no sender. */
  others: number
  /** By close code, or in words. */
  endings: Record<string, number>
  attempts: number
  /** The most in any second. */
  attemptsPerSecondMax: number
  livePerSecondMax: number
  /** When each became live, µs, in order. */
  liveUs: Float64Array
}

const samplesMax = 4_000_000
/** What one turn starts, and what may be on its way at once: the server's accept queue takes 511. */
const turnMs = 1
const connectsPerTurn = 20
const connectingMax = 200
/** How often what is awaited is looked at, ms. */
const lookMs = 10
/** Of attempts and of becoming live: many more than any scenario has. */
const momentsMax = 1_000_000

const members = new Map<number, Member>()
/** How many are in each state. */
const inState: Record<State, number> = { away: 0, connecting: 0, replaying: 0, live: 0, gone: 0 }
let ports: number[] = []
let kept = emptyEvents(0)
let events = 0
let counts = emptyCounts()

function emptyEvents(size: number): Events {
  return { users: new Int32Array(size), sentUs: new Float64Array(size), readUs: new Float64Array(size) }
}

function emptyCounts() {
  return {
    duplicates: 0,
    gaps: 0,
    resets: 0,
    others: 0,
    endings: new Map<string, number>(),
    attemptsUs: [] as number[],
    liveUs: [] as number[],
  }
}

const witness = {
  moved(from: State, to: State) {
    inState[from]--
    inState[to]++
    const moments = to === 'connecting' ? counts.attemptsUs : to === 'live' ? counts.liveUs : undefined
    if (moments !== undefined && moments.length < momentsMax) moments.push(nowUs())
  },
  ended(ending: Ending) {
    const name =
      ending.kind === 'closed'
        ? String(ending.code)
        : ending.kind === 'refused'
          ? `refused ${ending.status}`
          : `cut while ${ending.while} (${ending.why})`
    counts.endings.set(name, (counts.endings.get(name) ?? 0) + 1)
  },
  event(user: number, sentUs: number | undefined, readUs: number) {
    if (sentUs === undefined) {
      counts.others++
      return
    }
    if (events === kept.users.length) grow()
    kept.users[events] = user
    kept.sentUs[events] = sentUs
    kept.readUs[events] = readUs
    events++
  },
  duplicate() {
    counts.duplicates++
  },
  gap() {
    counts.gaps++
  },
  reset() {
    counts.resets++
  },
}

function grow(): void {
  if (events >= samplesMax) throw new Error(`a crowd keeps ${samplesMax} events at most`)
  const larger = emptyEvents(Math.min(Math.max(events * 2, 65_536), samplesMax))
  larger.users.set(kept.users)
  larger.sentUs.set(kept.sentUs)
  larger.readUs.set(kept.readUs)
  kept = larger
}

/** Looks until it is so, or the time is over. */
async function until(withinMs: number, isSo: () => boolean): Promise<void> {
  const untilMs = performance.now() + withinMs
  while (!isSo() && performance.now() < untilMs) await delay(lookMs)
}

async function open(job: Extract<CrowdJob, { kind: 'open' }>): Promise<CrowdState> {
  const { dialect, secret, first, count, withinMs } = job
  if (members.size === 0) ports = job.ports
  const own = job.ports.join() === ports.join() ? undefined : job.ports
  const untilMs = performance.now() + withinMs
  const coming: Member[] = []
  for (let user = first; user < first + count; user++) {
    const member = createMember({
      user,
      token: tokenOf(secret, `user-${user}`),
      dialect,
      ports: () => own ?? ports,
      witness,
    })
    members.set(user, member)
    inState.away++
    coming.push(member)
  }
  let next = 0
  while (next < count && performance.now() < untilMs) {
    const room = connectingMax - inState.connecting - inState.replaying
    for (const member of coming.slice(next, next + Math.min(room, connectsPerTurn))) {
      member.connect()
      next++
    }
    await delay(turnMs)
  }
  await until(untilMs - performance.now(), () => coming.every((member) => member.state() === 'live'))
  return stateNow()
}

/** The same as `mintToken`, without waiting: ten thousand are made at once. */
function tokenOf(secret: string, subject: string): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const exp = Math.floor(Date.now() / 1000) + 7_200
  const text = `${part({ alg: 'HS256' })}.${part({ sub: subject, exp })}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

const within = (first: number, count: number) =>
  members.values().filter(({ user }) => user >= first && user < first + count)

function stateNow(): CrowdState {
  const { attemptsUs, liveUs, endings, ...rest } = counts
  return {
    ...rest,
    live: inState.live,
    gone: inState.gone,
    events,
    endings: Object.fromEntries(endings),
    attempts: attemptsUs.length,
    attemptsPerSecondMax: mostPerSecond(attemptsUs),
    livePerSecondMax: mostPerSecond(liveUs),
    liveUs: Float64Array.from(liveUs),
  }
}

function mostPerSecond(momentsUs: readonly number[]): number {
  let most = 0
  let begin = 0
  for (const [end, us] of momentsUs.entries()) {
    while (us - (momentsUs[begin] ?? us) >= 1_000_000) begin++
    most = Math.max(most, end - begin + 1)
  }
  return most
}

function take(): Events {
  const taken = {
    users: kept.users.slice(0, events),
    sentUs: kept.sentUs.slice(0, events),
    readUs: kept.readUs.slice(0, events),
  }
  events = 0
  return taken
}

async function leave({ first, count }: Extract<CrowdJob, { kind: 'leave' }>): Promise<void> {
  const leaving = [...within(first, count)]
  await Promise.all(leaving.map((member) => member.leave()))
  for (const member of leaving) {
    members.delete(member.user)
    inState[member.state()]--
  }
}

async function work(job: CrowdJob): Promise<unknown> {
  switch (job.kind) {
    case 'open':
      return open(job)
    case 'aim':
      ports = job.ports
      return
    case 'stop-reading':
      for (const member of within(job.first, job.count)) member.stopReading()
      return
    case 'go-on-reading':
      for (const member of members.values()) member.goOnReading()
      return
    case 'await-live':
      await until(job.withinMs, () => inState.live >= job.count)
      return stateNow()
    case 'await-events':
      await until(job.withinMs, () => events >= job.count)
      return stateNow()
    case 'take':
      return take()
    case 'state':
      return stateNow()
    case 'forget':
      counts = emptyCounts()
      return
    case 'cursors':
      return new Map(members.values().map((member) => [member.user, member.cursor()]))
    case 'leave':
      return leave(job)
    default:
      return job satisfies never
  }
}

process.on('message', (job: CrowdJob) => {
  void work(job).then(
    (result) => process.send?.({ result }),
    (error: unknown) => process.send?.({ error: String(error) }),
  )
})
process.on('disconnect', () => process.exit(0))
process.send?.({ port: 0 })
