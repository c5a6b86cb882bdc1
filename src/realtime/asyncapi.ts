/**
 * Door of realtime: the asynchronous API document (AsyncAPI 3.0), made of the schemas that the frames are parsed with.
 *
 * It describes this server: it *receives* what a client sends, and *sends* what a client gets. A frame that is added to
 * protocol.ts appears here by itself; the compiler asks for its example, and for the sentence of a new close code.
 */
import { z } from 'zod'
import { notificationSchema } from '../notifications/schemas.ts'
import { inboundExamples, outboundExamples } from './asyncapi-examples.ts'
import {
  clientFrameSchema,
  closeCodes,
  serverFrameSchema,
  subprotocol,
  type CloseReason,
} from './protocol.ts'

/** @param options.basePath what all addresses begin with, such as `/api/chat`. */
export function asyncapiDocument({ basePath, version }: { basePath: string; version: string }) {
  const inbound = clientFrameSchema.options.map((schema) => describe(schema, inboundExamples))
  const outbound = serverFrameSchema.options.map((schema) => describe(schema, outboundExamples))
  const frames = [...inbound, ...outbound]
  const streamed = outbound.filter(({ op }) => streamedOps.has(op))
  return {
    asyncapi: '3.0.0',
    info: { title: 'Rivulet: the inbox and the socket', version, description, license: { name: 'MIT' } },
    defaultContentType: 'application/json',
    servers: {
      socket: { ...server, protocol: 'wss', description: 'Behind TLS.' },
      socket_local: { ...server, protocol: 'ws', description: 'On one’s own machine.' },
      stream: { ...server, protocol: 'https', description: 'Behind TLS.' },
      stream_local: { ...server, protocol: 'http', description: 'On one’s own machine.' },
    },
    channels: {
      socket: {
        address: `${basePath}/ws`,
        title: 'The socket',
        description: socketDescription,
        servers: [refer('servers', 'socket'), refer('servers', 'socket_local')],
        messages: messageRefs(frames),
        bindings: {
          ws: {
            method: 'GET',
            query: { type: 'object', properties: { ticket, cursor }, additionalProperties: false },
            headers: {
              type: 'object',
              properties: {
                'Sec-WebSocket-Protocol': { type: 'string', const: subprotocol },
                Authorization: {
                  type: 'string',
                  description: 'Instead of a ticket, where the client is no browser: `Bearer <token>`.',
                },
              },
              required: ['Sec-WebSocket-Protocol'],
            },
            bindingVersion: '0.1.0',
          },
        },
      },
      stream: {
        address: `${basePath}/notifications/stream`,
        title: 'The event stream',
        description: streamDescription,
        servers: [refer('servers', 'stream'), refer('servers', 'stream_local')],
        messages: messageRefs(streamed),
      },
    },
    operations: {
      ...Object.fromEntries(inbound.map((frame) => [frame.op, receive(frame)])),
      ...Object.fromEntries(outbound.map((frame) => [frame.op, send(frame)])),
      stream: {
        action: 'send',
        channel: refer('channels', 'stream'),
        summary: 'Server-Sent Events: what the socket would send, without rooms and answers.',
        messages: streamed.map(({ id }) => refer('channels/stream/messages', id)),
        bindings: {
          http: {
            method: 'GET',
            query: { type: 'object', properties: { ticket, cursor }, additionalProperties: false },
            bindingVersion: '0.3.0',
          },
        },
      },
    },
    components: {
      messages: Object.fromEntries(frames.map((frame) => [frame.id, messageOf(frame)])),
      schemas: jsonSchemas([...frames, { id: 'Notification', schema: notificationSchema }]),
      serverVariables: {
        host: { default: '127.0.0.1:3006', description: 'Where the server listens, or its proxy.' },
      },
      securitySchemes: {
        ticket: {
          type: 'httpApiKey',
          in: 'query',
          name: 'ticket',
          description: `From \`POST ${basePath}/ticket\`, with a token: \`{"for":"socket"}\` or \`{"for":"notifications"}\`.`,
        },
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
      },
    },
  }
}

const description = `One rule. **A frame with \`seq\` is stored before it is sent, and delivered at least once; a frame without \`seq\` may be lost.**

A client, in five lines:

1. Apply an event if \`seq > cursor\`, then store the cursor. The same \`id\` keeps its higher \`seq\`.
2. \`live\` moves the cursor. After it, \`prev > cursor\` or a heartbeat’s \`head > cursor\` is a gap: send one \`sync\`, and pass over events and \`live\` until its \`ok\`.
3. Answer heartbeats with an ack; ack otherwise when you like: it is cumulative.
4. \`reset\` drops the local list and reads it again, over HTTP or with \`list\`.
5. When it closes, come back after a random time of up to 0.5 s, doubled each time up to 30 s, unless the code says final.`

/** What a client is told of each close code; the compiler keeps it whole. */
const closeSentences: Record<CloseReason, string> = {
  restart: 'this instance restarts',
  expired: 'the token that it was opened with has expired: come back with a new ticket',
  slow: 'it does not read: what is missing waits in the database',
  resync: 'its log cannot be followed from here',
  no_heartbeat: 'no answer to a heartbeat for 10 s',
  rate: 'too many messages',
  revoked: 'a service withdrew its access',
  bad_frame: 'it sent what is no frame',
  forbidden: 'not for this client',
  replaced: 'its user has opened too many others since',
  version: `\`${subprotocol}\` is not among the subprotocols that it offered`,
}

const closeRows = Object.entries(closeCodes)
  .sort(([, a], [, b]) => a - b)
  .map(([reason, code]) => {
    const sentence = closeSentences[reason as CloseReason]
    return `| ${code} | \`${reason}\` | ${sentence} | ${code < 4500 ? 'yes' : 'no'} |`
  })
  .concat('| 1002, 1007, 1008, 1009 | | not the protocol; not UTF-8; in over 32 pieces; over 16 KiB | no |')

const socketDescription = `A WebSocket of subprotocol \`${subprotocol}\`: text frames, each one JSON object with an \`op\`. A frame from a client has at most 16 KiB.

Whatever refuses a client is told at the ticket (401, 403, 429), where a browser can read it. Why a socket is closed:

| code | reason | what | come back |
| --- | --- | --- | --- |
${closeRows.join('\n')}`

const streamDescription = `Server-Sent Events. Each event’s \`data\` is one frame as on the socket, and its \`id\` the cursor \`<epoch>.<seq>\`, which \`EventSource\` sends back as \`Last-Event-ID\`. There is no \`event\` field, and nothing to answer: read and archive over HTTP. Comments keep it open.`

const server = {
  host: '{host}',
  variables: { host: { $ref: '#/components/serverVariables/host' } },
  security: [
    { $ref: '#/components/securitySchemes/ticket' },
    { $ref: '#/components/securitySchemes/bearer' },
  ],
}

const ticket = { type: 'string', description: 'Stands for a user, once (socket) or for 10 minutes (stream).' }
const cursor = {
  type: 'string',
  pattern: '^[A-Za-z0-9]{1,20}\\.[0-9]{1,15}$',
  description: '`<epoch>.<seq>`: what the client has. Left out: it stands at the head.',
  examples: ['k3Vx0a2b.4180'],
}

/** What the event stream prints too. */
const streamedOps = new Set(['hello', 'event', 'live'])
type FrameSchema = (typeof clientFrameSchema.options | typeof serverFrameSchema.options)[number]

interface Frame {
  op: string
  id: string
  description: string | undefined
  schema: FrameSchema
  examples: readonly { summary: string; payload: object }[]
}

function describe(schema: FrameSchema, examples: Record<string, Frame['examples']>): Frame {
  const op = schema.shape.op.value
  const { id = op, description } = schema.meta() ?? {}
  return { op, id, description, schema, examples: examples[op] ?? [] }
}

const refer = (where: string, name: string) => ({ $ref: `#/${where}/${name}` })

const messageRefs = (frames: readonly Frame[]) =>
  Object.fromEntries(frames.map(({ id }) => [id, refer('components/messages', id)]))

const operationOf = ({ id, description }: Frame) => ({
  channel: refer('channels', 'socket'),
  ...(description !== undefined && { summary: description }),
  messages: [refer('channels/socket/messages', id)],
})

const send = (frame: Frame) => ({ action: 'send', ...operationOf(frame) })

const receive = (frame: Frame) => ({
  action: 'receive',
  ...operationOf(frame),
  // Who names it waits for an `ok` or an `error` that repeats it.
  ...('rid' in frame.schema.shape && {
    reply: {
      channel: refer('channels', 'socket'),
      messages: ['Ok', 'Error'].map((id) => refer('channels/socket/messages', id)),
    },
  }),
})

const messageOf = ({ op, id, description, schema, examples }: Frame) => ({
  name: op,
  title: id,
  ...(description !== undefined && { summary: description }),
  payload: refer('components/schemas', id),
  ...('rid' in schema.shape && { correlationId: { location: '$message.payload#/rid' } }),
  examples,
})

/** As JSON Schema, draft 7. Open to keys that are not named: clients meet servers that are newer than they are. */
function jsonSchemas(named: readonly { id: string; schema: z.ZodType }[]): Record<string, object> {
  const registry = z.registry<{ id: string }>()
  for (const { id, schema } of named) registry.add(schema, { id })
  const { schemas } = z.toJSONSchema(registry, {
    target: 'draft-7',
    io: 'input',
    uri: (id) => `#/components/schemas/${id}`,
  })
  // Here they are parts of one document: they have no address of their own.
  for (const schema of Object.values(schemas)) {
    delete schema.$id
    delete schema.$schema
  }
  return schemas
}
