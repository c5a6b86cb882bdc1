/**
 * The story of an assessment: somebody has finished a test, other services tell of it, and an adviser gets ready while
 * they watch; then they ask it something. The archive that has the results is the demo's own, and so is the model.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Conversation } from '../conversations/schemas.ts'
import { startDemoArchive } from '../embedded/demo-archive.ts'
import { DEMO_MODEL_ID, startDemoModel } from '../embedded/demo-model.ts'
import type { Message } from '../messages/schemas.ts'
import type { Notification } from '../notifications/schemas.ts'
import { printAnswer } from './demo-answer.ts'
import { openDemoBroker, type DemoBroker } from './demo-broker.ts'
import { createBrokerTeller, createHttpTeller, eventOf, type Teller } from './demo-events.ts'
import { openDemoInbox, type DemoInbox } from './demo-inbox.ts'
import { startDemo, user, type DemoStage } from './demo-start.ts'
import { bar, dim, heading } from './demo-text.ts'

/** Its results are made from this, and always the same. */
const assessmentId = 'demo-2'
/** As a quick model of today writes. */
const pace = { firstTokenDelayMs: 250, tokenDelayMs: 15 }
/** Between two events, ms: so that each of them is seen. */
const betweenMs = 400
const lookEveryMs = 20
/** The archive is asked, and one transaction is made: tens of ms; longer than anything here takes on a slow machine. */
const adviserWithinMs = 30_000
const again = 3

export async function playAssessment(signal: AbortSignal): Promise<void> {
  await using releases = new AsyncDisposableStack()
  const serviceKey = randomBytes(32).toString('hex')
  const model = await startDemoModel(pace)
  releases.defer(() => model.close())
  const archive = await startDemoArchive({ serviceKey, generate: true })
  releases.defer(() => archive.close())
  const broker = await openDemoBroker(releases, signal)
  console.log(dim(entranceOf(broker)))
  const stage = await startDemo(releases, signal, {
    OPENROUTER_BASE_URL: model.baseUrl,
    DEFAULT_MODEL: DEMO_MODEL_ID,
    ARCHIVE_SERVICE_URL: archive.baseUrl,
    INTERNAL_SERVICE_KEY: serviceKey,
    ...('url' in broker && configOf(broker)),
  })
  const teller =
    'url' in broker ? await createBrokerTeller(stage, broker, signal) : createHttpTeller(stage, serviceKey)

  heading(`${user} connects a WebSocket`)
  const openedAt = performance.now()
  const inbox = openDemoInbox(stage, signal)
  releases.defer(() => inbox.close())
  await inbox.live()
  console.log(`live, with a ticket of one use   ${dim(msSince(openedAt))}`)

  heading(`The assessment of ${user} is finished; the inbox moves forward`)
  const pause = () => delay(betweenMs, undefined, { signal })
  await tellAndShow(teller, inbox, 'assessment_submitted', 0)
  await pause()
  await tellAndShow(teller, inbox, 'analysis_started', 25)
  await pause()
  const { event, toldAt } = await tellAndShow(teller, inbox, 'analysis_complete', 50)

  const { conversation, welcome } = await findAdviser(stage, signal)
  heading('A conversation is made, with the results from the archive')
  const { requests } = archive
  console.log(`“${conversation.title}” · ${conversation.id}   ${dim(`${msSince(toldAt)} after the event`)}`)
  console.log(dim(`questions to the archive: ${requests.length} · ${resultsIn(conversation)}`))

  heading('The adviser’s welcome, as it is written')
  const messages = `/conversations/${conversation.id}/messages`
  await printAnswer(stage.client.stream(`${messages}/${welcome.id}/stream`), toldAt, 'after the event')

  heading('The adviser is ready')
  showArrival(await inbox.progressBehind(75), toldAt)

  heading('What may be asked next')
  const { suggestions } = await stage.client.call<{ suggestions: string[] }>(
    'GET',
    `/conversations/${conversation.id}/suggestions`,
  )
  console.log(suggestions.map((question, index) => `${index + 1}. ${question}`).join('\n'))

  const [question = ''] = suggestions
  heading(`${user}: ${question}`)
  await printAnswer(stage.client.stream(messages, { content: question }))

  heading(`The same event, ${again} times more`)
  const counted = async () =>
    [
      ...(await count(stage, conversation.id)),
      `${inbox.arrived()} steps on the socket`,
      `${model.requests.length} calls of the model, ${archive.requests.length} of the archive`,
    ].join(', ')
  const before = await counted()
  for (let nth = 0; nth < again; nth++) await teller.tell(event)
  await teller.settled()
  const after = await counted()
  if (before !== after) throw new Error(`it changed something: ${before} → ${after}`)
  console.log(`nothing has changed: ${after}`)
}

const configOf = ({ url, names }: DemoBroker) => ({
  RABBITMQ_URL: url,
  EXCHANGE_NAME: names.exchange,
  CHAT_QUEUE_NAME: names.queue,
  ROUTING_KEY: names.routingKey,
})

const entranceOf = (broker: DemoBroker | { why: string }) =>
  'url' in broker
    ? `Events come over RabbitMQ at ${broker.place}, which answers: exchange ${broker.names.exchange}, queue ${broker.names.queue}.`
    : `Events come over HTTP (POST /api/chat/internal/events). ${broker.why}.`

/** One event, and what it moves in the inbox. */
async function tellAndShow(
  teller: Teller,
  inbox: DemoInbox,
  type: Parameters<typeof eventOf>[0],
  from: number,
) {
  const event = eventOf(type, assessmentId)
  const toldAt = await teller.tell(event)
  showArrival(await inbox.progressBehind(from), toldAt)
  return { event, toldAt }
}

function showArrival(
  { notification, progress, atMs }: Awaited<ReturnType<DemoInbox['progressBehind']>>,
  toldAt: number,
) {
  const time = dim(`${Math.round(atMs - toldAt)} ms after the event`)
  console.log(`${bar(progress)}  ${notification.title}   ${time}`)
}

/** It is made when its results are there, in the background. */
async function findAdviser(
  { client }: DemoStage,
  signal: AbortSignal,
): Promise<{ conversation: Conversation; welcome: Message }> {
  const deadline = performance.now() + adviserWithinMs
  while (performance.now() < deadline) {
    const { conversation, messages = [] } = await client.call<Adviser>(
      'GET',
      `/assessment/${assessmentId}/conversation`,
    )
    const [welcome] = messages
    if (conversation !== undefined && welcome !== undefined) return { conversation, welcome }
    await delay(lookEveryMs, undefined, { signal })
  }
  throw new Error(`no conversation within ${adviserWithinMs / 1_000} s`)
}

interface Adviser {
  conversation?: Conversation
  messages?: Message[]
}

/** Its three highest interests. */
const resultsIn = ({ context_data }: Conversation) =>
  Object.entries(context_data['riasec'] ?? {})
    .map(([letter, score]) => ({ letter, score: Number(score) }))
    .sort((one, other) => other.score - one.score)
    .slice(0, 3)
    .map(({ letter, score }) => `${letter} ${score}`)
    .join(', ')

/** What an event may change. */
async function count({ client }: DemoStage, conversationId: string): Promise<string[]> {
  const { total } = await client.call<{ total: number }>('GET', '/conversations')
  const tree = await client.call<{ messages: unknown[] }>('GET', `/conversations/${conversationId}/tree`)
  const inbox = await client.call<{ notifications: Notification[] }>('GET', '/notifications')
  const rows = inbox.notifications.filter(({ type }) => type === 'assessment_progress')
  return [
    `${total} conversation`,
    `${tree.messages.length} messages`,
    `${rows.length} row of the inbox at ${rows.map(({ progress }) => progress ?? 0).join(', ')} %`,
  ]
}

const msSince = (moment: number) => `${Math.round(performance.now() - moment)} ms`
