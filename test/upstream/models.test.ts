/** The catalogue: what a server tells of its models, what is made of it, and that nothing needs it. */
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { createCatalogue, type Catalogue } from '../../src/upstream/models.ts'
import { startService } from '../support/service.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
}

async function catalogueOf(answer: unknown, options: { refreshMs?: number } = {}): Promise<Catalogue> {
  const baseUrl = await serve((request, response) => {
    if (request.url !== '/v1/models') response.statusCode = 404
    response.end(typeof answer === 'string' ? answer : JSON.stringify(answer))
  })
  const catalogue = createCatalogue({ baseUrl, apiKey: 'test', log: pino({ level: 'silent' }), ...options })
  closers.push(() => catalogue.close())
  await catalogue.refresh()
  return catalogue
}

const priced = (id: string, prompt: unknown, completion: unknown, more: object = {}) => ({
  id,
  pricing: { prompt, completion, ...more },
})

describe('what is free and what is paid', () => {
  it('goes by the suffix, and by a price of zero that is told', async () => {
    const catalogue = await catalogueOf({
      data: [
        priced('zero', '0', '0.0'),
        priced('tiny', '0', '0.0000001'),
        priced('by-request', '0', '0', { request: '0.01' }),
        { id: 'untold' },
      ],
    })
    const ids = ['zero', 'tiny', 'by-request', 'untold', 'unlisted', 'unlisted:free']
    expect(ids.filter(catalogue.isFree)).toEqual(['zero', 'unlisted:free'])
    expect(ids.filter(catalogue.isPaid)).toEqual(['tiny', 'by-request', 'untold', 'unlisted'])
  })

  it('a server that tells no prices has neither, but for the suffix', async () => {
    const catalogue = await catalogueOf({ object: 'list', data: [{ id: 'llama3', object: 'model' }] })
    expect([catalogue.isFree('llama3'), catalogue.isPaid('llama3')]).toEqual([false, false])
    expect(catalogue.isFree('x:free')).toBe(true)
  })

  it.each(['https://openrouter.ai/api/v1', 'https://api.openai.com/v1', 'https://x.openai.azure.com/v1'])(
    '%s sells what it has, also before its catalogue was read',
    async (baseUrl) => {
      const catalogue = createCatalogue({ baseUrl, apiKey: 'test', log: pino({ level: 'silent' }) })
      expect(catalogue.isPaid('gpt')).toBe(true)
      expect(catalogue.isPaid('gpt:free')).toBe(false)
      await catalogue.close()
    },
  )
})

describe('what is read', () => {
  it('the entries that make sense, exactly; the others are left out', async () => {
    const catalogue = await catalogueOf({
      data: [
        {
          id: 'a',
          name: 'A\0',
          context_length: 8192,
          top_provider: { context_length: 4096 },
          pricing: { prompt: '0.00000015', completion: 1e-7 },
        },
        { id: 'b', context_length: -1, pricing: { prompt: 'free', completion: '1' } },
        { id: 7 },
        null,
        'c',
      ],
    })
    expect(catalogue.find('a')).toEqual({
      id: 'a',
      name: 'A',
      contextLength: 4096,
      pricing: { prompt: '0.00000015', completion: '0.0000001' },
    })
    expect(catalogue.find('b')).toEqual({ id: 'b', name: 'b', contextLength: null, pricing: null })
    expect(catalogue.find('c')).toBeUndefined()
  })

  it.each([
    ['a page', '<html>sign in</html>'],
    ['another shape', { models: [] }],
    ['nothing', ''],
  ])('%s is no catalogue, and changes nothing', async (_name, answer) => {
    const catalogue = await catalogueOf(answer)
    expect(await catalogue.refresh()).toBe(false)
    expect(catalogue.find('a')).toBeUndefined()
  })

  it('more than 16 MiB is not read to its end', async () => {
    let closed = false
    const baseUrl = await serve((_request, response) => {
      response.on('close', () => (closed = !response.writableFinished))
      const block = Buffer.alloc(1024 * 1024, ' ')
      const pour = (): void => {
        while (!response.destroyed && response.write(block));
        response.once('drain', pour)
      }
      pour()
    })
    const catalogue = createCatalogue({ baseUrl, apiKey: 'test', log: pino({ level: 'silent' }) })
    closers.push(() => catalogue.close())
    expect(await catalogue.refresh()).toBe(false)
    await expect.poll(() => closed).toBe(true)
  })

  it('again and again: what a later reading says is what counts, and one that fails keeps the last', async () => {
    const said = ['{"data":[{"id":"a"}]}', 'broken', '{"data":[{"id":"b"}]}']
    let readings = 0
    const baseUrl = await serve((_request, response) => response.end(said[Math.min(readings++, 2)]))
    const catalogue = createCatalogue({
      baseUrl,
      apiKey: 'test',
      log: pino({ level: 'silent' }),
      refreshMs: 20,
    })
    closers.push(() => catalogue.close())
    await catalogue.refresh()
    expect(catalogue.find('a')).toBeDefined()
    await expect.poll(() => catalogue.find('b')).toBeDefined()
    expect(catalogue.find('a')).toBeUndefined()
  })
})

describe('GET /api/chat/models', () => {
  interface Told {
    models: {
      id: string
      is_free: boolean
      default: boolean
      context_length: number | null
      pricing: unknown
    }[]
    chain: string[]
  }
  const env = {
    FALLBACK_MODEL: 'rivulet/demo-small:free',
    EMERGENCY_FALLBACK_MODEL: 'rivulet/demo-pro',
    ALLOWED_MODELS: 'maker/unlisted',
  }

  it('tells each tier what it may ask for, and who answers unless it does', async () => {
    const service = await startService({ env })
    closers.push(() => service.close())
    const ann = await service.as('ann')
    const eve = await service.as('eve', { tier: 'premium' })
    await expect
      .poll(async () => (await ann.get<Told>('/api/chat/models')).body.models[0]?.context_length)
      .toBe(32_768)
    const free = (await ann.get<Told>('/api/chat/models')).body
    expect(free.models).toMatchObject([
      { id: 'rivulet/demo:free', is_free: true, default: true, pricing: { prompt: '0', completion: '0' } },
      { id: 'rivulet/demo-small:free', is_free: true, default: false },
    ])
    expect(free.chain).toEqual(['rivulet/demo:free', 'rivulet/demo-small:free'])
    const premium = (await eve.get<Told>('/api/chat/models')).body
    expect(premium.models.map(({ id }) => id)).toEqual([...free.chain, 'rivulet/demo-pro', 'maker/unlisted'])
    expect(premium.chain).toEqual([...free.chain, 'rivulet/demo-pro'])
    expect(premium.models.at(-1)).toMatchObject({ context_length: null, pricing: null, is_free: false })
  })

  it('answers without a catalogue too: what the operator named', async () => {
    const baseUrl = await serve((_request, response) => {
      response.statusCode = 500
      response.end('broken')
    })
    const service = await startService({
      env,
      resolved: { upstream: { baseUrl, apiKey: 'test', defaultModel: 'llama3' } },
    })
    closers.push(() => service.close())
    const { status, body } = await (await service.as('ann')).get<Told>('/api/chat/models')
    expect(status).toBe(200)
    expect(body.chain).toEqual(['llama3', 'rivulet/demo-small:free'])
    expect(body.models[0]).toMatchObject({ id: 'llama3', name: 'llama3', context_length: null })
  })

  it('is for users', async () => {
    const service = await startService()
    closers.push(() => service.close())
    expect((await service.anonymous.get('/api/chat/models')).status).toBe(401)
  })
})
