/** Row level security is the wall: what it keeps apart, and that nobody is served when it does not stand. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sql, type SQL } from '../../src/db/sql.ts'
import { createPool, type Pool } from '../../src/db/pool.ts'
import { createTransactions, type Transactions } from '../../src/db/transact.ts'
import { inspectWall, type WallReport } from '../../src/db/wall.ts'
import { prepareDatabase, startCluster, type Cluster } from '../support/cluster.ts'
import { startUnready } from '../support/unready.ts'

let cluster: Cluster
let template: string

beforeAll(async () => {
  cluster = await startCluster()
  template = await cluster.create()
  await prepareDatabase(cluster.urlOf(template))
  for (const user of ['ann', 'bob']) await cluster.sql(template, rowsOf(user))
})
afterAll(() => cluster.stop())

const idOf = (user: string, kind: number) =>
  `01900000-0000-7000-8000-0000000000${user === 'ann' ? 1 : 2}${kind}`

/** One row in each table. */
const rowsOf = (user: string) => {
  const [conversation, message, generation, usage] = [0, 1, 2, 3].map((kind) => `'${idOf(user, kind)}'`)
  return `
    insert into chat.conversations (id, user_id, title, title_source, context_type, context_data, metadata)
      values (${conversation}, '${user}', 't', 'user', 'general', '{}', '{}');
    insert into chat.messages (conversation_id, id, user_id, sender_type, sender_id, content, content_type, status, metadata)
      values (${conversation}, ${message}, '${user}', 'user', '${user}', 'secret of ${user}', 'text', 'complete', '{}');
    insert into chat.generations (id, conversation_id, message_id, user_id, status, model)
      values (${generation}, ${conversation}, ${message}, '${user}', 'complete', 'm');
    insert into chat.message_reactions (conversation_id, message_id, user_id, reaction)
      values (${conversation}, ${message}, '${user}', 'like');
    insert into chat.usage_tracking (id, user_id, conversation_id, message_id, generation_id, model, prompt_tokens,
      completion_tokens, total_tokens, cost, is_free_model, source)
      values (${usage}, '${user}', ${conversation}, ${message}, ${generation}, 'm', 1, 1, 2, 0, true, 'reported');
    insert into chat.generation_chunks (generation_id, first_seq, last_seq, user_id, events)
      values (${generation}, 1, 1, '${user}', '[{}]');
    insert into chat.idempotency_keys (user_id, key, fingerprint, conversation_id)
      values ('${user}', 'key of ${user}', 'f', ${conversation});
    insert into chat.tickets (digest, user_id, tier, purpose, expires_at)
      values ('ticket of ${user}', '${user}', 'free', 'message:x', now());
    insert into chat.jobs (id, kind, key, user_id, payload)
      values (${usage}, 'k', 'of ${user}', '${user}', '{}');
    insert into chat.inbox_heads (user_id, epoch) values ('${user}', 'e');
    insert into chat.notifications (id, user_id, seq, type, priority, title, body, data, channels, expires_at)
      values (${message}, '${user}', 1, 'reminder', 'low', 'secret of ${user}', '', '{}', '{in_app}', now());
    insert into chat.notification_preferences (user_id, channels) values ('${user}', '{}');
    insert into chat.push_subscriptions (id, user_id, endpoint, p256dh, auth)
      values (${message}, '${user}', 'https://push/${user}', 'p', 'a');
    insert into chat.deliveries (notification_id, channel, target, user_id, status)
      values (${message}, 'email', '', '${user}', 'sent');
    insert into chat.webhook_targets (id, url, secret, user_id) values (${message}, 'https://hook', 's', '${user}');
    insert into chat.broadcasts (id, content, after_user_id) values (${message}, '{}', '${user}');
    insert into chat.processed_events (source, event_id, fingerprint) values ('s', '${user}', 'f');
    insert into chat.room_members (room, user_id) values ('team:x', '${user}');
    insert into chat.assessments (assessment_id, user_id, stage, occurred_at)
      values ('of ${user}', '${user}', 'complete', now());
    insert into chat.outbox (id, sink, routing_key, user_id, payload)
      values (${message}, 'exchange', 'k', '${user}', '{"of": "${user}"}');`
}
/** Tables of which a caller sees its own rows. */
const tables = [
  'conversations',
  'generation_chunks',
  'generations',
  'idempotency_keys',
  'inbox_heads',
  'message_reactions',
  'messages',
  'notification_preferences',
  'notifications',
  'push_subscriptions',
  'tickets',
  'usage_tracking',
]
/** And those of which it only reads them. */
const readOnly = ['assessments']
/** And those to which it may add, and nothing else. */
const addedTo = ['jobs', 'outbox']
/** And those that are no caller's at all. */
const closed = ['broadcasts', 'deliveries', 'processed_events', 'room_members', 'webhook_targets']
const allTables = [...tables, ...readOnly, ...addedTo, ...closed].toSorted()

describe('the catalogue', () => {
  it('forces row level security on every table of schema chat, with a policy for each role', async () => {
    const rows = await cluster.sql(
      template,
      `select relname as name, relrowsecurity and relforcerowsecurity as forced,
        array(select unnest(polroles)::regrole::text from pg_policy where polrelid = c.oid order by 1) as roles
      from pg_class c where relnamespace = 'chat'::regnamespace and relkind in ('r', 'p') order by 1`,
    )
    const rolesOf = (name: string) =>
      closed.includes(name) ? ['chat_system'] : ['chat_caller', 'chat_system']
    expect(rows).toEqual(allTables.map((name) => ({ name, forced: true, roles: rolesOf(name) })))
  })

  it('gives PUBLIC nothing', async () => {
    const rows = await cluster.sql(
      template,
      `select relname, grantee from pg_class, aclexplode(relacl) where relnamespace = 'chat'::regnamespace and grantee = 0
      union all select nspname, grantee from pg_namespace, aclexplode(nspacl) where nspname = 'chat' and grantee = 0`,
    )
    expect(rows).toEqual([])
  })
})

describe('a caller', () => {
  let pool: Pool
  let transactions: Transactions
  let name: string
  beforeAll(async () => {
    name = await cluster.create({ template })
    pool = createPool({ url: cluster.urlOf(name), max: 1, withinMs: 1_500 })
    transactions = createTransactions(pool, () => true)
  })
  afterAll(() => pool.close())

  const table = (of: string) => sql.raw(`chat.${of}`)
  const ownersSeenBy = async (userId: string, of: string) => {
    const rows = await transactions.asCaller({ userId }, (tx) =>
      tx.execute(sql`select user_id from ${table(of)}`),
    )
    return rows.map((row) => row['user_id'])
  }

  it.each([...tables, ...readOnly])('sees only its own rows of %s', async (of) => {
    expect(await ownersSeenBy('ann', of)).toEqual(['ann'])
    expect(await ownersSeenBy('bob', of)).toEqual(['bob'])
  })

  it.each([...tables, ...readOnly])(
    'sees nothing of %s as somebody else, as a pattern, or without an id',
    async (of) => {
      for (const userId of ['eve', '%', "' or true --", 'ANN', ' ann', ''])
        expect(await ownersSeenBy(userId, of), `as ${JSON.stringify(userId)}`).toEqual([])
    },
  )

  /** Whether it is refused or finds nothing: afterwards everything is as before. */
  async function changesNothing(attempt: SQL): Promise<void> {
    const everything = () =>
      Promise.all(allTables.map((of) => cluster.sql(name, `select * from chat.${of} t order by t::text`)))
    const before = await everything()
    await transactions.asCaller({ userId: 'ann' }, (tx) => tx.execute(attempt)).catch(() => undefined)
    expect(await everything()).toEqual(before)
  }

  it.each(allTables)('cannot change or delete another’s rows of %s', async (of) => {
    await changesNothing(sql`update ${table(of)} set user_id = user_id || '!' where user_id = 'bob'`)
    await changesNothing(sql`delete from ${table(of)} where user_id = 'bob'`)
    await changesNothing(sql`truncate ${table(of)} cascade`)
  })

  it.each(allTables)('cannot give its rows of %s to another', async (of) => {
    await changesNothing(sql`update ${table(of)} set user_id = 'bob'`)
  })

  it.each(tables)('cannot write rows of %s in another’s name', async (of) => {
    await changesNothing(sql`
      insert into ${table(of)} select (jsonb_populate_record(r, '{"user_id": "bob", "id": "${sql.raw(idOf('ann', 9))}"}')).*
      from ${table(of)} r`)
  })

  const isRefused = (attempt: SQL) =>
    expect(transactions.asCaller({ userId: 'ann' }, (tx) => tx.execute(attempt))).rejects.toMatchObject({
      code: '42501',
    })

  it.each(readOnly)('changes nothing of %s, of its own rows even, and adds none', async (of) => {
    await isRefused(sql`update ${table(of)} set user_id = 'ann'`)
    await isRefused(sql`delete from ${table(of)} where user_id = 'ann'`)
    await isRefused(sql`insert into ${table(of)} select * from ${table(of)}`)
    await isRefused(sql`select from ${table(of)} for update`)
  })

  it.each(addedTo)('reads nothing of %s, of its own rows even, and changes none', async (of) => {
    await isRefused(sql`select from ${table(of)}`)
    await isRefused(sql`update ${table(of)} set user_id = 'ann'`)
    await isRefused(sql`delete from ${table(of)}`)
  })

  it('adds events in its own name only, and is told nothing of them', async () => {
    const add = (userId: string | null, tail = sql.empty()) => sql`
      insert into chat.outbox (id, sink, routing_key, user_id, payload)
      values (gen_random_uuid(), 'exchange', 'more', ${userId}, '{}') ${tail}`
    await isRefused(add('bob'))
    await isRefused(add(null))
    await isRefused(add('ann', sql`returning id`))
    const added = async () =>
      (await cluster.sql(name, `select user_id from chat.outbox where routing_key = 'more'`)).length
    expect(await added()).toBe(0)
    await transactions.asCaller({ userId: 'ann' }, (tx) => tx.execute(add('ann')))
    expect(await added()).toBe(1)
    await cluster.sql(name, `delete from chat.outbox where routing_key = 'more'`)
  })

  it.each(closed)('cannot read %s, nor add to it', async (of) => {
    for (const attempt of [
      sql`select from ${table(of)}`,
      sql`insert into ${table(of)} select * from ${table(of)}`,
    ])
      await expect(
        transactions.asCaller({ userId: 'ann' }, (tx) => tx.execute(attempt)),
      ).rejects.toMatchObject({ code: '42501' })
  })

  it('adds work in its own name only, and can neither read, change nor take back any', async () => {
    const add = (userId: string | null, key: string, tail = sql.empty()) =>
      transactions.asCaller({ userId: 'ann' }, (tx) =>
        tx.execute(sql`insert into chat.jobs (id, kind, key, user_id, payload)
          values (gen_random_uuid(), 'k', ${key}, ${userId}, '{}') ${tail}`),
      )
    const keys = async () =>
      (await cluster.sql(name, 'select key from chat.jobs order by key')).map((row) => row['key'])
    await add('ann', 'more')
    // Whether one of that key was there already, another’s even, is not told.
    expect(await add('ann', 'of bob', sql`on conflict do nothing`)).toEqual([])
    expect(await keys()).toEqual(['more', 'of ann', 'of bob'])
    for (const [userId, key, tail] of [
      ['bob', 'forged', sql.empty()],
      [null, 'of nobody', sql.empty()],
      ['ann', 'seen', sql`returning id`],
      ['ann', 'of bob', sql`on conflict (kind, key) where status = 'queued' do update set user_id = 'ann'`],
    ] as const)
      await expect(add(userId, key, tail), key).rejects.toMatchObject({ code: '42501' })
    for (const attempt of [
      sql`select from chat.jobs`,
      sql`select count(*) from chat.jobs`,
      sql`delete from chat.jobs`,
      sql`update chat.jobs set run_at = now()`,
      sql`select id from chat.jobs for update skip locked`,
    ])
      await expect(
        transactions.asCaller({ userId: 'ann' }, (tx) => tx.execute(attempt)),
      ).rejects.toMatchObject({ code: '42501' })
    expect(await keys()).toEqual(['more', 'of ann', 'of bob'])
    await cluster.sql(name, `delete from chat.jobs where key = 'more'`)
  })

  it('cannot step out: no reset, no other role, no switching the policies off', async () => {
    for (const step of ['reset role', 'set role chat_system', 'set role none'])
      await transactions
        .asCaller({ userId: 'ann' }, async (tx) => {
          await tx.execute(sql.raw(step)).catch(() => undefined)
        })
        .catch(() => undefined)
    await changesNothing(sql`alter table chat.messages no force row level security`)
    await changesNothing(sql`drop policy messages_caller on chat.messages`)
  })

  it.each<
    [name: string, end: (tx: Parameters<Parameters<Transactions['asCaller']>[1]>[0]) => Promise<unknown>]
  >([
    ['was committed', (tx) => tx.execute(sql`select 1`)],
    ['threw', () => Promise.reject(new Error('on purpose'))],
    ['failed', (tx) => tx.execute(sql`select 1 / 0`)],
  ])('leaves nothing on its connection when its transaction %s', async (_name, end) => {
    await transactions.asCaller({ userId: 'ann' }, end).catch(() => undefined)
    const connection = await pool.lease()
    const { rows } = await connection.query(`
      select nullif(current_setting('app.current_user_id', true), '') as "user", current_user = session_user as own,
        current_setting('application_name') as app`)
    connection.release(false)
    expect(rows).toEqual([{ user: null, own: true, app: 'rivulet' }])
  })

  it('sees everything only as the system', async () => {
    const rows = await transactions.asSystem('a test', (tx) =>
      tx.execute(sql`select user_id from chat.messages`),
    )
    expect(rows).toHaveLength(2)
  })
})

async function inspect(database: string): Promise<WallReport> {
  const pool = createPool({ url: cluster.urlOf(database), max: 1, withinMs: 1_500 })
  const connection = await pool.lease()
  try {
    return await inspectWall(connection)
  } finally {
    connection.release(false)
    await pool.close()
  }
}

describe('a breach', () => {
  const owned = `user_id = nullif(current_setting('app.current_user_id', true), '')`
  const breaches: [name: string, breach: string, told: RegExp, mend?: string][] = [
    ...tables.flatMap((of): [string, string, RegExp][] => {
      const policy = `${of}_caller on chat.${of}`
      return [
        [`${of}: no force`, `alter table chat.${of} no force row level security`, RegExp(of)],
        [`${of}: disabled`, `alter table chat.${of} disable row level security`, RegExp(of)],
        [`${of}: the caller's policy dropped`, `drop policy ${policy}`, RegExp(of)],
        [`${of}: open to read`, `alter policy ${policy} using (true)`, RegExp(of)],
        [`${of}: open to write`, `alter policy ${policy} with check (true)`, RegExp(of)],
        [`${of}: a second policy for all`, `create policy extra on chat.${of} using (true)`, RegExp(of)],
        [`${of}: or true`, `alter policy ${policy} using (${owned} or true)`, RegExp(of)],
      ]
    }),
    ...readOnly.flatMap((of): [string, string, RegExp][] => {
      const policy = `${of}_caller on chat.${of}`
      return [
        [`${of}: no force`, `alter table chat.${of} no force row level security`, RegExp(of)],
        [`${of}: disabled`, `alter table chat.${of} disable row level security`, RegExp(of)],
        [`${of}: the caller's policy dropped`, `drop policy ${policy}`, RegExp(of)],
        [`${of}: open to read`, `alter policy ${policy} using (true)`, RegExp(of)],
        [`${of}: a second policy for all`, `create policy extra on chat.${of} using (true)`, RegExp(of)],
        [`${of}: or true`, `alter policy ${policy} using (${owned} or true)`, RegExp(of)],
      ]
    }),
    ...addedTo.flatMap((of): [string, string, RegExp][] => {
      const policy = `${of}_caller on chat.${of}`
      return [
        [`${of}: no force`, `alter table chat.${of} no force row level security`, RegExp(of)],
        [`${of}: disabled`, `alter table chat.${of} disable row level security`, RegExp(of)],
        [`${of}: open to write`, `alter policy ${policy} with check (true)`, RegExp(of)],
        [`${of}: or true`, `alter policy ${policy} with check (${owned} or true)`, RegExp(of)],
        [`${of}: a second policy for all`, `create policy extra on chat.${of} using (true)`, RegExp(of)],
        [`${of}: readable`, `grant select on chat.${of} to chat_caller; drop policy ${policy}`, RegExp(of)],
      ]
    }),
    ['a table without policies', 'create table chat.extra (id int)', /extra/],
    ['no tables', 'drop schema chat cascade; create schema chat', /no tables/],
    [
      'chat_caller bypasses',
      'alter role chat_caller bypassrls',
      /chat_caller/,
      'alter role chat_caller nobypassrls',
    ],
    [
      'chat_system bypasses',
      'alter role chat_system bypassrls',
      /chat_system/,
      'alter role chat_system nobypassrls',
    ],
    [
      'chat_caller is a superuser',
      'alter role chat_caller superuser',
      /chat_caller/,
      'alter role chat_caller nosuperuser',
    ],
    [
      'chat_caller is missing',
      'alter role chat_caller rename to gone',
      /chat_caller/,
      'alter role gone rename to chat_caller',
    ],
    [
      'chat_system is missing',
      'alter role chat_system rename to gone',
      /chat_system/,
      'alter role gone rename to chat_system',
    ],
    [
      'chat_caller inherits chat_system',
      'grant chat_system to chat_caller with inherit true',
      /another user|chat_caller/,
      'revoke chat_system from chat_caller',
    ],
  ]

  it.each(breaches)('%s: is reported', async (_name, breach, told, mend) => {
    const name = await cluster.create({ template })
    await cluster.sql(name, breach)
    try {
      expect((await inspect(name)).breaches.join('\n')).toMatch(told)
    } finally {
      if (mend !== undefined) await cluster.sql(name, mend)
    }
  })

  it('is not reported where there is none, and looking leaves nothing behind', async () => {
    const name = await cluster.create({ template })
    expect((await inspect(name)).breaches).toEqual([])
    expect(await cluster.sql(name, 'select 1 from chat.conversations')).toHaveLength(2)
  })

  it.each([
    ['of a table', 'alter table chat.messages no force row level security'],
    ['of a policy', 'drop policy conversations_caller on chat.conversations'],
  ])('%s: the service is not ready, and every route answers 503', async (_name, breach) => {
    const name = await cluster.create({ template })
    await cluster.sql(name, breach)
    const service = await startUnready(cluster.urlOf(name))
    try {
      await expect(service.app.prepared).rejects.toThrow()
      expect((await service.ann.get('/health/live')).status).toBe(200)
      expect(await service.ann.get('/health/ready')).toMatchObject({
        status: 503,
        body: { status: 'wall_breached' },
      })
      expect((await service.ann.get('/health')).status).toBe(503)
      const asked = await service.askEveryRoute()
      expect(asked.map(({ route, status }) => `${route}: ${status}`)).toEqual(
        asked.map(({ route }) => `${route}: 503`),
      )
      expect(asked.length).toBeGreaterThan(8)
      expect(JSON.stringify(asked)).not.toContain('secret of')
    } finally {
      await service.close()
    }
  })
})
