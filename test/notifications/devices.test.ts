/**
 * Five devices of each of a few people, and whatever can happen to an inbox, in any order: each device ends with what the
 * inbox holds, and its badge is the count. `DEVICE_OPERATIONS=100000` for the long run; `SEED` to see one again.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Tx } from '../../src/db/database.ts'
import { AppError } from '../../src/errors.ts'
import type { Content } from '../../src/notifications/inbox.ts'
import { appear, expire, purge } from '../../src/notifications/lifetime.ts'
import { readAfter, type Cursor } from '../../src/notifications/log.ts'
import { listNotifications } from '../../src/notifications/queries.ts'
import type { Notification } from '../../src/notifications/schemas.ts'
import { randomOf, type Random } from '../soak/random.ts'
import { contentOf } from '../support/content.ts'
import { startNotices, type Instance, type Notices } from '../support/notices.ts'

const operations = Number(process.env['DEVICE_OPERATIONS'] ?? 10_000)
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const people = ['ann', 'bob', 'cleo', 'dan']
const devicesEach = 5
/** Operations at once: of one person, too. */
const atOnce = 8

let notices: Notices
let instance: Instance
beforeAll(async () => {
  notices = await startNotices()
  instance = notices.instance({}, { pollMs: 600_000 })
})
afterAll(() => notices.close())

interface Device {
  userId: string
  cursor: Cursor | undefined
  rows: Map<string, Notification>
  unread: number
  resets: number
}

/** A busy machine may be too slow for a connection, or for a lock, in time: nothing that this is about. */
const isBusy = (error: unknown) => error instanceof AppError && error.code === 'database_unavailable'

async function asSystem<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++)
    try {
      return await notices.database.asSystem('test', fn)
    } catch (error) {
      if (!isBusy(error) || tried === 20) throw error
    }
}
const idsOf = (device: Device) => [...device.rows.keys()]

/** What a client does: a page behind its cursor; where that means nothing any more, the list anew. */
async function look(device: Device, limit: number): Promise<boolean> {
  const { userId, cursor } = device
  const [page] = await asSystem((tx) => tx.commit(() => readAfter(tx, [{ userId, cursor }], limit)))
  if (page === undefined) return false
  if (cursor === undefined || !page.known) {
    const {
      notifications,
      unread,
      cursor: at,
    } = await asSystem((tx) => listNotifications(tx, userId, { status: 'all', limit: 100_000 }))
    device.rows = new Map(notifications.map((row) => [row.id, row]))
    device.unread = unread
    device.cursor = { epoch: page.epoch, seq: Number(at?.split('.')[1]) }
    device.resets++
    return true
  }
  device.unread = page.unread
  for (const row of page.rows) {
    expect(row.seq ?? 0).toBeGreaterThan(device.cursor?.seq ?? 0)
    device.cursor = { epoch: page.epoch, seq: row.seq ?? 0 }
    if (row.removed) device.rows.delete(row.id)
    else device.rows.set(row.id, row)
  }
  return page.rows.length === limit
}

async function operate(random: Random, devices: readonly Device[]): Promise<string> {
  const device = devices[random.int(0, devices.length - 1)]
  if (device === undefined) return ''
  const { userId } = device
  const soon = () => new Date(Date.now() + random.int(-5, 30)).toISOString()
  const content = (): Partial<Content> => ({
    title: String(random.int(0, 3)),
    progress: random.chance(0.5) ? random.int(0, 4) * 25 : null,
  })
  const some = () => idsOf(device).filter(() => random.chance(0.2))
  switch (random.int(0, 11)) {
    case 0:
    case 1:
      await instance.send(userId, content(), random.chance(0.6) ? { expiresAt: soon() } : {})
      return 'publish'
    case 2:
    case 3:
      await instance.send(userId, content(), { dedupeKey: `key ${random.int(0, 5)}` })
      return 'publish under a key'
    case 4:
      await instance.send(userId, content(), {
        scheduledAt: soon(),
        dedupeKey: random.chance(0.5) ? `key ${random.int(0, 5)}` : null,
      })
      return 'schedule'
    case 5:
      await instance.inbox.notify(
        Array.from({ length: random.int(2, 12) }, () => ({
          userId: people[random.int(0, people.length - 1)] ?? '',
          content: contentOf(content()),
          expiresAt: random.chance(0.6) ? soon() : null,
          dedupeKey: random.chance(0.3) ? `key ${random.int(0, 5)}` : null,
        })),
      )
      return 'publish many'
    case 6:
      await instance.inbox.mark({ userId }, { ids: some() }, 'read')
      return 'read'
    case 7:
      await instance.inbox.mark(
        { userId },
        { upTo: device.cursor?.seq ?? 0 },
        random.chance(0.3) ? 'read' : 'archived',
      )
      return 'mark up to'
    case 8:
      await instance.inbox.mark({ userId }, { ids: some() }, 'archived')
      return 'archive'
    case 9:
      if (random.chance(0.5)) await asSystem((tx) => expire(tx, random.chance(0.5) ? userId : undefined))
      else await asSystem(appear)
      return 'time'
    case 10:
      // Tombstones are kept for a month; here some go at once, so that cursors become too old.
      if (random.chance(0.02)) await asSystem((tx) => purge(tx, 0))
      return 'purge'
    default:
      await look(device, random.int(1, 20))
      return 'look'
  }
}

it(
  `${operations} operations on ${devicesEach} devices of ${people.length} people, seed ${seed}`,
  { timeout: 1_800_000 },
  async ({ annotate }) => {
    const devices = people.flatMap((userId) =>
      Array.from({ length: devicesEach }, (): Device => ({
        userId,
        cursor: undefined,
        rows: new Map(),
        unread: 0,
        resets: 0,
      })),
    )
    // Devices of one are looked at by one at a time, as a device looks at itself.
    const busy = new Set<Device>()
    const done: Record<string, number> = {}
    const startedAt = performance.now()
    let left = operations
    const work = async (worker: number) => {
      const random = randomOf(seed, 'devices', worker)
      while (left-- > 0) {
        const free = devices.filter((device) => !busy.has(device))
        const mine = free[random.int(0, free.length - 1)]
        if (mine === undefined) continue
        busy.add(mine)
        const what = await operate(random, [mine])
          .catch((error: unknown) => {
            if (isBusy(error)) return 'not in time'
            throw error
          })
          .finally(() => busy.delete(mine))
        done[what] = (done[what] ?? 0) + 1
      }
    }
    await Promise.all(Array.from({ length: atOnce }, (_, worker) => work(worker)))
    // Everything that is due by now happens, and then each device looks until there is no more.
    await delay(40)
    while ((await asSystem(appear)).appeared.length > 0);
    while ((await asSystem((tx) => expire(tx))).expired > 0);
    for (const device of devices) while (await look(device, 20));

    for (const userId of people) {
      const stored = await asSystem((tx) => listNotifications(tx, userId, { status: 'all', limit: 100_000 }))
      const [counted] = await notices.sql<{ unread: number; n: number }[]>`
      select count(*) filter (where read_at is null and archived_at is null)::int as unread, count(*)::int as n
      from chat.notifications where user_id = ${userId} and seq is not null and removed_at is null`
      const inOrder = (rows: Iterable<Notification>) =>
        [...rows].toSorted((one, other) => (one.id < other.id ? -1 : 1))
      const expected = inOrder(stored.notifications)
      expect(expected).toHaveLength(counted?.n ?? -1)
      for (const device of devices.filter((one) => one.userId === userId)) {
        expect(device.unread, `the badge of ${userId}`).toBe(counted?.unread)
        expect(inOrder(device.rows.values())).toEqual(expected)
      }
    }
    const resets = devices.reduce((sum, device) => sum + device.resets - 1, 0)
    await annotate(
      `seed ${seed}: ${operations} operations in ${((performance.now() - startedAt) / 1_000).toFixed(1)} s, ${resets} resets: ${JSON.stringify(done)}`,
    )
  },
)
