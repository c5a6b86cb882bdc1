/** Migrations at the start: by a plain login, and by several instances at the same moment. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openDatabase, prepareDatabase, startCluster, type Cluster } from '../support/cluster.ts'
import { startUnready } from '../support/unready.ts'

let cluster: Cluster
beforeAll(async () => {
  cluster = await startCluster()
})
afterAll(() => cluster.stop())

const warnings = (logs: Record<string, unknown>[]) =>
  logs.filter(({ event }) => event === 'database_login_privileged')

async function createLogin(user: string, options = ''): Promise<{ user: string; password: string }> {
  await cluster.sql('postgres', `create role ${user} login nosuperuser nobypassrls password 'pw' ${options}`)
  return { user, password: 'pw' }
}

describe('a cluster that has never seen us', () => {
  it('4 instances at once on 4 databases, and again after all was dropped: all are served', async () => {
    for (let round = 1; round <= 5; round++) {
      const names = await Promise.all(Array.from({ length: 4 }, () => cluster.create()))
      await Promise.all(names.map((name) => prepareDatabase(cluster.urlOf(name))))
      const roles = await cluster.sql(
        'postgres',
        `select from pg_roles where rolname in ('chat_caller', 'chat_system')`,
      )
      expect(roles).toHaveLength(2)
      for (const name of names) await cluster.sql('postgres', `drop database ${name} with (force)`)
      await cluster.sql('postgres', 'drop role chat_caller, chat_system')
    }
  })

  it('a login with CREATEROLE and a database of its own migrates and serves, without a warning', async () => {
    const login = await createLogin('plain', 'createrole')
    const url = cluster.urlOf(await cluster.create({ owner: login.user }), login)
    expect(warnings(await prepareDatabase(url))).toEqual([])
    const service = await startUnready(url)
    try {
      await service.app.prepared
      expect((await service.ann.get('/health/ready')).status).toBe(200)
      const id = await service.ann.conversation()
      const sent = await service.ann.post(`/conversations/${id}/messages`, { content: 'Hello?' })
      expect(sent).toMatchObject({ status: 200, body: { assistant_message: { status: 'complete' } } })
    } finally {
      await service.close()
    }
  })

  it('is migrated once: a second start of the same login changes nothing', async () => {
    const login = { user: 'plain', password: 'pw' }
    const name = await cluster.create({ owner: login.user })
    const url = cluster.urlOf(name, login)
    const applied = () => cluster.sql(name, 'select * from drizzle.__drizzle_migrations order by id')
    await prepareDatabase(url)
    const first = await applied()
    await prepareDatabase(url)
    expect(await applied()).toEqual(first)
    expect(first.length).toBeGreaterThan(0)
  })
})

describe('a cluster that knows the roles', () => {
  it('a login without CREATEROLE, to whom they were granted, migrates and serves', async () => {
    const login = await createLogin('granted')
    await cluster.sql('postgres', 'grant chat_caller, chat_system to granted with inherit false, set true')
    const url = cluster.urlOf(await cluster.create({ owner: login.user }), login)
    expect(warnings(await prepareDatabase(url))).toEqual([])
  })

  it('a login that may not become them is never ready', async () => {
    const login = await createLogin('stranger')
    const { database } = openDatabase(cluster.urlOf(await cluster.create({ owner: login.user }), login))
    await expect(database.prepare(new AbortController().signal)).rejects.toThrow()
    expect(database.state()).not.toBe('ready')
    await database.close()
  })

  it.each([
    ['a superuser', 'superuser'],
    ['a login that bypasses row level security', 'bypassrls'],
  ])('%s is served, and warned about', async (_name, right) => {
    const login = await createLogin(`mighty_${right}`)
    await cluster.sql('postgres', `alter role ${login.user} ${right}`)
    await cluster.sql('postgres', `grant chat_caller, chat_system to ${login.user}`)
    const name = await cluster.create({ owner: login.user })
    expect(warnings(await prepareDatabase(cluster.urlOf(name, login)))).toHaveLength(1)
  })

  it('4 instances at once on one fresh database: one migrates, all are served', async () => {
    for (let round = 1; round <= 3; round++) {
      const name = await cluster.create()
      const url = cluster.urlOf(name)
      await Promise.all(Array.from({ length: 4 }, () => prepareDatabase(url)))
      const applied = await cluster.sql(name, 'select hash from drizzle.__drizzle_migrations')
      expect(new Set(applied.map(({ hash }) => hash)).size).toBe(applied.length)
      const held = `select 1 from pg_locks join pg_database d on d.oid = database
        where locktype = 'advisory' and datname = '${name}'`
      await expect.poll(() => cluster.sql(name, held)).toEqual([])
    }
  })
})
