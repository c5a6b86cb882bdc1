/** The archive is asked for what it has, and believed only where what it says makes sense. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startDemoArchive } from '../../src/embedded/demo-archive.ts'
import { never, results, startArchiveBench, type ArchiveBench } from '../support/archives.ts'
import { startReceiver } from '../support/receiver.ts'

let bench: ArchiveBench
beforeAll(async () => {
  bench = await startArchiveBench()
})
beforeEach(() => bench.forget())
afterAll(() => bench.close())

describe('results that are there', () => {
  it('are found, with whose they are, by one request that shows the key', async () => {
    bench.server.put('a1', results)
    expect(await bench.fetch()).toMatchObject({
      kind: 'found',
      userId: 'ann',
      results: { assessment_id: 'a1', riasec: { I: 92, R: 85 }, persona_profile: null },
    })
    expect(bench.server.requests).toMatchObject([
      { path: '/api/archive/results/a1', authorization: `Bearer ${bench.serviceKey}` },
    ])
    expect(bench.logged).toEqual([])
  })

  it('are read in either spelling, wrapped or not, the same', async () => {
    const plain = await startDemoArchive({ generate: true })
    const archive = bench.open({ baseUrl: plain.baseUrl })
    const found = await archive.fetch('a1', never)
    expect(found).toMatchObject({ kind: 'found', userId: null })
    plain.script({ kind: 'camelCase' }, { kind: 'wrapped' })
    expect(await archive.fetch('a1', never)).toEqual(found)
    expect(await archive.fetch('a1', never)).toEqual(found)
    await plain.close()
  })

  it('may begin with a byte order mark', async () => {
    bench.server.put('a1', `\uFEFF${JSON.stringify(results)}`)
    expect(await bench.fetch()).toMatchObject({ kind: 'found' })
  })

  it('are found below a path of the archive’s own, with or without a slash at its end', async () => {
    bench.server.put('a1', results)
    for (const baseUrl of [`${bench.server.baseUrl}/`, `${bench.server.baseUrl}//`])
      expect(await bench.fetch({ baseUrl })).toMatchObject({ kind: 'found' })
    expect(await bench.fetch({ baseUrl: `${bench.server.baseUrl}/gate/` })).toEqual({ kind: 'missing' })
    expect(bench.server.requests.at(-1)?.path).toBe('/gate/api/archive/results/a1')
  })

  it.each([undefined, ''])('are asked for without a key where there is none (%j)', async (none) => {
    await bench.fetch({ serviceKey: none })
    expect(bench.server.requests[0]?.authorization).toBeUndefined()
  })
})

describe('an id', () => {
  it.each([
    '../x',
    'a/b',
    'a\\b',
    '%2e%2e',
    '%2e',
    '..%2f',
    '...',
    './.',
    'a?b=c',
    'a#b',
    ' .. ',
    'é 🙂',
    "a'(*)!~",
  ])('reaches its own path and no other: %j', async (id) => {
    bench.server.put(id, { riasec: { R: 7 } })
    expect(await bench.fetch({}, id)).toMatchObject({ kind: 'found', results: { riasec: { R: 7 } } })
    expect(bench.server.requests.map(({ path }) => path)).toEqual([
      `/api/archive/results/${encodeURIComponent(id)}`,
    ])
  })

  it.each(['', '.', '..', 'a\0', '\ud800', 'a'.repeat(201)])(
    'that cannot be one is missing, and nobody is asked (%#)',
    async (id) => {
      bench.server.script({ kind: 'camelCase' })
      expect(await bench.fetch({}, id)).toEqual({ kind: 'missing' })
      expect(bench.tries()).toBe(0)
    },
  )
})

it('404 is missing, at once', async () => {
  expect(await bench.fetch()).toEqual({ kind: 'missing' })
  expect(bench.tries()).toBe(1)
  expect(bench.logged).toEqual([])
})

describe('an answer that is no result', () => {
  const bodies: [string, string][] = [
    ['not JSON', '<!doctype html><title>Welcome</title>'],
    ['JSON without an end', JSON.stringify(results).slice(0, -1)],
    ['nothing', ''],
    ['null', 'null'],
    ['a list', '[]'],
    ['an empty object', '{}'],
    ['a score that is none', '{"assessment_id":"a1","riasec":{"R":"high"}}'],
    ['a score above 100', '{"assessment_id":"a1","riasec":{"R":101}}'],
    ['nested without end', '{"data":'.repeat(50_000) + '{}' + '}'.repeat(50_000)],
    [
      'details that are too deep',
      `{"persona_profile":{"summary":"x","details":${'['.repeat(9_000) + ']'.repeat(9_000)}}}`,
    ],
  ]
  it.each(bodies)('is unusable, and not asked for again: %s', async (_, text) => {
    expect(await bench.fetchScripted({ kind: 'body', text })).toMatchObject({ kind: 'unusable' })
    expect(bench.tries()).toBe(1)
    expect(bench.logged).toMatchObject([{ event: 'archive_unusable', assessment_id: 'a1', tries: 1 }])
  })

  it('is unusable where it is longer than 1 MiB, however right the rest of it', async () => {
    expect(await bench.fetchScripted({ kind: 'huge' })).toEqual({ kind: 'unusable', why: 'too_large' })
    expect(bench.tries()).toBe(1)
    bench.server.forget()
    // Just below the bound it is read.
    const padding = 'x'.repeat(1024 * 1024 - JSON.stringify({ ...results, padding: '' }).length)
    bench.server.put('a1', { ...results, padding })
    expect(await bench.fetch()).toMatchObject({ kind: 'found' })
    bench.server.put('a1', { ...results, padding: `${padding}x` })
    expect(await bench.fetch()).toMatchObject({ kind: 'unusable', why: 'too_large' })
  })

  it('is unusable where it is another assessment’s', async () => {
    bench.server.put('a1', { ...results, assessment_id: 'a2' })
    expect(await bench.fetch()).toEqual({ kind: 'unusable', why: 'another_assessment' })
    expect(bench.tries()).toBe(1)
  })

  it.each([204, 304, 400, 410, 422])('is unusable with status %i', async (status) => {
    expect(await bench.fetchScripted({ kind: 'status', status })).toEqual({
      kind: 'unusable',
      why: `status_${status}`,
    })
    expect(bench.tries()).toBe(1)
  })

  it('is a redirect: it is not followed, and the key goes nowhere else', async () => {
    const elsewhere = await startDemoArchive({ generate: true })
    const to = `${elsewhere.baseUrl}/api/archive/results/a1`
    expect(await bench.fetchScripted({ kind: 'redirect', to })).toEqual({
      kind: 'unusable',
      why: 'status_302',
    })
    expect(bench.tries()).toBe(1)
    expect(elsewhere.requests).toEqual([])
    await elsewhere.close()
  })
})

describe('our key', () => {
  it.each([401, 403])('is refused with %i: unavailable, and not asked again at once', async (status) => {
    expect(await bench.fetchScripted({ kind: 'status', status })).toMatchObject({
      kind: 'unavailable',
      why: 'key_refused',
    })
    expect(bench.tries()).toBe(1)
  })

  it('is a wrong one', async () => {
    bench.server.put('a1', results)
    expect(await bench.fetch({ serviceKey: 'another' })).toMatchObject({
      kind: 'unavailable',
      why: 'key_refused',
    })
  })

  it('is never in a log', async () => {
    await bench.fetchScripted({ kind: 'status', status: 401 })
    await bench.fetch({ baseUrl: 'http://127.0.0.1:1', retries: 0 })
    expect(bench.logged).toHaveLength(2)
    expect(JSON.stringify(bench.logged)).not.toContain(bench.serviceKey)
  })
})

it('many are fetched at once, over at most twenty connections', async () => {
  const counting = await startReceiver()
  counting.answer((response) => response.end(JSON.stringify(results)))
  const archive = bench.open({ baseUrl: counting.origin })
  const answers = await Promise.all(Array.from({ length: 200 }, () => archive.fetch('a1', never)))
  expect(answers.filter(({ kind }) => kind === 'found')).toHaveLength(200)
  expect(counting.connections()).toBeLessThanOrEqual(20)
  await archive.close()
  await counting.allClosed()
  await counting.close()
})
