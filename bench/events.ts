/**
 * `npm run bench:events`: how soon an event of the queue is on its user's device, and what ten thousand of them cost the
 * chat beside them. Needs a RabbitMQ (`TEST_RABBITMQ_URL`); all else it brings along. Everything runs on this machine.
 *
 * `--only arrival,flood,quick-flood` picks; `--events N` for another flood; `--unheard` without anybody who listens to what
 * we tell; `--quick` takes less of all; `--profile FILE` writes a CPU profile of the server during a flood; `--record` puts the tables on top of RESULTS.md.
 */
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { arrive } from './events/arrival.ts'
import { flood } from './events/flood.ts'
import { record, report, type Row } from './report.ts'
import { startPostgres } from './subjects.ts'

const names = ['arrival', 'flood', 'quick-flood'] as const

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
    only: { type: 'string' },
    events: { type: 'string' },
    unheard: { type: 'boolean', default: false },
    profile: { type: 'string' },
  },
})
const wanted = new Set(options.only?.split(',') ?? names)
for (const name of wanted)
  if (!names.includes(name as never)) throw new Error(`--only knows ${names.join(', ')}`)

await using releases = new AsyncDisposableStack()
const startedAt = performance.now()
const say = (text: string) =>
  console.log(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${text}`)
const [load = 0] = loadavg()
if (load > 1)
  say(`this machine is busy already (load ${load.toFixed(1)}): times will be longer than they need to be`)
const postgres = await startPostgres()
releases.defer(() => postgres.stop())
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    process.on('uncaughtException', () => undefined)
    void releases.disposeAsync().finally(() => process.exit(1))
  })

const { quick } = options
const rows: Row[] = []
const add = (found: Row[]) => {
  for (const { text } of found) say(text)
  rows.push(...found)
}
const realistic = { tokens: 8, everyMs: 200 }
const atOnce = { tokens: 8, everyMs: 0 }

if (wanted.has('arrival'))
  add(
    await arrive(postgres, [
      { name: '5 a second', events: quick ? 25 : 150, perSecond: 5, pace: { tokens: 5, everyMs: 200 } },
      { name: '2 a second', events: quick ? 10 : 60, perSecond: 2, pace: realistic },
      { name: 'a burst', events: quick ? 50 : 200, perSecond: 0, pace: realistic },
    ]),
  )
const events = Number(options.events ?? (quick ? 1_000 : 10_000))
const shared = {
  events,
  beforeMs: quick ? 10_000 : 30_000,
  heard: !options.unheard,
  profile: options.profile,
  say,
}
if (wanted.has('flood'))
  add(await flood(postgres, { ...shared, pace: realistic, watchMs: quick ? 20_000 : 120_000 }))
if (wanted.has('quick-flood'))
  add(await flood(postgres, { ...shared, pace: atOnce, watchMs: quick ? 20_000 : 180_000 }))
report(rows)
if (options.record) record(rows, quick)
