/** Whatever fails when a title is to be made: the local one stays, no model is asked in vain, and nobody is alarmed. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { titleKind } from '../../src/conversations/title-job.ts'
import * as demo from '../../src/embedded/demo-model.ts'
import { createBreakers } from '../../src/upstream/breakers.ts'
import { eventually } from '../support/jobs.ts'
import { estimated, local, made, startNaming, type Naming } from '../support/titles.ts'

const { answer, httpError } = demo
const paid = demo.PAID_MODEL_ID
const free = demo.DEMO_MODEL_ID
const nowMs = () => performance.now()

let naming: Naming
beforeEach(async () => {
  naming = await startNaming()
})
afterEach(() => naming.close())

describe('an upstream', () => {
  it.each([
    ['that is broken', httpError(500), 'upstream_error'],
    ['that is away', httpError(503), 'upstream_unavailable'],
    ['that resets', demo.reset(), 'upstream_unavailable'],
    ['that sends a page', demo.htmlPage(), 'upstream_error'],
    ['that fails before its first word', demo.errorAfter(0), 'upstream_unavailable'],
    ['that says nothing', demo.empty(), 'broken_off'],
  ])(
    '%s is asked three times in all, charges nothing, and nobody is alarmed',
    async (_name, behaviour, why) => {
      naming.model.always(behaviour)
      const named = await naming.settled()
      naming.work()
      await naming.gone(why)
      expect(naming.model.requests).toHaveLength(3)
      expect(await naming.titleOf(named)).toEqual(local)
      expect(await naming.usageOf(named)).toEqual([])
      expect(await naming.questions()).toEqual([])
      await eventually(naming.deaths).toMatchObject([{ level: 30, kind: titleKind }])
    },
  )

  it.each([
    ['has no credit', httpError(402), 'upstream_quota'],
    ['refuses our key', httpError(401), 'upstream_refused'],
    ['refuses the exchange', httpError(403), 'upstream_refused'],
    ['has no such model', httpError(404), 'upstream_error'],
    ['cannot read so much', httpError(400), 'context_too_long'],
    ['is limited for hours', httpError(429, { headers: { 'retry-after': '7200' } }), 'upstream_quota'],
  ])('that %s is not asked again', async (_name, behaviour, why) => {
    naming.model.always(behaviour)
    const named = await naming.settled()
    naming.work()
    await naming.gone(why)
    expect(naming.model.requests).toHaveLength(1)
    expect(await naming.titleOf(named)).toEqual(local)
    expect(naming.deaths()).toMatchObject([{ level: 30 }])
  })

  it('that failed once has made the title the next time', async () => {
    naming.model.script(httpError(500), answer('Paths'))
    const named = await naming.settled()
    naming.work()
    await naming.done()
    expect(await naming.titleOf(named)).toEqual(made('Paths'))
    expect(await naming.usageOf(named)).toMatchObject([{ source: 'reported' }])
  })

  it('that is limited for a moment is left alone for it', async () => {
    naming.model.always(httpError(429, { headers: { 'retry-after': '40' } }))
    await naming.settled()
    naming.work()
    await eventually(naming.titleJobs).toMatchObject([
      { last_error: 'upstream_quota', leased: false, attempts: 1 },
    ])
    const [job] = await naming.titleJobs()
    expect(job?.due_ms).toBeGreaterThan(30_000)
  })

  it('whose free quota is used up is not asked for the next title either', async () => {
    naming.model.always(httpError(429, { freeQuota: 'per-day', headers: { 'retry-after': '7200' } }))
    const options = { model: free, breakers: createBreakers({ nowMs }) }
    await naming.settled({}, options)
    naming.work(options)
    await naming.gone('upstream_quota')
    await naming.settled({}, options)
    await eventually(async () => (await naming.titleJobs()).map((job) => job.last_error)).toEqual([
      'upstream_quota',
      'model_is_left_alone',
    ])
    expect(naming.model.requests).toHaveLength(1)
  })

  it('that is slower than a title is worth is closed, and what it may charge is recorded for each call', async () => {
    naming.model.always(demo.hang({ after: 'headers' }))
    const named = await naming.settled()
    naming.work({ timeoutMs: 60 })
    await naming.gone('too_slow')
    expect(naming.model.requests).toHaveLength(3)
    for (const { ended, closedAt } of naming.model.requests) {
      await ended
      expect(closedAt).toBeDefined()
    }
    const nothing = { ...estimated, completion: 0 }
    expect(await naming.usageOf(named)).toMatchObject([nothing, nothing, nothing])
    expect(await naming.questions()).toHaveLength(3)
    expect(await naming.titleOf(named)).toEqual(local)
  })

  it.each([
    ['an error', demo.errorAfter(2)],
    ['a cut', demo.cutAfter(2)],
    ['no end', demo.withoutFinish(2)],
  ])(
    'that begins and comes to %s makes no half a title; each call is recorded and asked for',
    async (_name, how) => {
      naming.model.always(how)
      const named = await naming.settled()
      naming.work()
      await eventually(naming.titleJobs).toMatchObject([{ status: 'dead' }])
      expect(await naming.titleOf(named)).toEqual(local)
      const rows = await naming.usageOf(named)
      expect(rows).toMatchObject([estimated, estimated, estimated])
      for (const row of rows) expect(row['completion']).toBeGreaterThan(0)
      expect(await naming.questions()).toHaveLength(3)
    },
  )
})

describe('a job that has nothing to name any more', () => {
  it.each([
    [
      'since its user has',
      (id: string) => naming.bench.sql`update chat.conversations set title_source = 'user' where id = ${id}`,
    ],
    [
      'since it is deleted',
      (id: string) => naming.bench.sql`update chat.conversations set status = 'deleted' where id = ${id}`,
    ],
    [
      'since it is gone for good',
      (id: string) => naming.bench.sql`delete from chat.conversations where id = ${id}`,
    ],
  ])('%s is done without a call', async (_name, change) => {
    const named = await naming.settled()
    await change(named.id)
    naming.work()
    await naming.done()
    expect(naming.model.requests).toHaveLength(0)
    expect(await naming.usageOf(named)).toEqual([])
  })

  it.each([
    ['no model is configured any more', { model: undefined }],
    ['only free ones may be asked by now', { freeOnly: true }],
  ])('since %s is done without a call', async (_name, options) => {
    await naming.settled()
    naming.work(options)
    await naming.done()
    expect(naming.model.requests).toHaveLength(0)
  })

  it('since a paid model is configured by now, and the turn was of tier free, is done without a call', async () => {
    await naming.settled({}, { tier: 'free', model: free })
    naming.work({ model: paid })
    await naming.done()
    expect(naming.model.requests).toHaveLength(0)
  })
})
