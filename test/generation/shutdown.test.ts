import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { answer, gated } from '../../src/embedded/demo-model.ts'
import type { Message } from '../../src/messages/schemas.ts'
import { textOf } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service | undefined
afterEach(async () => {
  await service?.close()
  service = undefined
})

describe('a stopping process', () => {
  it('lets running answers finish within the grace, and each viewer reads its complete frame', async () => {
    service = await startService()
    const ann = await service.as('ann')
    const gate = gated({ tokens: ['a', ' b'] })
    service.upstream.script(gate)
    const stream = await ann.stream(`/conversations/${await ann.conversation()}/messages`, { content: 'go' })
    gate.release(1)
    await stream.until(({ data }) => data.type === 'assistant_chunk')
    const closed = service.app.close(10_000)
    gate.release(1)
    gate.end()
    const frames = await stream.ended
    await closed
    expect(textOf(frames)).toBe('a b')
    expect(frames.at(-1)?.data).toMatchObject({
      type: 'complete',
      message: { status: 'complete', content: 'a b' },
    })
  })

  it('settles what is left as interrupted, its text kept, and says so in one terminal frame', async () => {
    const running = await startService()
    service = running
    const gate = gated()
    service.upstream.always(gate)
    const streams = await Promise.all(
      (['ann', 'bea', 'cat'] as const).map(async (user) => {
        const client = await running.as(user)
        return client.stream(`/conversations/${await client.conversation()}/messages`, { content: 'go' })
      }),
    )
    gate.release(2)
    for (const stream of streams) await stream.until(({ data }) => data.type === 'assistant_chunk')
    await service.app.close(0)
    for (const stream of streams) {
      const frames = await stream.ended
      const terminal = frames.filter(({ data }) => data.type === 'complete' || data.type === 'error')
      expect(terminal).toHaveLength(1)
      expect(terminal[0]?.data).toMatchObject({
        type: 'error',
        error: { code: 'shutting_down', retryable: true, retry_after: 5 },
        message: { status: 'interrupted' },
      })
      expect((terminal[0]?.data['message'] as Message).content).toBe(textOf(frames))
    }
    const rows = await service.sql`select status from chat.generations`
    expect(rows.map(({ status }) => status as string)).toEqual(['interrupted', 'interrupted', 'interrupted'])
  })

  it('takes no new turn and is not ready while it drains', async () => {
    service = await startService()
    const ann = await service.as('ann')
    const gate = gated()
    service.upstream.script(gate)
    const [busy, other] = await Promise.all([ann.conversation(), ann.conversation()])
    const stream = await ann.stream(`/conversations/${busy}/messages`, { content: 'go' })
    await stream.until(({ data }) => data.type === 'assistant_start')
    const closed = service.app.close(10_000)
    const ready = await service.anonymous.get('/health/ready')
    expect([ready.status, ready.body]).toEqual([503, { status: 'draining' }])
    expect((await service.anonymous.get('/health/live')).status).toBe(200)
    const refused = await ann.post(`/conversations/${other}/messages`, { content: 'more' })
    expect([refused.status, refused.body['code']]).toEqual([503, 'shutting_down'])
    expect(refused.headers.get('retry-after')).toBe('5')
    gate.end()
    await stream.ended
    await closed
  })

  it('is not held by a connection that never asks for anything', async () => {
    service = await startService()
    const socket = connect(Number(new URL(service.origin).port), '127.0.0.1')
    await once(socket, 'connect')
    const gone = once(socket, 'close')
    await service.app.close(0)
    await gone
    expect(socket.destroyed).toBe(true)
  })
})

describe('a process that died', () => {
  it('leaves no conversation locked: what it left running is interrupted at the next start', async () => {
    service = await startService()
    const ann = await service.as('ann')
    const id = await ann.conversation()
    service.upstream.script(answer('fine'))
    await ann.post(`/conversations/${id}/messages`, { content: 'one' })
    // As a kill -9 leaves it.
    await service.sql`update chat.generations set status = 'running', settled_at = null`
    await service.sql`update chat.messages set status = 'streaming', content = '' where sender_type = 'assistant'`
    const again = await startService({ resolved: { databaseUrl: service.databaseUrl } })
    try {
      const { body } = await (await again.as('ann')).get<{ messages: Message[] }>(`/conversations/${id}`)
      expect(body.messages.map(({ status }) => status)).toEqual(['complete', 'interrupted'])
      const sent = await (await again.as('ann')).post(`/conversations/${id}/messages`, { content: 'two' })
      expect(sent.status).toBe(200)
    } finally {
      await again.close()
    }
  })
})
