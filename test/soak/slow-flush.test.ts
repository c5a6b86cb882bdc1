import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { answer, gated } from '../../src/embedded/demo-model.ts'
import { textOf } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'

let service: Service
let other: Service

beforeAll(async () => {
  service = await startService({ env: { RATE_LIMIT_RUNNING_GENERATIONS: '20' } })
  other = await startService({ resolved: { databaseUrl: service.databaseUrl, exclusive: false } })
})
afterAll(async () => {
  await other.close()
  await service.close()
})

/** Flushes that wait for the lock on the chunks. */
const waitingFlushes = async () =>
  (
    await service.sql`
      select 1 from pg_locks l join pg_stat_activity a using (pid)
      where not l.granted and l.relation = 'chat.generation_chunks'::regclass
        and a.application_name = 'rivulet: journal'`
  ).length

describe('a flush that takes long', () => {
  it('stays the only one when another answer begins meanwhile, and nothing of the first is missing elsewhere', async () => {
    const ann = await service.as('ann')
    const [first, second] = [await ann.conversation(), await ann.conversation()]
    const gate = gated()
    service.upstream.script(gate, answer('beside it'))
    const live = await ann.stream(`/conversations/${first}/messages`, { content: 'go' })
    await live.until(({ data }) => data.type === 'assistant_start')
    const elsewhere = await (
      await other.as('ann')
    ).stream(live.headers.get('content-location') ?? '', undefined)

    await service.sql.begin(async (transaction) => {
      await transaction`lock table chat.generation_chunks in share mode`
      gate.release(2)
      await expect.poll(waitingFlushes).toBe(1)
      const beside = await ann.stream(`/conversations/${second}/messages`, { content: 'go' })
      await beside.until(({ data }) => data.type === 'assistant_chunk')
      gate.release(2)
      await live.until(() => textOf(live.frames).includes('t4 '))
      // Several times JOURNAL_FLUSH_MS: a second flush would have been sent by now.
      await new Promise((resolve) => setTimeout(resolve, 400))
      expect(await waitingFlushes()).toBe(1)
    })
    gate.release(2)
    await live.until(() => textOf(live.frames).includes('t6 '))
    gate.end()
    await live.ended
    const shown = (await elsewhere.ended).map(({ data }) => data)
    const snapshot = shown.find(({ type }) => type === 'snapshot')?.['message'] as
      { content: string } | undefined
    expect((snapshot?.content ?? '') + textOf(elsewhere.frames)).toBe('t1 t2 t3 t4 t5 t6 ')
  })
})
