/** What has to be true after a kill, told from what the clients saw and from what is stored. */
import { answer } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Client } from '../support/client.ts'
import { difference } from './cuts.ts'
import type { Stream } from './kills.ts'
import type { Ledger } from './ledger.ts'
import { createReading, type Reading } from './reading.ts'
import { isTerminal, type Ending, type TimedFrame, type Viewing } from './viewing.ts'
import type { World } from './world.ts'

/** What was shown for longer than this before the kill is stored. */
const lossMs = 250
/** A killed process is seen as such after 30 s, and looked for every 5 s. */
const settledMs = 45_000

export interface Judged {
  stream: Stream
  endingOfSent: Ending
  /** Of the client that had sent, at the kill. */
  shown: { text: string }
  /** Of the same client, after it went on elsewhere. */
  reading: Reading
  resumed: Viewing | undefined
  /** Of who came back when all was over. */
  late: Reading | undefined
  retried: Viewing
  standby: Viewing | undefined
  wrong: string[]
}

interface Case {
  world: World
  ledger: Ledger
  caseNumber: number
  client: Client
  killedAt: number
  judged: readonly Judged[]
  patience: number
}

interface Stored extends Record<string, unknown> {
  id: string
  sender_type: 'user' | 'assistant'
  content: string
  status: string
}

export async function judgeCase(of: Case): Promise<void> {
  for (const judged of of.judged) await judgeStream(of, judged)
  const { world, ledger, caseNumber, client, killedAt, patience } = of
  const user = `kills-${caseNumber}`
  for (const { settled_at } of await world.sql<{ settled_at: Date }>`
    select settled_at from chat.generations
    where user_id = ${user} and status = 'interrupted' and survived_seq is not null`)
    ledger.time('settled after the kill', caseNumber, settled_at.getTime() - killedAt, settledMs * patience)

  for (const { stream } of of.judged) {
    const next = world.script(`${stream.name}-next`, answer(['on', ' we', ' go']))
    const sent = await client.post<{ assistant_message?: Message }>(
      `/conversations/${stream.conversationId}/messages`,
      { content: next.content },
    )
    const { content } = sent.body.assistant_message ?? {}
    ledger.check(
      'the next send works',
      caseNumber,
      sent.status === 200 && content === 'on we go',
      () => `${sent.status} ${JSON.stringify(sent.body)}`,
    )
  }
  const [twice] = await world.sql<{ answers: number; usage: number; running: number }>`
    select
      (select count(*)::int from (select 1 from chat.messages where user_id = ${user} and sender_type = 'assistant'
        group by conversation_id, parent_message_id having count(*) > 1) a) as answers,
      (select count(*)::int from (select 1 from chat.usage_tracking where user_id = ${user}
        group by generation_id having count(*) > 1) u) as usage,
      (select count(*)::int from chat.generations where user_id = ${user} and status = 'running') as running`
  ledger.check(
    'no row twice, nothing left running',
    caseNumber,
    Object.values(twice ?? {}).every((n) => n === 0),
    () => JSON.stringify(twice),
  )
}

async function judgeStream(
  { world, ledger, caseNumber, killedAt, patience }: Case,
  { stream, endingOfSent, shown, reading, resumed, late, retried, standby, wrong }: Judged,
): Promise<void> {
  const check = (property: string, holds: boolean, detail?: () => string) =>
    ledger.check(
      property,
      caseNumber,
      holds,
      () => `${stream.name}: ${detail?.() ?? ''}\n${reading.history()}`,
    )
  const rows = await world.sql<Stored>`
    select id, sender_type, content, status from chat.messages
    where conversation_id = ${stream.conversationId} order by id`
  const questions = rows.filter(({ sender_type }) => sender_type === 'user')
  const [stored, ...more] = rows.filter(({ sender_type }) => sender_type === 'assistant')
  const { frames } = stream.sent

  check('a cut stream ended by the kill', endingOfSent !== 'late', () => endingOfSent)
  const acknowledged = frames.some(({ data }) => data.type === 'user_message')
  if (acknowledged)
    check(
      'no acknowledged question lost',
      questions.some(({ content }) => content === stream.body.content),
    )
  check('one question, one answer', questions.length === 1 && more.length === 0, () => JSON.stringify(rows))
  check('never a second upstream call', stream.script.calls() <= 1, () => `${stream.script.calls()} calls`)
  if (stored === undefined) {
    check('an answer is stored', false)
    return
  }
  check('nothing is streaming any more', stored.status !== 'streaming', () => stored.status)
  check('stored text is what the upstream said', stream.whole.startsWith(stored.content), () =>
    difference(stored.content, stream.whole),
  )
  const terminal = frames.find(isTerminal)
  if (terminal !== undefined) {
    const message = terminal.data['message'] as Message
    check(
      'what a terminal frame said is stored',
      message.content === stored.content && message.status === stored.status,
      () => `${message.status} told, ${stored.status} stored; ${difference(stored.content, message.content)}`,
    )
    if (terminal.data.type === 'complete')
      check('complete text byte-equal', stored.content === stream.whole, () =>
        difference(stored.content, stream.whole),
      )
  } else if (acknowledged) {
    const lost = lossOf(frames, stored.content, killedAt)
    ledger.time('age of the oldest lost text at the kill', caseNumber, lost, lossMs * patience)
    check('shown text begins as the stored one', agree(shown.text, stored.content))
  }

  check('frames as the contract has them', wrong.length === 0, () => wrong.join('\n'))
  if (resumed !== undefined) {
    const count = reading.terminals().length
    check(
      'a resumed viewer gets one terminal frame',
      count === 1 && (await resumed.ended) === 'whole',
      () => `${count}`,
    )
    check('a resumed viewer ends with the stored text', reading.state().text === stored.content, () =>
      difference(reading.state().text, stored.content),
    )
  }
  if (late !== undefined)
    check(
      'who comes back late ends with the stored text',
      late.terminals().length === 1 && late.state().text === stored.content,
      () => `${difference(late.state().text, stored.content)}\n${late.history()}`,
    )
  for (const viewing of [resumed, standby, retried]) {
    const told = viewing?.frames.find(isTerminal)
    // A question that was never stored is answered anew: that takes as long as it takes.
    if (told?.data.type === 'error')
      ledger.time(
        'a viewer elsewhere is told, after the kill',
        caseNumber,
        told.at - killedAt,
        settledMs * patience,
      )
  }
  for (const [who, viewing] of [
    ['a standby viewer', standby],
    ['a retry', retried],
  ] as const) {
    if (viewing === undefined) continue
    const replayed = createReading()
    replayed.begin(viewing === standby ? 'no cursor' : 'send')
    const faults = [...viewing.faults, ...replayed.take(viewing.frames)]
    const { length } = replayed.terminals()
    const { status } = await viewing.answered
    const ending = await viewing.ended
    check(
      `${who} gets one terminal frame`,
      status === 200 && length === 1 && ending === 'whole' && faults.length === 0,
      () =>
        [`${status} ${ending}, ${length} terminal frames`, viewing.text().slice(-500), ...faults].join('\n'),
    )
    check(
      `${who} ends with the stored text`,
      replayed.state().text === stored.content,
      () => `${difference(replayed.state().text, stored.content)}\n${replayed.history()}`,
    )
  }
}

/** How long before the kill the oldest text was received that is not stored, ms; 0 where nothing was lost. */
export function lossOf(frames: readonly TimedFrame[], stored: string, killedAt: number): number {
  let text = ''
  for (const { data, at } of frames) {
    if (data.type !== 'assistant_chunk') continue
    text += String(data['content'])
    if (text.length > stored.length || !stored.startsWith(text)) return Math.max(0, killedAt - at)
  }
  return 0
}

const agree = (one: string, other: string) => one.startsWith(other) || other.startsWith(one)
