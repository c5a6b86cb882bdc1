/** A scrape while the database is slow or away: at once, and with what is known. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { gated } from '../../src/embedded/demo-model.ts'
import { eventually } from '../support/jobs.ts'
import { scrape } from '../support/metrics.ts'
import { serviceKey, startService, type Service } from '../support/service.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'
import { startUnready } from '../support/unready.ts'

/** What is promised of a scrape. */
const withinMs = 1_000

/** Its database, its clock beside the network. */
let behind: Service
let service: Service
let proxy: TcpProxy

beforeEach(async () => {
  behind = await startService()
  proxy = await startTcpProxy(behind.databaseUrl)
  service = await startService({
    env: { JOURNAL_STALL_MS: '60000' },
    resolved: { databaseUrl: proxy.url, exclusive: false },
  })
})
afterEach(async () => {
  await proxy.pass()
  await service.close()
  await proxy.close()
  await behind.close()
})

const valueOf = (name: string) => async () => (await scrape(service.origin)).value(name)

const ways: [name: string, away: () => Promise<void> | void][] = [
  ['refuses', () => proxy.refuse()],
  ['is silent', () => proxy.freeze()],
]

describe.each(ways)('a database that %s', (_name, away) => {
  it('holds no scrape up: it says so, shows the counts of before, and sees it come back', async () => {
    await (await service.as('ann')).conversation()
    await eventually(valueOf('conversations_active_total')).toBe(1)
    await away()
    const startedAtMs = performance.now()
    for (let up: number | undefined = 1; up !== 0 && performance.now() - startedAtMs < 15_000;) {
      const { tookMs, value } = await scrape(service.origin)
      expect(tookMs).toBeLessThan(withinMs)
      expect(value('conversations_active_total')).toBe(1)
      up = value('rivulet_database_up')
    }
    expect(await valueOf('rivulet_database_up')()).toBe(0)
    await proxy.pass()
    await eventually(valueOf('rivulet_database_up')).toBe(1)
  }, 40_000)

  it('makes what is not stored older and older, until it can be stored', async () => {
    const gate = gated()
    service.upstream.script(gate)
    const ann = await service.as('ann')
    const stream = await ann.stream(`/conversations/${await ann.conversation()}/messages`, { content: 'go' })
    gate.release(1)
    await stream.until(({ data }) => data.type === 'assistant_chunk')
    await eventually(valueOf('rivulet_journal_lag_seconds')).toBe(0)
    await away()
    gate.release(1)
    await eventually(valueOf('rivulet_journal_lag_seconds')).toBeGreaterThan(2)
    await proxy.pass()
    await eventually(valueOf('rivulet_journal_lag_seconds')).toBeLessThan(0.5)
    gate.end()
    await stream.ended
    await eventually(valueOf('rivulet_journal_lag_seconds')).toBe(0)
  }, 40_000)
})

describe('a database', () => {
  it('that was never there: what nobody counted is left out', async () => {
    await proxy.refuse()
    const unready = await startUnready(proxy.url)
    try {
      const address = unready.app.http.server.address()
      if (address === null || typeof address === 'string') throw new Error('it listens nowhere')
      const { tookMs, value, text } = await scrape(`http://127.0.0.1:${address.port}`, serviceKey)
      expect(tookMs).toBeLessThan(withinMs)
      expect(value('rivulet_database_up')).toBe(0)
      for (const name of [
        'conversations_active_total',
        'rivulet_user_tokens_hour_max',
        'rivulet_jobs_dead',
      ]) {
        expect(text).toContain(`# TYPE ${name} gauge`)
        expect(value(name)).toBeUndefined()
      }
    } finally {
      await unready.close()
    }
  })

  it('where a count has to wait for somebody: the scrape does not, and the count gives up by itself', async () => {
    const locked = Promise.withResolvers<undefined>()
    const unlock = Promise.withResolvers<undefined>()
    const locking = behind.sql.begin(async (transaction) => {
      await transaction`lock table chat.conversations in access exclusive mode`
      locked.resolve(undefined)
      await unlock.promise
    })
    await locked.promise
    try {
      const counting = () => behind.sql`
        select 1 from pg_stat_activity where application_name = 'rivulet: metrics' and wait_event_type = 'Lock'`
      expect((await scrape(service.origin)).tookMs).toBeLessThan(withinMs)
      await eventually(async () => (await counting()).length).toBe(1)
      const waiting = await scrape(service.origin)
      expect(waiting.tookMs).toBeLessThan(withinMs)
      expect(waiting.value('rivulet_database_connections', { pool: 'requests', state: 'busy' })).toBe(1)
      const waitingMs = performance.now()
      await eventually(async () => (await counting()).length).toBe(0)
      // Sooner than any other statement: these connections are for requests.
      expect(performance.now() - waitingMs).toBeLessThan(4_500)
    } finally {
      unlock.resolve(undefined)
      await locking
    }
  })
})
