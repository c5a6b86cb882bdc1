/** The archive's troubles are told apart, waited for within bounds, and end when nobody waits any more. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startDemoArchive, times, type ArchiveBehaviour } from '../../src/embedded/demo-archive.ts'
import { never, results, startArchiveBench, type ArchiveBench } from '../support/archives.ts'

let bench: ArchiveBench
beforeAll(async () => {
  bench = await startArchiveBench()
})
beforeEach(() => bench.forget())
afterAll(() => bench.close())

describe('trouble that may pass', () => {
  const passing: [string, ArchiveBehaviour, string][] = [
    ['500', { kind: 'status', status: 500 }, 'status_500'],
    ['503', { kind: 'status', status: 503 }, 'status_503'],
    ['429', { kind: 'status', status: 429 }, 'status_429'],
    ['408', { kind: 'status', status: 408 }, 'status_408'],
    ['a connection that is reset', { kind: 'cut' }, 'unreachable'],
    ['an answer that breaks off', { kind: 'half' }, 'unreachable'],
  ]
  it.each(passing)('is tried three times, then unavailable: %s', async (_, behaviour, why) => {
    expect(await bench.fetchScripted(behaviour)).toMatchObject({ kind: 'unavailable', why })
    expect(bench.tries()).toBe(3)
    expect(bench.logged).toMatchObject([{ event: 'archive_unavailable', assessment_id: 'a1', why, tries: 3 }])
  })

  it.each(passing)('is forgotten where a later try succeeds: %s', async (_, behaviour) => {
    bench.server.put('a1', results)
    bench.server.script(...times(2, behaviour))
    expect(await bench.fetch()).toMatchObject({ kind: 'found', userId: 'ann' })
    expect(bench.tries()).toBe(3)
    expect(bench.logged).toEqual([])
  })

  it('ends with the first answer that is none of it', async () => {
    bench.server.script({ kind: 'status', status: 503 }, { kind: 'status', status: 404 })
    expect(await bench.fetch()).toEqual({ kind: 'missing' })
    expect(bench.tries()).toBe(2)
  })

  it('is a port where nobody listens', async () => {
    const gone = await startDemoArchive()
    await gone.close()
    expect(await bench.fetch({ baseUrl: gone.baseUrl })).toMatchObject({
      kind: 'unavailable',
      why: 'unreachable',
    })
    expect(bench.logged).toMatchObject([{ tries: 3 }])
  })

  it('is tried as often as was said', async () => {
    expect(await bench.fetchScripted({ kind: 'status', status: 500 }, { retries: 0 })).toMatchObject({
      kind: 'unavailable',
    })
    expect(bench.tries()).toBe(1)
  })

  it('is waited for longer each time, by chance between half of a step and all of it', async () => {
    await bench.fetchScripted({ kind: 'status', status: 500 }, { random: () => 0 })
    const short = bench.waits()
    bench.server.forget()
    await bench.fetchScripted({ kind: 'status', status: 500 }, { random: () => 0.999 })
    const long = bench.waits()
    // A timer may be late, and never early but for the clock's rounding.
    for (const [n, atLeastMs] of [125, 250].entries()) {
      expect(short[n]).toBeGreaterThanOrEqual(atLeastMs - 2)
      expect(long[n]).toBeGreaterThanOrEqual(2 * atLeastMs - 2)
    }
  })
})

describe('silence', () => {
  it.each([
    ['before an answer', { kind: 'hang' }],
    ['after the headers', { kind: 'hang', after: 'headers' }],
    ['within the body', { kind: 'hang', after: 'half' }],
  ] satisfies [string, ArchiveBehaviour][])(
    'is given up after its time, three times: %s',
    async (_, hang) => {
      const began = Date.now()
      expect(await bench.fetchScripted(hang, { timeoutMs: 100 })).toMatchObject({
        kind: 'unavailable',
        why: 'timeout',
      })
      expect(bench.tries()).toBe(3)
      expect(Date.now() - began).toBeGreaterThanOrEqual(3 * 98)
    },
  )
})

describe('Retry-After', () => {
  const busy = (after: string): ArchiveBehaviour => ({
    kind: 'status',
    status: 429,
    headers: { 'retry-after': after },
  })

  it('is waited for where it is short', async () => {
    bench.server.put('a1', results)
    bench.server.script(busy('1'))
    expect(await bench.fetch()).toMatchObject({ kind: 'found' })
    expect(bench.waits()[0]).toBeGreaterThanOrEqual(998)
  })

  it('is told where it is long, and nobody waits', async () => {
    expect(await bench.fetchScripted(busy('30'))).toMatchObject({
      kind: 'unavailable',
      why: 'status_429',
      retryAfterMs: 30_000,
    })
    expect(bench.tries()).toBe(1)
  })

  it('is told after the last try, too', async () => {
    expect(await bench.fetchScripted(busy('1'), { retries: 0 })).toMatchObject({ retryAfterMs: 1_000 })
  })

  it('may be a date', async () => {
    const answer = await bench.fetchScripted(busy(new Date(Date.now() + 60_000).toUTCString()))
    expect(answer).toMatchObject({ kind: 'unavailable' })
    const { retryAfterMs } = answer as { retryAfterMs: number }
    expect(retryAfterMs).toBeGreaterThan(30_000)
    expect(retryAfterMs).toBeLessThanOrEqual(60_000)
  })

  it('is bounded to an hour', async () => {
    expect(await bench.fetchScripted(busy('999999999'))).toMatchObject({ retryAfterMs: 3_600_000 })
  })

  it.each(['soon', ''])('that says nothing is as if it were not there: %j', async (after) => {
    expect(await bench.fetchScripted(busy(after))).toMatchObject({
      kind: 'unavailable',
      retryAfterMs: undefined,
    })
    expect(bench.tries()).toBe(3)
  })
})

describe('whoever asks', () => {
  it('may go away, while the archive is silent', async () => {
    bench.server.script({ kind: 'hang' })
    const gone = new AbortController()
    const fetched = bench.open().fetch('a1', gone.signal)
    await expect.poll(bench.tries).toBe(1)
    gone.abort(new Error('gone'))
    await expect(fetched).rejects.toThrow('gone')
  })

  it('may go away between two tries: no other one follows', async () => {
    bench.server.script(...times(3, { kind: 'status', status: 503, headers: { 'retry-after': '2' } }))
    const gone = new AbortController()
    const fetched = bench.open().fetch('a1', gone.signal)
    await expect.poll(bench.tries).toBe(1)
    gone.abort(new Error('gone'))
    const began = Date.now()
    await expect(fetched).rejects.toThrow('gone')
    expect(Date.now() - began).toBeLessThan(1_500)
    expect(bench.tries()).toBe(1)
  })

  it('is gone already: nobody is asked', async () => {
    await expect(bench.open().fetch('a1', AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone')
    expect(bench.tries()).toBe(0)
  })
})

describe('close', () => {
  it('ends what is being fetched, and what waits, as unavailable', async () => {
    const archive = bench.open()
    bench.server.script({ kind: 'hang' }, { kind: 'status', status: 503, headers: { 'retry-after': '2' } })
    const silent = archive.fetch('a1', never)
    await expect.poll(bench.tries).toBe(1)
    const waiting = archive.fetch('a1', never)
    await expect.poll(bench.tries).toBe(2)
    await archive.close()
    expect(await Promise.all([silent, waiting])).toEqual([
      { kind: 'unavailable', why: 'closed' },
      { kind: 'unavailable', why: 'closed' },
    ])
    expect(bench.tries()).toBe(2)
  })

  it('comes before a question that nobody hears', async () => {
    const archive = bench.open()
    await archive.close()
    expect(await archive.fetch('a1', never)).toEqual({ kind: 'unavailable', why: 'closed' })
    expect(bench.tries()).toBe(0)
  })
})
