/** Door of realtime: what services ask over HTTP: who is in a room, events nobody stores, who is here, who has to go. */
import type { FastifyInstance } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { noteMembers } from '../conversations/members.ts'
import type { Transactions } from '../db/database.ts'
import { AppError } from '../errors.ts'
import { queryInteger } from '../http/pagination.ts'
import { jsonObject } from '../http/text.ts'
import { emitTypeSchema, type EmitTarget } from './emit.ts'
import { roomSchema } from './protocol.ts'
import { addMembers, countMembers, listMembers, readOwner, removeMembers } from './queries.ts'
import { parseRoom, type RoomName } from './room-names.ts'
import type { InstanceRooms } from './rooms.ts'

/** A page of members, and what one change may name. */
const membersMax = 1_000
/** What one event may be sent to: to more go several, or a room. */
const usersMax = 1_000
const roomsMax = 100
const dataBytesMax = 32 * 1024
/** Two thousand ids, long ones too. */
const bodyBytesMax = 1024 * 1024
const userCharsMax = 255

/** As a token's `sub` may be: it is not trimmed, since nobody trims that. */
const userId = z
  .string()
  .min(1)
  .refine((text) => [...text].length <= userCharsMax, `must have at most ${userCharsMax} characters`)
  .refine(
    (text) => !text.includes('\0') && text.isWellFormed(),
    'must not contain NUL or half of a surrogate pair',
  )
const someUsers = z.array(userId).max(membersMax)

const membersBody = z
  .strictObject({ add: someUsers.default([]), remove: someUsers.default([]) })
  .refine(({ add, remove }) => add.length + remove.length > 0, 'add or remove somebody')
  .refine(
    ({ add, remove }) => new Set(add).isDisjointFrom(new Set(remove)),
    'nobody can be added and removed at once',
  )

const emitBody = z
  .strictObject({
    users: z.array(userId).min(1).max(usersMax).optional(),
    rooms: z.array(roomSchema).min(1).max(roomsMax).optional(),
    all: z.literal(true).optional(),
    type: emitTypeSchema,
    data: jsonObject.default({}),
  })
  .refine(
    ({ users, rooms, all }) => [users, rooms, all].filter((target) => target !== undefined).length === 1,
    'exactly one of users, rooms, all',
  )
  .refine(({ data }) => Buffer.byteLength(JSON.stringify(data)) <= dataBytesMax, {
    path: ['data'],
    message: `must have at most ${dataBytesMax} bytes as JSON`,
  })

const told = z.object({
  local: z.int().meta({ description: 'Sockets of the instance that answers; the others follow.' }),
})

export async function realtimeServiceRoutes(
  instance: FastifyInstance,
  { db, rooms }: { db: Transactions; rooms: InstanceRooms },
): Promise<void> {
  const app = instance.withTypeProvider<ZodTypeProvider>()
  const common = { onRequest: app.requireService, bodyLimit: bodyBytesMax }
  const params = z.object({ room: roomSchema })

  app.put(
    '/internal/rooms/:room/members',
    {
      ...common,
      schema: {
        summary: 'Say who may be in a room',
        description:
          'A room of a service, made by having members, or `conversation:<id>`: its members beside its owner. Who is removed leaves at once, on all instances.',
        tags: ['Realtime'],
        params,
        body: membersBody,
        response: {
          200: z.object({
            room: z.string(),
            members: z.int().meta({ description: 'How many there are now.' }),
          }),
        },
      },
    },
    async (request) => {
      const room = roomOf(request.params.room)
      const { add, remove } = request.body
      const members = await db.asSystem('room members', async (tx) => {
        const ownerId = room.kind === 'conversation' ? await readOwner(tx, room.of) : undefined
        if (room.kind === 'conversation' && ownerId === undefined)
          throw new AppError('conversation_not_found')
        return tx.commit(async () => {
          const [, , , count] = await Promise.all([
            removeMembers(tx, room.name, remove),
            // Owners are there anyhow, and cannot be removed.
            addMembers(
              tx,
              room.name,
              [...new Set(add)].filter((id) => id !== ownerId),
            ),
            room.kind === 'conversation' ? noteMembers(tx, room.of) : undefined,
            countMembers(tx, room.name),
          ])
          return count
        })
      })
      rooms.kick(room.name, remove)
      return { room: room.name, members }
    },
  )

  app.get(
    '/internal/rooms/:room/members',
    {
      ...common,
      schema: {
        summary: 'Members of a room',
        description: "In the order of their ids. A conversation's owner is not among them.",
        tags: ['Realtime'],
        params,
        querystring: z.object({
          limit: queryInteger(1, membersMax, membersMax),
          after_id: userId.optional(),
        }),
        response: {
          200: z.object({
            room: z.string(),
            members: z.array(z.string()),
            pagination: z.object({
              limit: z.int(),
              has_more: z.boolean(),
              after_id: z.string().nullable().meta({ description: 'Where the next page begins.' }),
            }),
          }),
        },
      },
    },
    async (request) => {
      const room = roomOf(request.params.room)
      const { limit, after_id } = request.query
      const found = await db.asSystem('room members', async (tx) => {
        if (room.kind === 'conversation' && (await readOwner(tx, room.of)) === undefined)
          throw new AppError('conversation_not_found')
        return tx.commit(() => listMembers(tx, room.name, after_id ?? '', limit + 1))
      })
      const members = found.slice(0, limit)
      const has_more = found.length > limit
      const after = has_more ? (members.at(-1) ?? null) : null
      return { room: room.name, members, pagination: { limit, has_more, after_id: after } }
    },
  )

  app.post(
    '/internal/realtime/emit',
    {
      ...common,
      schema: {
        summary: 'Tell sockets something that is not stored',
        description:
          'To people, to rooms, or to everybody who is connected, on all instances: dashboards, activity, collaboration. Who is not there, or does not read, misses it.',
        tags: ['Realtime'],
        body: emitBody,
        response: { 202: told },
      },
    },
    async (request, reply) => {
      const { type, data } = request.body
      return reply.code(202).send({ local: rooms.emit(targetOf(request.body), type, data) })
    },
  )

  app.get(
    '/internal/realtime/stats',
    {
      ...common,
      schema: {
        summary: 'Who is connected',
        description: 'Of other instances as they said last, within half a minute.',
        tags: ['Realtime'],
        response: {
          200: z.object({
            users_online: z.int().meta({ description: 'Distinct, over all instances.' }),
            sockets: z.int(),
            instances: z.array(z.object({ id: z.string(), sockets: z.int(), users: z.int() })),
          }),
        },
      },
    },
    async () => rooms.stats(),
  )

  app.post(
    '/internal/realtime/revoke',
    {
      ...common,
      schema: {
        summary: "Close people's sockets, for good",
        description: 'On all instances, with code 4500. Their tokens stay what they are.',
        tags: ['Realtime'],
        body: z.strictObject({ users: z.array(userId).min(1).max(usersMax) }),
        response: { 202: told },
      },
    },
    async (request, reply) => reply.code(202).send({ local: rooms.revoke(request.body.users) }),
  )
}

/** @throws AppError for what has no members of its own, or cannot be. */
function roomOf(text: string): RoomName {
  const room = parseRoom(text)
  if (room === undefined) throw new AppError('conversation_not_found')
  if (room.kind === 'user')
    throw new AppError('invalid_request', {
      detail: 'Nobody but its person can be in this room.',
      errors: [{ path: 'room', message: 'must not be of kind "user"' }],
    })
  return room
}

function targetOf({ users, rooms }: z.output<typeof emitBody>): EmitTarget {
  if (users !== undefined) return { users }
  return rooms === undefined ? { all: true } : { rooms }
}
