/** The story of an assessment as `npm run demo -- assessment` plays it: a process of its own, to its end or cut short. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { connect } from 'amqplib'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { topologyOf } from '../../src/broker/topology.ts'
import { hasRabbit, rabbitUrl } from '../support/rabbitmq.ts'

const program = join(import.meta.dirname, '../../src/playground/demo.ts')
/** A database is made, and two answers are written at a readable pace: a dozen seconds, and more beside other tests. */
const storyMs = 90_000
const withRabbit = await hasRabbit()

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'rivulet-demo-test-'))
  // The database of root runs as somebody else, who passes through.
  await chmod(home, 0o755)
})
afterEach(() => rm(home, { recursive: true, force: true }))

interface Played {
  child: ChildProcess
  /** What it has told so far. */
  told: () => string
  /** Resolves when it has told this. */
  until: (line: RegExp) => Promise<void>
  ended: Promise<{ code: number | null; told: string; complaints: string }>
}

function play(args: readonly string[], broker: string): Played {
  const child = spawn(process.execPath, [program, ...args], {
    // Of the working directory it would read an .env.
    cwd: home,
    env: { ...process.env, FORCE_COLOR: undefined, TMPDIR: home, RABBITMQ_URL: broker },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let told = ''
  const exited = once(child, 'close') as Promise<[number | null]>
  child.stdout.setEncoding('utf8').on('data', (piece: string) => (told += piece))
  const complaints = text(child.stderr)
  onTestFinished(async () => {
    child.kill('SIGINT')
    await exited
  })
  return {
    child,
    told: () => told,
    until: (line) => expect.poll(() => told, { timeout: storyMs, interval: 10 }).toMatch(line),
    ended: exited.then(async ([code]) => ({ code, told, complaints: await complaints })),
  }
}

/** Each of them is told, behind the one before it. */
function expectInOrder(told: string, lines: readonly RegExp[]): void {
  let rest = told
  for (const line of lines) {
    expect(rest).toMatch(line)
    rest = rest.slice(rest.search(line) + 1)
  }
}

const story = (entrance: RegExp) => [
  entrance,
  /^Rivulet listens on http/m,
  /^demo connects a WebSocket$/m,
  /^live,/m,
  /^█{5}░{15}  25 %  .* \d+ ms after the event$/m,
  /^█{10}░{10}  50 %  .* \d+ ms after the event$/m,
  /^█{15}░{5}  75 %  .* \d+ ms after the event$/m,
  /^A conversation is made/m,
  /^“Your assessment results” · [0-9a-f-]{36} {3}\d+ ms after the event$/m,
  /^questions to the archive: 1 ·/m,
  /^The adviser’s welcome/m,
  /\*\*Artistic\*\* \(88\)/,
  /^first token \d+ ms after the event · .* tokens · cost/m,
  /^█{20} 100 %  .* \d+ ms after the event$/m,
  /^What may be asked next$/m,
  /^1\. .+\?$/m,
  /^demo: .+\?$/m,
  /^first token after \d+ ms · \d+ frames .* tokens · cost/m,
  /^nothing has changed: 1 conversation, 3 messages, 1 row of the inbox at 100 %, 4 steps on the socket, 2 calls of the model, 1 of the archive$/m,
  /^Everything is stopped and removed\./m,
]

describe('the story of an assessment', { timeout: storyMs }, () => {
  it.skipIf(!withRabbit)('is told over RabbitMQ where one answers, and leaves nothing behind', async () => {
    const { code, told, complaints } = await play(['assessment'], rabbitUrl).ended
    expect({ code, complaints }).toEqual({ code: 0, complaints: '' })
    expectInOrder(told, story(/^Events come over RabbitMQ at /m))
    await expectNothingLeft(told)
  })

  it('is told over HTTP where no RabbitMQ answers, says why, and is plain where nobody looks', async () => {
    const port = await closedPort()
    const { code, told, complaints } = await play(['assessment'], `amqp://ann:s3cret@127.0.0.1:${port}`).ended
    expect({ code, complaints }).toEqual({ code: 0, complaints: '' })
    expectInOrder(
      told,
      story(/^Events come over HTTP .* RabbitMQ at 127\.0\.0\.1:\d+: nothing listens there\.$/m),
    )
    expect(told).not.toContain('s3cret')
    expect(told).not.toContain('\u001b')
    await expectNothingLeft(told)
  })

  it.skipIf(!withRabbit).each([
    ['while its database is being made', /^preparing the database/m],
    ['while the service connects', /^Rivulet listens/m],
    ['between two events', / 50 % /],
    ['while the welcome is written', /welcome! /],
  ])('is ended by SIGINT %s, and leaves nothing behind', async (_, line) => {
    const played = play(['assessment'], rabbitUrl)
    await played.until(line)
    played.child.kill('SIGINT')
    const { code, told, complaints } = await played.ended
    expect({ code, complaints }).toEqual({ code: 130, complaints: '' })
    expect(told).toMatch(/^Interrupted: everything is stopped and removed\.$/m)
    expect(told).not.toMatch(/^nothing has changed/m)
    await expectNothingLeft(told)
  })
})

it('is ended when nobody reads it any more, and leaves nothing behind', { timeout: storyMs }, async () => {
  const played = play(['assessment'], rabbitUrl)
  await played.until(/ 25 % /)
  played.child.stdout?.destroy()
  const { code, told, complaints } = await played.ended
  expect({ code, complaints }).toEqual({ code: 141, complaints: '' })
  await expectNothingLeft(told)
})

it.each([[['tragedy']], [['constructor']], [['assessment', 'chat']]])(
  'a story that there is not (%j) is refused in one line that says which there are',
  async (args) => {
    const { code, told, complaints } = await play(args, rabbitUrl).ended
    expect({ code, told }).toEqual({ code: 2, told: '' })
    expect(complaints).toBe(`There is no story called "${args.join(' ')}". There are: chat, assessment.\n`)
  },
)

/** Neither a file, nor a process, nor a queue. */
async function expectNothingLeft(told: string): Promise<void> {
  expect(await readdir(home)).toEqual([])
  const ps = spawn('ps', ['-A', '-ww', '-o', 'args='])
  for await (const line of createInterface(ps.stdout)) expect(line).not.toContain(home)
  const [, exchange, queue] = /exchange (\S+), queue (\S+)\.$/m.exec(told) ?? []
  if (exchange === undefined || queue === undefined) return
  const topology = topologyOf({ exchange, queue, routingKey: 'chat.events' })
  const { delays, deadQueue, deadExchange } = topology
  for (const name of [queue, deadQueue, ...delays.map((delay) => delay.queue)])
    expect(await isThere(name, 'queue'), name).toBe(false)
  for (const name of [exchange, deadExchange]) expect(await isThere(name, 'exchange'), name).toBe(false)
}

async function isThere(name: string, kind: 'queue' | 'exchange'): Promise<boolean> {
  const model = await connect(rabbitUrl)
  try {
    const channel = await model.createChannel()
    channel.on('error', () => undefined)
    await (kind === 'queue' ? channel.checkQueue(name) : channel.checkExchange(name))
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 404) return false
    throw error
  } finally {
    await model.close()
  }
}

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
