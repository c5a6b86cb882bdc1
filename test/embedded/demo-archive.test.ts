/** The demo archive does what an archive does, and fails as it is told to. */
import { afterEach, describe, expect, it } from 'vitest'
import {
  startDemoArchive,
  times,
  type ArchiveBehaviour,
  type DemoArchive,
  type DemoArchiveOptions,
} from '../../src/embedded/demo-archive.ts'

const opened: DemoArchive[] = []
async function start(options?: DemoArchiveOptions): Promise<DemoArchive> {
  const archive = await startDemoArchive(options)
  opened.push(archive)
  return archive
}
afterEach(async () => {
  await Promise.all(opened.splice(0).map((archive) => archive.close()))
})

const pathOf = (id: string) => `/api/archive/results/${encodeURIComponent(id)}`
const ask = ({ baseUrl }: DemoArchive, id: string, init?: RequestInit) =>
  fetch(baseUrl + pathOf(id), { redirect: 'manual', ...init })
const read = async (archive: DemoArchive, id: string) =>
  (await (await ask(archive, id)).json()) as Record<string, unknown>

const summaryOf = ({ persona_profile: persona }: Record<string, unknown>) =>
  (persona as { summary: string }).summary

interface Scores {
  riasec: Record<string, number>
  ocean: Record<string, number>
  via_is: Record<string, number>
}

describe('an archive that generates', () => {
  it('has results for every assessment, the same each time and after a restart', async () => {
    const archive = await start({ generate: true })
    const first = await read(archive, 'a1')
    expect(first).toMatchObject({ assessment_id: 'a1', user_id: null })
    expect(summaryOf(first)).toMatch(/^You are /)
    expect(await read(archive, 'a1')).toEqual(first)
    expect(await read(await start({ generate: true }), 'a1')).toEqual(first)
    expect(await read(archive, 'a2')).not.toMatchObject({ riasec: first['riasec'] })
  })

  it('has whole ones: six types, five traits, 24 strengths, all from 0 to 100, and a date', async () => {
    const archive = await start({ generate: true })
    const results = (await read(archive, 'x')) as Record<string, unknown> & Scores
    expect(Object.keys(results.riasec)).toEqual(['R', 'I', 'A', 'S', 'E', 'C'])
    expect(Object.keys(results.ocean)).toEqual(['O', 'C', 'E', 'A', 'N'])
    expect(Object.keys(results.via_is)).toHaveLength(24)
    for (const score of [results.riasec, results.ocean, results.via_is].flatMap(Object.values)) {
      expect(score).toBeGreaterThanOrEqual(0)
      expect(score).toBeLessThanOrEqual(100)
    }
    expect(new Date(results['assessment_date'] as string).toISOString()).toBe(results['assessment_date'])
  })

  it('has people of all thirty kinds', async () => {
    const archive = await start({ generate: true })
    const kinds = new Set<string>()
    for (let n = 0; n < 400; n++) {
      const { riasec } = (await read(archive, `assessment-${n}`)) as unknown as Scores
      const letters = Object.entries(riasec).sort(([, one], [, other]) => other - one)
      kinds.add(
        letters
          .map(([letter]) => letter)
          .slice(0, 2)
          .join(''),
      )
    }
    expect(kinds.size).toBe(30)
  })

  it('writes Indonesian where the id ends in -id', async () => {
    const archive = await start({ generate: true })
    expect(summaryOf(await read(archive, 'a1-id'))).toMatch(/^Anda adalah seorang /)
  })
})

describe('what was put', () => {
  it('is answered as it is, object or text, and comes before what is generated', async () => {
    const archive = await start({ generate: true })
    archive.put('a/b 1', { riasec: { R: 1 } })
    archive.put('text', 'no JSON')
    expect(await read(archive, 'a/b 1')).toEqual({ riasec: { R: 1 } })
    expect(await (await ask(archive, 'text')).text()).toBe('no JSON')
  })

  it('is all there is, where nothing is generated: 404 for others, other methods and other paths', async () => {
    const archive = await start()
    archive.put('a1', {})
    expect((await ask(archive, 'a1')).status).toBe(200)
    expect((await ask(archive, 'a2')).status).toBe(404)
    expect((await ask(archive, 'a1', { method: 'DELETE' })).status).toBe(404)
    for (const path of [
      '/',
      '/api/archive/results/',
      '/api/archive/results/a1/more',
      '/api/archive/results/%',
    ])
      expect((await fetch(archive.baseUrl + path)).status).toBe(404)
  })

  it('is forgotten with all else', async () => {
    const archive = await start()
    archive.put('a1', {})
    archive.script({ kind: 'status', status: 503 })
    archive.forget()
    expect((await ask(archive, 'a1')).status).toBe(404)
    expect(archive.requests).toHaveLength(1)
  })
})

describe('a key', () => {
  it('opens, and nothing else does', async () => {
    const archive = await start({ serviceKey: 'k1', generate: true })
    const withKey = (authorization: string) => ask(archive, 'a1', { headers: { authorization } })
    expect((await withKey('Bearer k1')).status).toBe(200)
    expect((await withKey('Bearer k2')).status).toBe(401)
    expect((await ask(archive, 'a1')).status).toBe(401)
  })
})

it('keeps what it was asked: the path as it was sent, the key, the time', async () => {
  const archive = await start()
  const before = Date.now()
  await ask(archive, '../x', { headers: { authorization: 'Bearer k' } })
  await fetch(`${archive.baseUrl}/elsewhere`)
  expect(archive.requests).toMatchObject([
    { path: '/api/archive/results/..%2Fx', authorization: 'Bearer k' },
    { path: '/elsewhere', authorization: undefined },
  ])
  for (const { at } of archive.requests) {
    expect(at).toBeGreaterThanOrEqual(before)
    expect(at).toBeLessThanOrEqual(Date.now())
  }
})

describe('a script', () => {
  async function played(behaviour: ArchiveBehaviour) {
    const archive = await start()
    archive.script(behaviour)
    return ask(archive, 'a1')
  }

  it('is played once a request, in order, and then all is as before', async () => {
    const archive = await start({ generate: true })
    archive.script(...times(2, { kind: 'status', status: 503 }), { kind: 'status', status: 429 })
    const statuses: number[] = []
    for (let n = 0; n < 4; n++) statuses.push((await ask(archive, 'a1')).status)
    expect(statuses).toEqual([503, 503, 429, 200])
  })

  it('says any status, with headers', async () => {
    const response = await played({ kind: 'status', status: 429, headers: { 'retry-after': '7' } })
    expect(response.headers.get('retry-after')).toBe('7')
    expect((await played({ kind: 'status', status: 204 })).status).toBe(204)
  })

  it('redirects', async () => {
    const response = await played({ kind: 'redirect', to: 'http://127.0.0.1:1/' })
    expect(response.status).toBe(302)
    expect(response.headers.get('location')).toBe('http://127.0.0.1:1/')
  })

  it('breaks off: before an answer, or within it', async () => {
    await expect(played({ kind: 'cut' })).rejects.toThrow()
    const half = await played({ kind: 'half' })
    expect(half.status).toBe(200)
    await expect(half.text()).rejects.toThrow()
  })

  it('falls silent: before an answer, after its headers, within it, until it is closed', async () => {
    const archive = await start()
    archive.script({ kind: 'hang' }, { kind: 'hang', after: 'headers' }, { kind: 'hang', after: 'half' })
    const silent = ask(archive, 'a1')
    await expect.poll(() => archive.requests.length).toBe(1)
    const begun = [await ask(archive, 'a1'), await ask(archive, 'a1')]
    const ends = [silent, ...begun.map((response) => response.text())].map((end) =>
      end.then(
        () => 'answered',
        () => 'cut',
      ),
    )
    expect(await Promise.race([...ends, new Promise((resolve) => setImmediate(resolve, 'silent'))])).toBe(
      'silent',
    )
    await archive.close()
    expect(await Promise.all(ends)).toEqual(['cut', 'cut', 'cut'])
  })

  it('sends two megabytes of valid results', async () => {
    const text = await (await played({ kind: 'huge' })).text()
    expect(text.length).toBeGreaterThan(2_000_000)
    expect(JSON.parse(text)).toMatchObject({ assessment_id: 'a1' })
  })

  it('sends what is no JSON', async () => {
    await expect((await played({ kind: 'body' })).json()).rejects.toThrow()
    expect(await (await played({ kind: 'body', text: '<html>' })).text()).toBe('<html>')
  })

  it('spells in camelCase, or wraps', async () => {
    const spelled = (await (await played({ kind: 'camelCase' })).json()) as Record<string, object>
    expect(spelled).toMatchObject({ assessmentId: 'a1' })
    expect(spelled['viaIs']).toHaveProperty('loveOfLearning')
    expect(spelled['personaProfile']).toHaveProperty('careerRecommendations')
    expect(await (await played({ kind: 'wrapped' })).json()).toMatchObject({
      success: true,
      data: { assessment_id: 'a1' },
    })
  })
})

it('can be closed twice', async () => {
  const archive = await start()
  await Promise.all([archive.close(), archive.close()])
  await expect(ask(archive, 'a1')).rejects.toThrow()
})
