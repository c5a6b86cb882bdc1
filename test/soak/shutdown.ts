/**
 * SIGTERM to the process that `npm start` is, with fifty streams running: each viewer is told how its answer ended, the
 * process ends in order, and its next start finds what was told.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { answer } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { basePath } from '../support/client.ts'
import { difference } from './cuts.ts'
import type { Ledger } from './ledger.ts'
import { runCases, type Part } from './part.ts'
import { randomOf, tokensOf, type Random } from './random.ts'
import { createReading } from './reading.ts'
import { createHome, type Home } from './home.ts'
import { viewPatiently, type Viewing } from './viewing.ts'
import type { Instance, Script, World } from './world.ts'

const streamsAtOnce = 50
const streamsPerUser = 5
const exitMs = 30_000
const viewingMs = 90_000

interface Stream {
  user: string
  conversationId: string
  whole: string
  script: Script
  viewing: Viewing
}

export const shutdown: Part = async (world, orders) => {
  const graceMs = orders.quick ? 1_000 : undefined
  const home = await createHome(world, graceMs)
  orders.releases.add(home.close)
  /** What the terminal frames said, by message: a later start has to say the same. */
  let told: { user: string; message: Message }[] = []
  try {
    const ledger = await runCases('shutdown', orders, 1, async (caseNumber, found) => {
      const random = randomOf(orders.seed, 'shutdown', caseNumber)
      const instance = await home.start()
      await compare(world, found, caseNumber, instance, told)
      told = await round({ world, home, ledger: found, caseNumber, random, instance, ...orders })
      return 1
    })
    const instance = await home.start()
    await compare(world, ledger, orders.only ?? orders.count, instance, told)
    await home.stop()
    return ledger
  } finally {
    await home.close()
    orders.releases.delete(home.close)
  }
}

async function round(of: {
  world: World
  home: Home
  ledger: Ledger
  caseNumber: number
  random: Random
  instance: Instance
  quick: boolean
}): Promise<{ user: string; message: Message }[]> {
  const { world, home, ledger, caseNumber, random, instance, quick } = of
  const streams = await Promise.all(
    Array.from({ length: streamsAtOnce }, async (_, index): Promise<Stream> => {
      const user = `shutdown-${caseNumber}-${Math.floor(index / streamsPerUser)}`
      const tokens = tokensOf(random, 200)
      // From answers that end within the grace to those that would run for a minute.
      const perTokenMs = random.pick(quick ? [2, 10, 300] : [10, 40, 300])
      const script = world.script(
        `shutdown-${caseNumber}-${index}`,
        answer(tokens, { perTokenMs, delayMs: random.int(0, 500) }),
      )
      const client = await world.client(instance, user)
      const conversationId = await client.conversation()
      const viewing = await viewPatiently(
        {
          origin: instance.origin,
          token: client.token ?? '',
          path: `${basePath}/conversations/${conversationId}/messages`,
          body: { content: script.content },
          withinMs: viewingMs,
        },
        ledger,
      )
      return { user, conversationId, whole: tokens.join(''), script, viewing }
    }),
  )
  await Promise.all(
    streams.map(({ viewing }) => viewing.until(({ data }) => data.type === 'assistant_start')),
  )
  await delay(random.int(0, 1_000))
  const asked = Date.now()
  const code = await home.stop()
  ledger.time('from SIGTERM to the exit', caseNumber, Date.now() - asked, exitMs)
  ledger.check('exit code 0', caseNumber, code === 0, () => String(code))
  const told = await Promise.all(streams.map((stream) => judge(ledger, caseNumber, stream)))
  return told.filter((one) => one !== undefined)
}

async function judge(
  ledger: Ledger,
  caseNumber: number,
  { user, whole, script, viewing }: Stream,
): Promise<{ user: string; message: Message } | undefined> {
  const ending = await viewing.ended
  const reading = createReading()
  reading.begin('send')
  const wrong = [...viewing.faults, ...reading.take(viewing.frames)]
  const [terminal, ...more] = reading.terminals()
  const { text } = reading.state()
  const sound = ending === 'whole' && terminal !== undefined && more.length === 0 && wrong.length === 0
  const check = (property: string, holds: boolean, detail: () => string) =>
    ledger.check(property, caseNumber, holds, () => `${script.content}: ${detail()}\n${reading.history()}`)
  check('each stream gets one terminal frame', sound, () =>
    [ending, viewing.text().slice(-300), ...wrong].join('\n'),
  )
  const asked = await script.request
  check('no upstream is left open', !asked.open, () => 'still open')
  if (terminal === undefined) return undefined
  const message = terminal.data['message'] as Message
  check('its message is what was shown', message.content === text && whole.startsWith(text), () =>
    difference(message.content, text),
  )
  if (terminal.data.type === 'complete') {
    ledger.note('answers that finished within the grace')
    check('a complete answer is whole', text === whole, () => difference(text, whole))
  } else {
    ledger.note('answers that were interrupted')
    const { code } = terminal.data['error'] as { code: string }
    check(
      'the others are interrupted by the stop',
      code === 'shutting_down' && message.status === 'interrupted',
      () => `${code} ${message.status}`,
    )
  }
  return { user, message }
}

async function compare(
  world: World,
  ledger: Ledger,
  caseNumber: number,
  instance: Instance,
  told: readonly { user: string; message: Message }[],
): Promise<void> {
  for (const { user, message } of told) {
    const client = await world.client(instance, user)
    const read = await client.get<Message>(`/conversations/${message.conversation_id}/messages/${message.id}`)
    ledger.check(
      'the next start finds what was told',
      caseNumber,
      read.body.content === message.content && read.body.status === message.status,
      () => `${message.status} told, ${JSON.stringify(read.body).slice(0, 300)} found`,
    )
  }
}
