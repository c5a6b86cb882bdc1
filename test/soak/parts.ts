/** The parts of a soak: what each promises, how often it is tried, and how often in the short run of `npm test`. */
import { cuts } from './cuts.ts'
import { events } from './events.ts'
import { inbox, serialInbox } from './inbox.ts'
import { instances } from './instances.ts'
import { kills } from './kills.ts'
import { once } from './once.ts'
import type { Part } from './part.ts'
import { restarts } from './restarts.ts'
import { shutdown } from './shutdown.ts'
import { stops } from './stops.ts'

export interface PartEntry {
  name: string
  promise: string
  run: Part
  /** What the counts count. */
  unit: string
  full: number
  quick: number
}

export const parts: readonly PartEntry[] = [
  {
    name: 'cuts',
    promise: 'a stream cut anywhere goes on anywhere, and ends with every byte that the upstream said',
    run: cuts,
    unit: 'cuts',
    full: 1_000,
    quick: 60,
  },
  {
    name: 'kills',
    promise: 'kill -9 loses no question, no answer that was told complete, and no text shown 250 ms before',
    run: kills,
    unit: 'kills',
    full: 100,
    quick: 3,
  },
  {
    name: 'restarts',
    promise: 'a crash of PostgreSQL makes no terminal frame a lie and locks no conversation',
    run: restarts,
    unit: 'crashes',
    full: 10,
    quick: 1,
  },
  {
    name: 'instances',
    promise: 'another instance shows the same text, and hardly later',
    run: instances,
    unit: 'answers',
    full: 100,
    quick: 10,
  },
  {
    name: 'stops',
    promise: 'a stop closes the upstream soon, here and from another instance, and keeps what was shown',
    run: stops,
    unit: 'stops',
    full: 300,
    quick: 30,
  },
  {
    name: 'once',
    promise: 'one idempotency key is one upstream call, whoever sends it how often and where',
    run: once,
    unit: 'rounds',
    full: 20,
    quick: 2,
  },
  {
    name: 'shutdown',
    promise: 'SIGTERM tells each of fifty viewers how its answer ended, and the process ends in order',
    run: shutdown,
    unit: 'stops of a process',
    full: 5,
    quick: 1,
  },
  {
    name: 'inbox',
    promise: 'kill -9 loses no notification on any device, and no badge is wrong',
    run: inbox,
    unit: 'kills',
    full: 50,
    quick: 2,
  },
  {
    name: 'serial',
    promise: 'the same load finds what a cursor of serial numbers loses',
    run: serialInbox,
    unit: 'kills',
    full: 4,
    quick: 1,
  },
  {
    name: 'events',
    promise: 'an event of an assessment is done once, whoever dies, is away, or sends it again',
    run: events,
    unit: 'kinds of bad luck',
    full: 6,
    quick: 6,
  },
]

/** How to see it again. */
export function replay(seed: number, part: string, caseNumber: number | undefined, quick: boolean): string {
  const one = caseNumber === undefined ? '' : ` --case ${caseNumber}`
  return `npm run soak -- --seed ${seed} --only ${part}${one}${quick ? ' --quick' : ''}`
}
