/** Processes that are killed in the middle: nothing is lost, and what is sent twice can be told to be the same. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startBroadcast } from '../../src/notifications/broadcast.ts'
import { noteConnected } from '../../src/notifications/heads.ts'
import { eventually } from '../support/jobs.ts'
import { contentOf } from '../support/content.ts'
import { startNotices, type Notices } from '../support/notices.ts'
import { startMailServer, type MailServer } from '../support/smtp.ts'

let notices: Notices
let mail: MailServer
const victims = new Set<ChildProcess>()
beforeEach(async () => {
  notices = await startNotices()
  mail = await startMailServer()
})
afterEach(async () => {
  for (const victim of victims) await kill(victim)
  await notices.close()
  await mail.close()
})

async function startVictim(chunkUsers = 1_000): Promise<ChildProcess> {
  const program = join(import.meta.dirname, '../support/notices-victim.ts')
  const victim = spawn(process.execPath, [program, notices.url, mail.url, String(chunkUsers)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  victims.add(victim)
  await once(victim.stdout, 'data')
  return victim
}

async function kill(victim: ChildProcess): Promise<void> {
  victims.delete(victim)
  if (victim.exitCode !== null || victim.signalCode !== null) return
  const gone = once(victim, 'exit')
  victim.kill('SIGKILL')
  await gone
}

it(
  'between sending a letter and noting it: it is sent again as the same letter',
  { timeout: 60_000 },
  async () => {
    const ann = await notices.person('ann@example.com')
    // Noting that something is sent takes for ever.
    await notices.sql.unsafe(`
      create function chat.wait() returns trigger language plpgsql as 'begin perform pg_sleep(60); return new; end';
      create trigger slow before update on chat.deliveries for each row when (new.status = 'sent') execute function chat.wait()`)
    const victim = await startVictim()
    const idle = notices.instance({ email: { smtpUrl: mail.url, from: 'hello@example.com' } })
    await idle.jobs.close()
    await idle.send(ann, { channels: ['email'] })
    await eventually(
      () => notices.sql`select from pg_stat_activity where wait_event = 'PgSleep'`,
    ).toHaveLength(1)
    await kill(victim)
    await notices.sql`select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'`
    await notices.sql`drop trigger slow on chat.deliveries`
    expect(mail.letters).toHaveLength(1)
    expect(await notices.deliveries()).toMatchObject([{ status: 'queued', attempts: 1 }])
    notices.instance({ email: { smtpUrl: mail.url, from: 'hello@example.com' } })
    await eventually(() => notices.deliveries()).toMatchObject([{ status: 'sent', attempts: 2 }])
    const ids = mail.letters.map(({ headers }) => headers.get('message-id'))
    expect([ids.length, new Set(ids).size]).toEqual([2, 1])
  },
)

it(
  'while it broadcasts, again and again: nobody is missed, and nobody told twice',
  { timeout: 120_000 },
  async () => {
    const people = Array.from({ length: 600 }, (_, n) => `user-${n}`)
    await notices.database.asSystem('test', (tx) => noteConnected(tx, people))
    const id = await notices.database.asSystem('test', (tx) =>
      startBroadcast(tx, { content: contentOf({ title: 'all' }), expiresAt: null, sendAt: null }),
    )
    const told = async () => (await notices.sql`select from chat.notifications`).length
    const patience = { timeout: 20_000, interval: 2 }
    for (let killed = 0; killed < 4; killed++) {
      const before = await told()
      const victim = await startVictim(10)
      await expect.poll(told, patience).toBeGreaterThan(before)
      await kill(victim)
    }
    expect(await told()).toBeLessThan(600)
    notices.instance({ broadcastChunkUsers: 50 })
    const row = async () =>
      (await notices.sql`select sent, finished_at is not null as finished from chat.broadcasts`)[0]
    await expect.poll(row, patience).toEqual({ sent: 600, finished: true })
    const got = await notices.sql<
      { user_id: string }[]
    >`select user_id from chat.notifications where title = 'all'`
    expect(got.map(({ user_id }) => user_id).toSorted()).toEqual(people.toSorted())
    const heads = await notices.sql`select seq, unread from chat.inbox_heads where seq <> 1 or unread <> 1`
    expect([heads, id.length]).toEqual([[], 36])
  },
)
