/**
 * `npm run bench`: what a streamed token costs here, beside what it costs elsewhere.
 *
 * All in one run, on one machine, against the same scripted upstream: this service with everything stored; a bare
 * Fastify + openai SDK loop; the AI SDK; a byte pipe; and the upstream itself. Rounds rotate through them, and every
 * figure is the median of its rounds. `--quick` takes less than a minute and says less; `--only burst,paced` picks;
 * `--rounds 5`; `--profile <file>` writes this service's CPU profile of the last
 * round there; `--record` puts the table on top of RESULTS.md.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startClients } from './processes.ts'
import { record, report, type Row } from './report.ts'
import * as scenarios from './scenarios.ts'
import { direct, startPeer, startPostgres, startRivulet } from './subjects.ts'
import { startServer } from './processes.ts'

const names = ['burst', 'paced', 'crowd', 'viewers', 'statements', 'stalled', 'drops'] as const

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
    profile: { type: 'string' },
    peers: { type: 'string', default: 'bare,ai-sdk,pipe' },
  },
})
const wanted = new Set(options.only?.split(',') ?? names)
for (const name of wanted)
  if (!names.includes(name as never)) throw new Error(`--only knows ${names.join(', ')}`)

if (!existsSync(join(import.meta.dirname, 'node_modules'))) {
  console.log('installing what is compared with (bench/package.json) …')
  const { status } = spawnSync(
    'npm',
    ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'],
    {
      cwd: import.meta.dirname,
      stdio: 'inherit',
    },
  )
  if (status !== 0) throw new Error('npm ci in bench/ failed')
}

await using releases = new AsyncDisposableStack()
const startedAt = performance.now()
const say = (text: string) =>
  console.log(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${text}`)

say('starting PostgreSQL, the upstream, and the servers')
const postgres = await startPostgres()
releases.defer(() => postgres.stop())
const upstream = await startServer('upstream.ts', {})
releases.defer(() => upstream.stop())
const upstreamUrl = `http://127.0.0.1:${upstream.port}/api/v1`
const clients = await startClients()
releases.defer(() => clients.stop())
const rivulet = await startRivulet(postgres.url, upstreamUrl, { profile: options.profile })
releases.defer(() => rivulet.process.stop())
const peers = []
for (const name of options.peers.split(',').filter((name) => name !== '')) {
  const peer = await startPeer(name, upstreamUrl)
  releases.defer(() => peer.process.stop())
  peers.push(peer)
}

const bench: scenarios.Bench = {
  clients,
  postgres,
  upstreamUrl,
  rivulet,
  peers,
  direct: direct(upstream),
  quick: options.quick,
  rounds: Number(options.rounds ?? (options.quick ? 1 : 3)),
  say,
}
const rows: Row[] = []
for (const name of names) {
  if (!wanted.has(name)) continue
  const found = await scenarios[name](bench)
  for (const row of found) say(row.text)
  rows.push(...found)
}
report(rows)
if (options.record) record(rows, options.quick)
