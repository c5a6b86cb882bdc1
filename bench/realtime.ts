/**
 * `npm run bench:realtime`: what the socket costs and keeps, beside a socket.io server that does the same job.
 *
 * All in one run, on one machine: the servers, PostgreSQL, a process of clients that speaks to both, and this one, which
 * sends. `--only idle,targeted,broadcast,slow,herd,stop,kill,compare` picks (`compare` puts the figures of idle,
 * targeted and kill beside each other, and runs them); `--subjects rivulet` leaves out the others; `--quick` takes smaller crowds and says less; `--record` puts the
 * tables on top of RESULTS.md.
 *
 * Times "from the commit" begin when PostgreSQL begins to commit; see realtime/commits.ts. Ten thousand sockets need as
 * many open files in each of two processes: `ulimit -n 20000`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { broadcast, targeted } from './realtime/delivery.ts'
import { idle, slow } from './realtime/memory.ts'
import { ratios } from './realtime/ratios.ts'
import { herd, kill, stop } from './realtime/restarts.ts'
import type { Bench } from './realtime/stage.ts'
import { record, report, type Row } from './report.ts'
import { startPostgres } from './subjects.ts'

const names = ['idle', 'targeted', 'broadcast', 'slow', 'herd', 'stop', 'kill', 'compare'] as const

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
    only: { type: 'string' },
    subjects: { type: 'string' },
  },
})
const wanted = new Set(options.only?.split(',') ?? names)
for (const name of wanted)
  if (!names.includes(name as never)) throw new Error(`--only knows ${names.join(', ')}`)

if (!existsSync(join(import.meta.dirname, 'node_modules', 'socket.io'))) {
  console.log('installing what is compared with (bench/package.json) …')
  const { status } = spawnSync(
    'npm',
    ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'],
    { cwd: import.meta.dirname, stdio: 'inherit' },
  )
  if (status !== 0) throw new Error('npm ci in bench/ failed')
}

await using releases = new AsyncDisposableStack()
const startedAt = performance.now()
const say = (text: string) =>
  console.log(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${text}`)

const [load = 0] = loadavg()
if (load > 1)
  say(`this machine is busy already (load ${load.toFixed(1)}): times will be longer than they need to be`)
say('starting PostgreSQL')
const postgres = await startPostgres()
releases.defer(() => postgres.stop())
// Whoever is told to end takes PostgreSQL along; what is under way then fails, and is nobody's concern any more.
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    process.on('uncaughtException', () => undefined)
    void releases.disposeAsync().finally(() => process.exit(1))
  })
const bench: Bench = {
  postgres,
  quick: options.quick,
  say,
  measures: ({ name }) => options.subjects?.split(',').includes(name) ?? true,
}

const rows: Row[] = []
const add = (found: Row[]) => {
  for (const { text } of found) say(text)
  rows.push(...found)
}
const compares = wanted.has('compare')
const sockets = wanted.has('idle') || compares ? await idle(bench) : undefined
if (sockets !== undefined) add(sockets.rows)
const events = wanted.has('targeted') || compares ? await targeted(bench) : undefined
if (events !== undefined) add(events.rows)
if (wanted.has('broadcast')) add(await broadcast(bench))
if (wanted.has('slow')) add(await slow(bench))
if (wanted.has('herd')) add(await herd(bench))
if (wanted.has('stop')) add(await stop(bench))
const kills = wanted.has('kill') || compares ? await kill(bench) : undefined
if (kills !== undefined) add(kills.rows)
if (sockets !== undefined && events !== undefined && kills !== undefined)
  add(ratios(sockets.bytesPerSocket, events.cpuUsPerEvent, kills.missing))
report(rows)
if (options.record) record(rows, options.quick)
