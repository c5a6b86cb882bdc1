// Who the embedded PostgreSQL runs as, and what that user can do. PostgreSQL refuses to run as root, so for
// root it is another user, who may not be able to enter the directories that root can. Mode bits do not tell
// (parents, mounts, access lists): we try, as that user.

import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError'
}

/** Undefined stands for ourselves. */
export type ServerUser = { uid: number; gid: number } | undefined

export async function findServerUser(): Promise<ServerUser> {
  if (process.getuid?.() !== 0) return undefined
  const passwd = await readFile('/etc/passwd', 'utf8').catch(() => '')
  for (const name of ['postgres', 'nobody']) {
    const entry = passwd.split('\n').find((line) => line.startsWith(`${name}:`))
    const [, , uid, gid] = entry?.split(':') ?? []
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) }
    // Not in the file: a directory service, or macOS.
    const [user, group] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])])
    if (user.ok && group.ok) return { uid: Number(user.output), gid: Number(group.output) }
  }
  throw new EmbeddedPostgresError(
    'PostgreSQL does not run as root, and this system has neither a user "postgres" nor "nobody". ' +
      'Start as another user, or set DATABASE_URL.',
  )
}

export async function canEnter(directory: string, user: ServerUser): Promise<boolean> {
  return (await run('/bin/sh', ['-c', 'cd -- "$1"', 'sh', directory], user)).ok
}

/** For children: nothing of the person's own PG* variables, messages in English, a directory all can enter. */
export const childSurroundings = { cwd: '/', env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } }

const execute = promisify(execFile)

/** Runs a command to its end. `output` is what it printed, or why it failed. */
export async function run(
  command: string,
  args: string[],
  user?: ServerUser,
): Promise<{ ok: boolean; output: string }> {
  try {
    const { stdout } = await execute(command, args, { ...childSurroundings, ...user })
    return { ok: true, output: stdout.trim() }
  } catch (error) {
    const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : ''
    return { ok: false, output: stderr === '' ? String(error) : stderr }
  }
}
