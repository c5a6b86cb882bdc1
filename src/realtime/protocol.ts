/**
 * Door of realtime: the frames of subprotocol `rivulet.v1`, both ways, and why a socket is closed.
 *
 * A frame is one JSON object with an `op`. With `seq` it is stored and delivered at least once; without, it may be lost.
 * `docs/asyncapi.json` is made of these schemas.
 */
import { z } from 'zod'
import { notificationSchema, notificationStatuses } from '../notifications/schemas.ts'
import { notificationTypes } from '../notifications/kinds.ts'

export const subprotocol = 'rivulet.v1'

/** 4000–4499: come back, with a back-off. 4500–4999: do not. 1012: come back, this instance restarts. */
export const closeCodes = {
  restart: 1012,
  /** What it was opened with is no longer valid: a new ticket, then come back. */
  expired: 4001,
  /** It does not read: the rest waits in the database. */
  slow: 4008,
  /** Its log cannot be followed from here: come back, without a cursor if need be. */
  resync: 4010,
  no_heartbeat: 4012,
  rate: 4013,
  revoked: 4500,
  bad_frame: 4501,
  forbidden: 4503,
  /** Its user has opened as many others since. */
  replaced: 4504,
  version: 4505,
} as const
export type CloseReason = keyof typeof closeCodes

/** Repeated in the answer, so that a client knows what was answered. */
export const ridSchema = z.union([z.int(), z.string().min(1).max(64)]).optional()
const rid = ridSchema
const roomName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}:[\x21-\x7e]{1,200}$/, 'must be "<kind>:<name>"')
  .meta({ description: '`conversation:<id>`, or one that a service made.', examples: ['team:design'] })
export const roomSchema = roomName

export const presenceStates = ['online', 'away'] as const

/** Client → server. */
export const clientFrameSchema = z.discriminatedUnion('op', [
  z
    .strictObject({ op: z.literal('ack'), seq: z.int().min(0), rid })
    .meta({ id: 'Ack', description: 'It has everything up to here. Also the answer to a heartbeat.' }),
  z
    .strictObject({
      op: z.literal('read'),
      // As many as a message of 16 KiB has room for.
      ids: z.array(z.uuid()).min(1).max(400).optional(),
      up_to: z.int().min(0).optional(),
      rid,
    })
    .refine(({ ids, up_to }) => (ids === undefined) !== (up_to === undefined), 'either ids or up_to')
    .meta({ id: 'Read', description: 'These are read, or all up to a place in the log.' }),
  z
    .strictObject({
      op: z.literal('list'),
      status: z.enum(['all', 'unread', 'archived', ...notificationStatuses]).optional(),
      type: z.enum(notificationTypes).optional(),
      limit: z.int().min(1).max(100).optional(),
      cursor: z.string().max(200).optional(),
      rid,
    })
    .meta({
      id: 'List',
      description: 'As `GET …/notifications`; the answer is an `ok` that carries the page.',
    }),
  z
    .strictObject({ op: z.literal('join'), room: roomName, rid })
    .meta({ id: 'Join', description: 'Answered with who is present.' }),
  z.strictObject({ op: z.literal('leave'), room: roomName, rid }).meta({ id: 'Leave' }),
  z
    .strictObject({ op: z.literal('typing'), room: roomName, typing: z.boolean().default(true), rid })
    .meta({ id: 'Typing', description: 'Told to the others in the room; it ends by itself after 6 s.' }),
  z
    .strictObject({ op: z.literal('presence'), state: z.enum(presenceStates), rid })
    .meta({ id: 'Presence', description: 'Of this device: a person is online where one device is.' }),
  z.strictObject({ op: z.literal('sync'), seq: z.int().min(0).optional(), rid }).meta({
    id: 'Sync',
    description: 'It has a gap: everything behind `seq` (default: its last ack) comes again.',
  }),
  z.strictObject({ op: z.literal('ping'), rid }).meta({ id: 'Ping', description: 'Answered with `ok`.' }),
])
export type ClientFrame = z.output<typeof clientFrameSchema>

/** Server → client. */
export const serverFrameSchema = z.discriminatedUnion('op', [
  z
    .object({
      op: z.literal('hello'),
      v: z.literal(1),
      epoch: z.string(),
      head: z.int(),
      unread: z.int(),
      heartbeat: z.int().meta({ description: 'Seconds between two heartbeats.' }),
      mode: z.enum(['resume', 'fresh', 'reset']),
    })
    .meta({
      id: 'Hello',
      description:
        '`resume`: what is behind the cursor follows. `fresh`, `reset`: it stands at the head; the list is to be read (again).',
    }),
  z
    .object({
      op: z.literal('event'),
      seq: z.int().optional(),
      prev: z.int().optional(),
      id: z.uuid().optional(),
      type: z.string(),
      time: z.iso.datetime().optional(),
      unread: z.int().optional(),
      room: z.string().optional(),
      data: z.union([notificationSchema, z.record(z.string(), z.unknown())]),
    })
    .meta({
      id: 'Event',
      description:
        'With `seq`: durable, `data` is a Notification, `prev` the event before it on this socket. Without: volatile, of a room where it names one.',
    }),
  z
    .object({ op: z.literal('live'), seq: z.int() })
    .meta({ id: 'Live', description: 'The replay is done: this is where the client stands now.' }),
  z
    .object({ op: z.literal('heartbeat'), head: z.int() })
    .meta({ id: 'Heartbeat', description: 'To be acked within 10 s.' }),
  z
    .looseObject({ op: z.literal('ok'), rid })
    .meta({ id: 'Ok', description: 'Done. Of a `list`: its page; of a `join`: who is present.' }),
  z
    .object({ op: z.literal('error'), rid, code: z.string(), message: z.string() })
    .meta({ id: 'Error', description: 'A code of the catalogue, and a sentence.' }),
])
export type ServerFrame = z.output<typeof serverFrameSchema>
