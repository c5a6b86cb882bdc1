/** The asynchronous API document says what the schemas say, in a form that AsyncAPI's own tools accept. */
import specs from '@asyncapi/specs'
import { Ajv, type ValidateFunction } from 'ajv'
import fastify from 'fastify'
import { describe, expect, it } from 'vitest'
import { registerOpenapi, registerOpenapiPage } from '../../src/http/openapi.ts'
import { asyncapiDocument } from '../../src/realtime/asyncapi.ts'
import { clientFrameSchema, closeCodes, serverFrameSchema, subprotocol } from '../../src/realtime/protocol.ts'

const document = asyncapiDocument({ basePath: '/api/chat', version: '1.2.3' })
const opsOf = (schema: typeof clientFrameSchema | typeof serverFrameSchema) =>
  schema.options.map(({ shape }) => shape.op.value)
const directions = [
  { action: 'receive', schema: clientFrameSchema, ops: opsOf(clientFrameSchema) },
  { action: 'send', schema: serverFrameSchema, ops: opsOf(serverFrameSchema) },
]

/** The messages of one direction, with their examples. */
const messagesOf = (ops: readonly string[]) =>
  Object.entries(document.components.messages).filter(([, { name }]) => ops.includes(name))

const own = new Ajv({ strict: false, validateFormats: false })
own.addSchema({ $id: 'document:', components: document.components })
/** One of the document's own JSON schemas. */
const ownSchema = (id: string): ValidateFunction =>
  own.compile({ $ref: `document:#/components/schemas/${id}` })

describe('the document', () => {
  it('is AsyncAPI 3.0, by its official JSON schema', () => {
    // That schema brings the draft-07 meta schema along, under the same name as Ajv's own.
    const ajv = new Ajv({ meta: false, strict: false, validateSchema: false, validateFormats: false })
    const official: object = specs.schemas['3.0.0']
    const isAsyncapi = ajv.compile(official)
    isAsyncapi(JSON.parse(JSON.stringify(document)))
    expect(isAsyncapi.errors ?? []).toEqual([])
    expect(isAsyncapi({ ...document, channels: { socket: { address: 3 } } })).toBe(false)
  })

  it('refers to nothing that it does not have', () => {
    const refs = JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)
    const dangling = [...refs].flatMap(([, ref = '']) => (resolve(ref) === undefined ? [ref] : []))
    expect(dangling).toEqual([])
  })

  it.each(directions)('has one operation that $action:s each frame of $ops', ({ action, ops }) => {
    const operations = Object.entries(document.operations).filter(
      ([name, operation]) => operation.action === action && name !== 'stream',
    )
    expect(operations.map(([name]) => name).sort()).toEqual([...ops].sort())
    for (const [name, { messages }] of operations) {
      const [ref] = messages.map(({ $ref }) => resolve($ref) as { $ref: string })
      expect(resolve(ref?.$ref ?? '')).toMatchObject({ name })
    }
  })

  it('tells who is answered, and how: whoever may give a rid', () => {
    const answered = Object.entries(document.operations).flatMap(([name, operation]) =>
      'reply' in operation ? [name] : [],
    )
    const withRid = clientFrameSchema.options.filter(({ shape }) => 'rid' in shape)
    expect(answered.sort()).toEqual(withRid.map(({ shape }) => shape.op.value as string).sort())
  })

  it('says where the socket is, and what it is asked with', () => {
    const { socket, stream } = document.channels
    expect([socket.address, stream.address]).toEqual(['/api/chat/ws', '/api/chat/notifications/stream'])
    expect(Object.keys(socket.bindings.ws.query.properties)).toEqual(['ticket', 'cursor'])
    expect(socket.bindings.ws.headers.properties['Sec-WebSocket-Protocol'].const).toBe(subprotocol)
    expect(Object.keys(stream.messages)).toEqual(['Hello', 'Event', 'Live'])
  })

  it.each(Object.entries(closeCodes))(
    'tells of close code %s (%i), and whether to come back',
    (name, code) => {
      const row = document.channels.socket.description
        .split('\n')
        .find((line) => line.startsWith(`| ${code} | \`${name}\` |`))
      expect(row?.endsWith(code < 4500 ? '| yes |' : '| no |')).toBe(true)
    },
  )
})

describe.each(directions)('the examples of frames to $action', ({ schema, ops }) => {
  const examples = messagesOf(ops).flatMap(([id, { examples }]) =>
    examples.map(({ summary, payload }) => ({ id, summary, payload })),
  )

  it('are there for each frame', () => {
    expect(new Set(examples.map(({ id }) => id)).size).toBe(ops.length)
  })

  it.each(examples)('$id: "$summary" is what the server parses', ({ payload }) => {
    expect(schema.safeParse(payload).error?.issues ?? []).toEqual([])
  })

  it.each(examples)('$id: "$summary" is what the document’s own schema takes', ({ id, payload }) => {
    const isValid = ownSchema(id)
    isValid(payload)
    expect(isValid.errors ?? []).toEqual([])
    expect(isValid({ ...payload, op: 'nonsense' })).toBe(false)
  })
})

it('is served beside the API page, to everybody, and is no part of OpenAPI', async () => {
  const http = fastify()
  await registerOpenapi(http)
  await registerOpenapiPage(http, { asyncapi: document })
  const answer = await http.inject('/docs/asyncapi.json')
  expect(answer.statusCode).toBe(200)
  expect(answer.headers['content-type']).toBe('application/json; charset=utf-8')
  expect(answer.json()).toEqual(JSON.parse(JSON.stringify(document)))
  const { paths } = (await http.inject('/docs/openapi.json')).json<{ paths: Record<string, unknown> }>()
  expect(Object.keys(paths)).not.toContain('/docs/asyncapi.json')
  await http.close()
})

/** What a local reference points to. */
function resolve(ref: string): unknown {
  return ref
    .replace(/^#\//, '')
    .split('/')
    .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], document)
}
