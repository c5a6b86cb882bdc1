/** The same over RabbitMQ: events in, events out, and what cannot be dealt with. Against the real broker. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startDemoArchive } from '../../src/embedded/demo-archive.ts'
import { pino } from 'pino'
import postgres from 'postgres'
import { redrive } from '../../src/broker/redrive.ts'
import { adviserOf, eventOf, inboxOf, results, tell, untilReady } from '../support/assessments.ts'
import { createClient, type Client } from '../support/client.ts'
import { eventually } from '../support/jobs.ts'
import { hasRabbit, ownNames, rabbitUrl, type OwnNames } from '../support/rabbitmq.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

describe.skipIf(!(await hasRabbit()))('over RabbitMQ', () => {
  let own: OwnNames
  let service: Service
  let ann: Client
  const open: (() => Promise<void>)[] = []

  beforeEach(async () => {
    own = await ownNames()
    open.push(() => own.delete())
    await start()
    await ready()
  })
  afterEach(async () => {
    for (const close of open.splice(0).toReversed()) await close()
  })

  async function start(env: Record<string, string> = {}): Promise<Service> {
    service = await startService({
      env: {
        RABBITMQ_URL: rabbitUrl,
        EXCHANGE_NAME: own.names.exchange,
        CHAT_QUEUE_NAME: own.names.queue,
        ...env,
      },
    })
    const started = service
    open.push(() => started.close())
    ann = await service.as('ann')
    return service
  }

  const health = async () =>
    (
      await service.anonymous.get<{
        status: string
        dependencies: { rabbitmq: { status: string; dead_letters?: number } }
      }>('/health')
    ).body
  const ready = () => eventually(async () => (await health()).dependencies.rabbitmq.status).toBe('up')
  const send = (...events: object[]) => own.send(...events.map((event) => JSON.stringify(event)))

  it('an event makes the adviser ready', async () => {
    await send(eventOf({ type: 'assessment_submitted' }), eventOf({ type: 'analysis_started' }), eventOf())
    await untilReady(ann)
    expect((await adviserOf(ann)).messages).toMatchObject([{ status: 'complete' }])
    await eventually(() => own.depth(own.topology.queue)).toBe(0)
  })

  it('an event is one, whichever ways it comes and however often', async () => {
    const event = eventOf({ event_id: 'e1' })
    const teller = createClient(service.origin, serviceKey)
    await Promise.all([
      ...Array.from({ length: 5 }, () => send(event)),
      ...Array.from({ length: 5 }, () => tell(teller, { event_id: 'e1' })),
    ])
    await untilReady(ann)
    await eventually(() => own.depth(own.topology.queue)).toBe(0)
    expect((await adviserOf(ann)).messages).toHaveLength(1)
    expect(await inboxOf(ann)).toHaveLength(1)
    expect(service.upstream.requests).toHaveLength(1)
    expect(await service.sql`select from chat.conversations`).toHaveLength(1)
  })

  it('what is poison lies among the dead letters, with why; what comes behind it is done', async () => {
    await send(eventOf({ user_id: 'bob', assessment_id: 'of bob', event_id: 'of bob' }))
    await untilReady(await service.as('bob'))
    const poison: [body: string | Buffer, reason: RegExp][] = [
      ['{"type":', /^not_json$/],
      ['[]', /^invalid_event: /],
      [JSON.stringify(eventOf({ user_id: 7 as never })), /^invalid_event: user_id/],
      [JSON.stringify(eventOf({ user_id: 'a\0b' })), /^invalid_event: user_id/],
      ['{"type":"analysis_complete","user_id":"ann","assessment_id":"a1","__proto__":{}}', /^not_json$/],
      [Buffer.alloc(10 * 1024 * 1024, 'x'), /^too_large$/],
      [JSON.stringify(eventOf({ type: 'analysis_paused' })), /^unknown_type/],
      [JSON.stringify(eventOf({ assessment_id: 'of bob' })), /^foreign_assessment$/],
      [JSON.stringify(eventOf({ assessment_id: 'of bob', event_id: 'e9' })), /^foreign_assessment$/],
      [JSON.stringify(eventOf({ event_id: 'of bob' })), /^event_id_reused$/],
    ]
    const startedAt = performance.now()
    await own.send(...poison.map(([body]) => body), JSON.stringify(eventOf()))
    await untilReady(ann)
    expect(performance.now() - startedAt).toBeLessThan(5_000)
    await eventually(() => own.depth(own.topology.deadQueue)).toBe(poison.length)
    const reasons = new Map<string, string>()
    while (reasons.size < poison.length) {
      const letter = await own.take(own.topology.deadQueue)
      reasons.set(
        letter?.content.subarray(0, 2_000).toString() ?? '',
        String(letter?.properties.headers?.['x-rivulet-reason']),
      )
    }
    for (const [body, reason] of poison)
      expect(reasons.get(Buffer.from(body).subarray(0, 2_000).toString())).toMatch(reason)
    expect(await inboxOf(ann)).toHaveLength(1)
  })

  it('an event whose results nobody has lies there in the end, and is done when it is sent again', async () => {
    const archive = await startDemoArchive({ serviceKey })
    open.push(() => archive.close())
    await service.app.close(0)
    await start({ ARCHIVE_SERVICE_URL: archive.baseUrl })
    await ready()
    await send(eventOf({ results: undefined, event_id: 'e7' }))
    await eventually(
      () => service.sql`select from chat.jobs where last_error = 'results_missing'`,
    ).toHaveLength(1)
    await service.sql`update chat.jobs set attempts = 8, run_at = now() where kind = 'onboard'`
    await eventually(async () => (await health()).dependencies.rabbitmq.dead_letters).toBe(1)
    archive.put('a1', { ...results, assessment_id: 'a1', user_id: 'ann' })
    expect(await redrive({ url: rabbitUrl, names: own.names, log: pino({ level: 'silent' }) })).toBe(1)
    await untilReady(ann)
  })

  it('an event whose assessment is locked waits for itself alone, in the delay queue', async () => {
    await send(eventOf({ type: 'analysis_started' }))
    await eventually(async () => (await inboxOf(ann)).length).toBe(1)
    const locker = postgres(service.databaseUrl, { max: 1, onnotice: () => undefined })
    open.push(() => locker.end())
    const bob = await service.as('bob')
    await locker.begin(async (tx) => {
      await tx`select from chat.assessments where assessment_id = 'a1' for update`
      await send(eventOf(), eventOf({ user_id: 'bob', assessment_id: 'of bob' }))
      await untilReady(bob, 4_000)
      const [delay] = own.topology.delays
      await eventually(() => own.depth(delay?.queue ?? '')).toBe(1)
    })
    expect(await own.depth(own.topology.deadQueue)).toBe(0)
  })

  it('services hear of the conversation, of messages without their words, and of each notification', async () => {
    const channel = await own.channel()
    const { queue } = await channel.assertQueue(`${own.names.queue}-heard`, { exclusive: true })
    for (const key of ['chat.conversation_ready', 'chat.message_created', 'notification.events'])
      await channel.bindQueue(queue, own.names.exchange, key)
    await send(eventOf())
    await untilReady(ann)
    const heard: Record<string, unknown>[] = []
    await eventually(async () => {
      for (let message = await own.take(queue); message !== undefined; message = await own.take(queue)) {
        expect(message.properties.deliveryMode).toBe(2)
        heard.push(JSON.parse(message.content.toString()) as Record<string, unknown>)
      }
      return heard.map(({ type }) => type).toSorted()
    }).toEqual([
      'chat.conversation_ready',
      'chat.message_created',
      'notification.events',
      'notification.events',
    ])
    const { conversation, messages } = await adviserOf(ann)
    const of = (type: string) => heard.filter((event) => event['type'] === type)
    expect(of('chat.conversation_ready')).toMatchObject([
      { user_id: 'ann', data: { conversation_id: conversation.id, assessment_id: 'a1' } },
    ])
    expect(of('chat.message_created')).toMatchObject([
      { data: { message_id: messages[0]?.id, sender_type: 'assistant' } },
    ])
    expect(JSON.stringify(of('chat.message_created'))).not.toContain(messages[0]?.content.slice(0, 20))
    expect(of('notification.events').map(({ data }) => (data as { progress: number }).progress)).toEqual([
      75, 100,
    ])
    expect(await service.sql`select from chat.outbox`).toHaveLength(0)
  })

  it('a broker that is absent at the start is found later; everything else works meanwhile', async () => {
    await service.app.close(0)
    const proxy = await startTcpProxy(rabbitUrl)
    open.push(() => proxy.close())
    await proxy.refuse()
    await start({ RABBITMQ_URL: proxy.url })
    expect(await service.anonymous.get('/health')).toMatchObject({
      status: 200,
      body: { status: 'degraded', dependencies: { rabbitmq: { status: 'down' } } },
    })
    await tell(createClient(service.origin, serviceKey))
    await untilReady(ann)
    const bob = await service.as('bob')
    await send(eventOf({ user_id: 'bob', assessment_id: 'of bob' }))
    await proxy.pass()
    await ready()
    await untilReady(bob)
    // What there was to tell meanwhile is told now.
    await eventually(
      () => service.sql`select from chat.outbox where routing_key <> 'chat.conversation_ready'
      and attempts = 0 and created_at < now() - interval '5 seconds'`,
    ).toEqual([])
  })
})
