/** What is done to the servers, and what is read off. Each returns rows for the table. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Seen } from './load.ts'
import type { Clients } from './processes.ts'
import type { Row } from './report.ts'
import { median } from './statistics.ts'
import { startRivulet, type Postgres, type Rivulet, type Subject } from './subjects.ts'

export interface Bench {
  clients: Clients
  postgres: Postgres
  upstreamUrl: string
  rivulet: Rivulet
  peers: Subject[]
  direct: Subject
  quick: boolean
  rounds: number
  say: (text: string) => void
}

interface Run {
  cpuUsPerToken: number
  postgresUsPerToken: number
  seen: Seen
}

interface Shape {
  streams: number
  turns: number
  tokens: number
  everyMs: number
  /** The streams begin spread over so long. */
  overMs: number
}

const prompt = ({ tokens, everyMs }: Shape) => `${tokens} tokens, ${everyMs} ms apart`

async function run(bench: Bench, subject: Subject, shape: Shape): Promise<Run> {
  const streams = await subject.prepare(shape.streams, shape.turns, prompt(shape))
  const before = await subject.process.used()
  const postgresBefore = bench.postgres.cpuUs()
  const { tokens, overMs } = shape
  const seen = await bench.clients.streams({ port: subject.process.port, streams, tokens, overMs })
  const after = await subject.process.used()
  const postgresUs = bench.postgres.cpuUs() - postgresBefore
  return {
    cpuUsPerToken: (after.cpuUs - before.cpuUs) / seen.tokens,
    postgresUsPerToken: postgresUs / seen.tokens,
    seen,
  }
}

const warmed = new WeakSet<Subject>()

async function warmUp(bench: Bench, subjects: Subject[]): Promise<void> {
  const shape = { streams: 40, turns: bench.quick ? 4 : 20, tokens: 100, everyMs: 0, overMs: 0 }
  for (const subject of subjects) {
    if (warmed.has(subject)) continue
    bench.say(`warming up: ${subject.name}`)
    await run(bench, subject, shape)
    warmed.add(subject)
  }
}

/** Every subject once a round, each round beginning with another one. Before, each has warmed up: servers live long. */
async function compare(bench: Bench, subjects: Subject[], shape: Shape): Promise<Map<string, Run[]>> {
  const runs = new Map(subjects.map(({ name }) => [name, [] as Run[]]))
  await warmUp(bench, subjects)
  for (let round = 0; round < bench.rounds; round++) {
    bench.say(`round ${round + 1} of ${bench.rounds}`)
    for (let index = 0; index < subjects.length; index++) {
      const subject = subjects[(round + index) % subjects.length]
      if (subject !== undefined) runs.get(subject.name)?.push(await run(bench, subject, shape))
    }
  }
  return runs
}

const over = (runs: Run[], figure: (run: Run) => number) => median(runs.map(figure))
const number = (value: number) => (value >= 100 ? value.toFixed(0) : value.toFixed(1))

function compared(runs: Map<string, Run[]>, what: string): Row[] {
  const of = (name: string, figure: (run: Run) => number) => over(runs.get(name) ?? [], figure)
  const rows: Row[] = []
  for (const name of runs.keys()) {
    const cells = {
      'CPU µs/token': name === 'direct' ? '–' : number(of(name, ({ cpuUsPerToken }) => cpuUsPerToken)),
      'tokens/s': of(name, ({ seen }) => (seen.tokens / seen.elapsedMs) * 1000).toFixed(0),
      'first token p50': number(of(name, ({ seen }) => seen.firstTokenMs.p50)),
      p99: number(of(name, ({ seen }) => seen.firstTokenMs.p99)),
      'transit p50': number(of(name, ({ seen }) => seen.transitMs.p50)),
      'transit p99': number(of(name, ({ seen }) => seen.transitMs.p99)),
      // An overloaded server refuses some; whoever was let in gets all of it.
      'not whole': String(Math.max(...(runs.get(name) ?? []).map(({ seen }) => seen.broken))),
    }
    rows.push({ scenario: what, subject: name, cells, text: `${what} · ${name}: ${JSON.stringify(cells)}` })
  }
  const ratio = (peer: string) =>
    median(
      (runs.get('rivulet') ?? []).map(
        ({ cpuUsPerToken }, round) => cpuUsPerToken / (runs.get(peer)?.[round]?.cpuUsPerToken ?? NaN),
      ),
    ).toFixed(2)
  const later = (figure: (run: Run) => number) => number(of('rivulet', figure) - of('direct', figure))
  rows.push({
    scenario: what,
    subject: 'ratios',
    cells: {
      'CPU / bare': ratio('bare'),
      'CPU / AI SDK': ratio('ai-sdk'),
      'CPU / pipe': ratio('pipe'),
      'first token later, ms p50': later(({ seen }) => seen.firstTokenMs.p50),
      p99: later(({ seen }) => seen.firstTokenMs.p99),
      'PostgreSQL µs/token': number(of('rivulet', ({ postgresUsPerToken }) => postgresUsPerToken)),
    },
    text: `${what}: CPU ${ratio('bare')} × bare, ${ratio('ai-sdk')} × AI SDK; first token ${later(({ seen }) => seen.firstTokenMs.p50)} / ${later(({ seen }) => seen.firstTokenMs.p99)} ms later (p50 / p99)`,
  })
  return rows
}

function subjects(bench: Bench): Subject[] {
  return [bench.direct, bench.rivulet, ...bench.peers]
}

/** 200 tokens as fast as they come, 40 streams at once. */
export async function burst(bench: Bench): Promise<Row[]> {
  bench.say('burst: 40 streams, 200 tokens at once')
  const shape = { streams: 40, turns: bench.quick ? 3 : 15, tokens: 200, everyMs: 0, overMs: 0 }
  return compared(await compare(bench, subjects(bench), shape), 'burst of 200 tokens, 40 streams')
}

/** 100 tokens 10 ms apart, 40 streams that do not begin at the same moment. */
export async function paced(bench: Bench): Promise<Row[]> {
  bench.say('paced: 40 streams, 100 tokens 10 ms apart')
  const shape = { streams: 40, turns: bench.quick ? 1 : 5, tokens: 100, everyMs: 10, overMs: 1_000 }
  return compared(await compare(bench, subjects(bench), shape), '100 tokens at 10 ms, 40 streams')
}

/** Many streams at 20 tokens a second each: how many can be watched as they are said, on this machine? */
export async function crowd(bench: Bench): Promise<Row[]> {
  const bare = bench.peers.filter(({ name }) => name === 'bare')
  const rows: Row[] = []
  for (const streams of bench.quick ? [200] : [250, 500, 1_000]) {
    bench.say(`crowd: ${streams} streams, 20 tokens a second each`)
    const shape = {
      streams,
      turns: 1,
      tokens: bench.quick ? 40 : 300,
      everyMs: 50,
      overMs: bench.quick ? 1_000 : 10_000,
    }
    const chosen = [bench.direct, bench.rivulet, ...bare]
    rows.push(
      ...compared(await compare({ ...bench, rounds: 1 }, chosen, shape), `${streams} streams, 20 tokens/s`),
    )
  }
  return rows
}

/** Viewers of one answer, all at once. */
export async function viewers(bench: Bench): Promise<Row[]> {
  const count = bench.quick ? 200 : 1_000
  const tokens = bench.quick ? 60 : 200
  bench.say(`viewers: ${count} of one answer, 20 tokens a second`)
  const sent = await bench.rivulet.begin(`${tokens} tokens, 50 ms apart`)
  const { process } = bench.rivulet
  const before = await process.used()
  const streams = Array.from({ length: count }, () => [sent])
  const seen = await bench.clients.streams({ port: process.port, streams, tokens, overMs: 0, late: true })
  const after = await process.used()
  if (seen.broken > 0) throw new Error(`${seen.broken} of ${seen.responses} viewers did not get all of it`)
  return [
    row(`${count} viewers of one answer at 20 tokens/s`, {
      'CPU µs/token and viewer': number((after.cpuUs - before.cpuUs) / seen.tokens),
      'transit p50, ms': number(seen.transitMs.p50),
      p99: number(seen.transitMs.p99),
      'MB more': megabytes(after.rssBytes - before.rssBytes),
    }),
  ]
}

/** Statements while nothing begins or ends: the journal's, however many answers run. */
export async function statements(bench: Bench): Promise<Row[]> {
  bench.say('statements: transactions per second while answers run')
  const cells: Record<string, string> = {}
  for (const streams of bench.quick ? [10, 100] : [10, 100, 1_000]) {
    const seconds = bench.quick ? 4 : 14
    const running = run(bench, bench.rivulet, {
      streams,
      turns: 1,
      tokens: 20 * seconds,
      everyMs: 50,
      overMs: 0,
    })
    // Behind the last beginning, before the first end.
    await delay(bench.quick ? 1_500 : 8_000)
    const before = await bench.postgres.transactions()
    await delay(2_000)
    const after = await bench.postgres.transactions()
    await running
    cells[`${streams} running`] = number((after - before) / 2)
  }
  return [row('Writing transactions a second, while answers run', cells)]
}

/** Readers that stop reading: what do they cost the process? */
export async function stalled(bench: Bench): Promise<Row[]> {
  const tokens = bench.quick ? 1_000 : 20_000
  bench.say(`stalled: 100 readers of ${tokens} tokens who read nothing`)
  const rivulet = await startRivulet(bench.postgres.url, bench.upstreamUrl, { args: ['--expose-gc'] })
  try {
    // What an idle process holds, after its code has been used once.
    await run(bench, rivulet, { streams: 40, turns: 5, tokens: 200, everyMs: 0, overMs: 0 })
    const before = await rivulet.process.used()
    const sent = await rivulet.begin(`${tokens} tokens, 1 ms apart`)
    const { port } = rivulet.process
    const open = await bench.clients.stall({ port, requests: Array.from({ length: 100 }, () => sent) })
    if (open !== 100) throw new Error(`only ${open} of 100 readers were let in`)
    // Behind this one the answer has ended.
    await bench.clients.streams({ port, streams: [[sent]], tokens, overMs: 0, late: true })
    const after = await rivulet.process.used()
    await bench.clients.release()
    return [
      row(`100 stalled readers of a ${tokens}-token answer`, {
        'MB over idle': megabytes(after.rssBytes - before.rssBytes),
        'heap, MB over idle': megabytes(after.heapBytes - before.heapBytes),
        'buffers, MB over idle': megabytes(after.externalBytes - before.externalBytes),
      }),
    ]
  } finally {
    await rivulet.process.stop()
  }
}

/** Clients that connect and leave, over and over: does anything stay? */
export async function drops(bench: Bench): Promise<Row[]> {
  const rounds = 5
  const times = bench.quick ? 200 : 10_000
  bench.say(`drops: ${rounds} × ${times} clients who connect and leave`)
  const rivulet = await startRivulet(bench.postgres.url, bench.upstreamUrl, { args: ['--expose-gc'] })
  try {
    const cells: Record<string, string> = {}
    for (let round = 1; round <= rounds; round++) {
      // One that runs for as long as the round does.
      const request = await rivulet.begin('5000 tokens, 100 ms apart')
      const answered = await bench.clients.drop({ port: rivulet.process.port, request, times, atOnce: 20 })
      if (answered !== times) throw new Error(`${times - answered} of ${times} clients got no answer`)
      await delay(bench.quick ? 200 : 1_000)
      const { rssBytes, heapBytes } = await rivulet.process.used()
      cells[`after ${round * times}`] = `${megabytes(rssBytes)} (heap ${megabytes(heapBytes)})`
      bench.say(`after ${round * times}: ${megabytes(rssBytes)} MB`)
    }
    return [row('MB held after clients who connected and left', cells)]
  } finally {
    await rivulet.process.stop()
  }
}

const megabytes = (bytes: number) => (bytes / 1024 / 1024).toFixed(1)

const row = (scenario: string, cells: Record<string, string>): Row => ({
  scenario,
  subject: 'rivulet',
  cells,
  text: `${scenario}: ${JSON.stringify(cells)}`,
})
