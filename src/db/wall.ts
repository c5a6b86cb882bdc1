/**
 * Does the wall stand? Row level security is what keeps one user's rows from another, so it is proven at every
 * start, by what the catalogue says and by trying, before anything can reach a table.
 */
import { v7 as uuidv7 } from 'uuid'
import type { Connection } from './pool.ts'

export interface WallReport {
  /** Empty: it stands. Otherwise what is wrong, in words for the operator. */
  breaches: string[]
  /** What weakens the second line of defence, though the wall stands. */
  warnings: string[]
}

/** What a policy for callers says, as PostgreSQL prints it. */
const ownRows = "(user_id = NULLIF(current_setting('app.current_user_id'::text, true), ''::text))"

export async function inspectWall(connection: Connection): Promise<WallReport> {
  const breaches: string[] = []
  const warnings: string[] = []

  const { rows: roles } = await connection.query<{
    rolname: string
    rolsuper: boolean
    rolbypassrls: boolean
    current: boolean
  }>(`
    select rolname, rolsuper, rolbypassrls, rolname = current_user as current from pg_roles
    where rolname in ('chat_caller', 'chat_system', current_user)`)
  for (const name of ['chat_caller', 'chat_system']) {
    const role = roles.find(({ rolname }) => rolname === name)
    if (role === undefined) breaches.push(`role ${name} is missing`)
    else if (role.rolsuper || role.rolbypassrls) breaches.push(`role ${name} may bypass row level security`)
  }
  const login = roles.find(({ current }) => current)
  if (login?.rolsuper === true || login?.rolbypassrls === true)
    warnings.push(
      `the database login ${login.rolname} is a superuser or may bypass row level security: give the service a plain login`,
    )

  const { rows: tables } = await connection.query<{ relname: string; forced: boolean; unguarded: string[] }>(`
    select relname, relrowsecurity and relforcerowsecurity as forced,
      array(
        select 'public' where has_table_privilege('public', pg_class.oid, 'select')
        union all
        select rolname::text from pg_roles
        where rolname in ('chat_caller', 'chat_system') and has_table_privilege(pg_roles.oid, pg_class.oid, 'select')
          and not exists (select from pg_policy where polrelid = pg_class.oid and polroles = array[pg_roles.oid])
      ) as unguarded
    from pg_class where relnamespace = 'chat'::regnamespace and relkind in ('r', 'p')`)
  if (tables.length === 0) breaches.push('schema chat has no tables')
  for (const { relname, forced, unguarded } of tables) {
    if (!forced) breaches.push(`table chat.${relname} has no forced row level security`)
    for (const role of unguarded)
      breaches.push(`table chat.${relname} may be read by ${role}, for whom it has no policy`)
  }
  const { rows: open } = await connection.query<{ tablename: string; policyname: string }>(
    `select tablename, policyname from pg_policies where schemaname = 'chat' and roles <> array['chat_system'::name]
      and (roles, coalesce(qual, $1), coalesce(with_check, $1)) is distinct from (array['chat_caller'::name], $1, $1)`,
    [ownRows],
  )
  for (const { tablename, policyname } of open)
    breaches.push(`policy ${policyname} of table chat.${tablename} lets callers beyond their own rows`)
  if (breaches.length === 0) breaches.push(...(await tryToClimb(connection)))
  return { breaches, warnings }
}

/** One user's conversation, looked for as another user, as nobody, and by a forged owner; then rolled back. */
async function tryToClimb(connection: Connection): Promise<string[]> {
  const breaches: string[] = []
  const id = uuidv7()
  const become = (userId: string) =>
    connection.query(
      `select set_config('role', 'chat_caller', true), set_config('app.current_user_id', $1, true)`,
      [userId],
    )
  const insert = (rowId: string) =>
    connection.query(
      `insert into chat.conversations (id, user_id, title, title_source, context_type, context_data, metadata)
       values ($1, 'wall-check-owner', 'wall check', 'default', 'general', '{}', '{}')`,
      [rowId],
    )
  const read = () => connection.query('select 1 from chat.conversations where id = $1', [id])

  await connection.query('begin')
  try {
    await become('wall-check-owner')
    await insert(id)
    if ((await read()).count !== 1) breaches.push('a user cannot see their own rows')
    for (const [userId, who] of [
      ['wall-check-stranger', 'another user'],
      ['', 'nobody'],
    ] as const) {
      await become(userId)
      if ((await read()).count !== 0) breaches.push(`${who} can read a user's rows`)
      const changed = await connection.query(`update chat.conversations set title = 'x' where id = $1`, [id])
      if (changed.count !== 0) breaches.push(`${who} can change a user's rows`)
    }
    await become('wall-check-stranger')
    // The refusal that is hoped for aborts the transaction, which ends here anyway.
    const forged = await insert(uuidv7()).catch(() => undefined)
    if (forged !== undefined) breaches.push("a user can write rows in another's name")
  } finally {
    await connection.query('rollback')
  }
  return breaches
}
