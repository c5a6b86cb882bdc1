// Where the embedded PostgreSQL's files are: its cluster, the cluster's password, and its log.
//
// Everything here is made under a temporary name and moved into place whole, so a crash half way or a twin
// doing the same at the same time leaves either nothing or the finished thing; whoever comes second uses the
// first one's. What is decided once (where the cluster lives, its password) is one file in the data
// directory, `postgres.json`, and is never decided again.

import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { canEnter, EmbeddedPostgresError, findServerUser, run } from './postgres-user.ts'
import type { ServerUser } from './postgres-user.ts'

export interface Place {
  dataDir: string
  /** absolute, symlinks resolved: what the system says of a server running there */
  cluster: string
  password: string
  logFile: string
  user: ServerUser
}

const systemHome = '/var/lib/rivulet'

// Longer than any copy or initdb takes: what is older was left by a crash.
const leftoverAgeMs = 10 * 60_000

export async function openPlace(dataDir: string): Promise<Place> {
  const user = await findServerUser()
  await makeDataDir(dataDir, user)
  const record = await readRecord(dataDir, user)
  if (record.elsewhere !== undefined && user === undefined) {
    throw new EmbeddedPostgresError(`The database of ${dataDir} was made by root: start as root to use it.`)
  }
  const parent = record.elsewhere === undefined ? dataDir : await makeSystemDirectory('data', 0o711)
  const cluster = join(await fs.realpath(parent), record.elsewhere ?? 'postgres')
  return {
    dataDir,
    cluster,
    password: record.password,
    logFile: join(dataDir, 'postgres.log'),
    user: await ownerOf(cluster, user),
  }
}

// 0700; for root 0710 with the server's group, who may pass through to the cluster but not look around.
// A twin that tried the door before it was opened would decide differently: hence whole.
async function makeDataDir(dataDir: string, user: ServerUser): Promise<void> {
  await fs.mkdir(dirname(dataDir), { recursive: true })
  await makeWhole(dataDir, async (staging) => {
    const made = join(staging, 'made')
    await fs.mkdir(made, { mode: 0o700 })
    if (user !== undefined) {
      await fs.chown(made, 0, user.gid)
      await fs.chmod(made, 0o710)
    }
    return made
  })
  if (user === undefined) return
  // One of ours that lost its group: copied, or unpacked, by root.
  const { uid, gid, mode } = await fs.stat(dataDir)
  if (uid === 0 && gid === 0 && (mode & 0o777) === 0o710) await fs.chown(dataDir, 0, user.gid)
}

const recordShape = z.object({
  password: z.string().min(1),
  /** the cluster's name under /var/lib/rivulet/data, where the server's user cannot enter the data directory */
  elsewhere: z
    .string()
    .regex(/^[0-9a-f]+$/)
    .optional(),
})

async function readRecord(dataDir: string, user: ServerUser): Promise<z.infer<typeof recordShape>> {
  const file = join(dataDir, 'postgres.json')
  if (!(await exists(file))) await writeRecord(file, dataDir, user)
  try {
    return recordShape.parse(JSON.parse(await fs.readFile(file, 'utf8')))
  } catch (error) {
    throw new EmbeddedPostgresError(`${file}, which holds the database's password, cannot be read.`, {
      cause: error,
    })
  }
}

async function writeRecord(file: string, dataDir: string, user: ServerUser): Promise<void> {
  if (await exists(join(dataDir, 'postgres'))) {
    throw new EmbeddedPostgresError(
      `${file}, which holds the password of the database beside it, is missing. ` +
        `Put it back, or delete ${dataDir} to begin with an empty database.`,
    )
  }
  const password = randomBytes(24).toString('base64url')
  const isReachable = await canEnter(dataDir, user)
  const record = isReachable ? { password } : { password, elsewhere: randomHex() }
  const temporary = `${file}.${randomHex()}.tmp`
  await fs.writeFile(temporary, JSON.stringify(record), { mode: 0o600, flush: true })
  // Unlike a rename, a link never replaces what a twin has put there: the first decision stands.
  await fs.link(temporary, file).catch((error: unknown) => {
    if (codeOf(error) !== 'EEXIST') throw error
  })
  await fs.rm(temporary)
}

// An existing cluster is served by whoever owns it: that stays right when a user "postgres" is installed
// later, or when root opens a cluster that a person made. One that root copied has lost its owner.
async function ownerOf(cluster: string, user: ServerUser): Promise<ServerUser> {
  const found = await fs.stat(cluster).catch(() => undefined)
  if (found === undefined || user === undefined) return user
  const owner = found.uid === 0 ? user : { uid: found.uid, gid: found.gid }
  if (found.uid === 0) await run('chown', ['-hR', `${user.uid}:${user.gid}`, cluster])
  if (await canEnter(cluster, owner)) return owner
  throw new EmbeddedPostgresError(
    `PostgreSQL does not run as root, and user ${owner.uid} cannot enter ${cluster}. ` +
      'Let others pass through the directories above it (chmod o+x), or set DATABASE_URL.',
  )
}

/**
 * Makes the cluster when it is missing. Only `isDurable` syncs it to disk: without, a power cut in the first
 * half minute may lose the cluster's own files and so everything stored meanwhile.
 */
export async function initCluster(place: Place, initdb: string, isDurable: boolean): Promise<void> {
  await makeWhole(place.cluster, async (staging) => {
    const passwordFile = join(staging, 'password')
    const made = join(staging, 'made')
    await fs.writeFile(passwordFile, place.password, { mode: 0o600 })
    if (place.user !== undefined) {
      await fs.chown(passwordFile, place.user.uid, place.user.gid)
      await fs.chown(staging, place.user.uid, place.user.gid)
    }
    const options = [`--pgdata=${made}`, `--pwfile=${passwordFile}`, ...(isDurable ? [] : ['--no-sync'])]
    await runInitdb(initdb, options, place.user)
    return made
  })
}

// PostgreSQL's own C.UTF-8 sorts, lowers and compares the same on every machine, without any locale
// installed. Only the text search parser still asks the system (LC_CTYPE): under plain C it takes every
// non-ASCII character for a letter, and “hello”—world becomes one word. Hence the best that is there.
const ctypes = ['C.UTF-8', 'en_US.UTF-8', 'C']

async function runInitdb(initdb: string, options: string[], user: ServerUser): Promise<void> {
  const fixed = [
    '--username=rivulet',
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--no-instructions',
  ]
  let output = ''
  for (const ctype of ctypes) {
    const tried = await run(initdb, [...options, ...fixed, `--lc-ctype=${ctype}`], user)
    if (tried.ok) return
    output = tried.output
    if (!/locale/i.test(output)) break
  }
  throw new EmbeddedPostgresError(`PostgreSQL could not make its database files: ${output}`)
}

/** /var/lib/rivulet itself ('') or a directory in it: for root, where every user can be let in. */
export async function makeSystemDirectory(name: '' | 'data', mode: number): Promise<string> {
  if (name !== '') await makeSystemDirectory('', 0o755)
  const path = join(systemHome, name)
  try {
    await fs.mkdir(path, { mode })
    await fs.chmod(path, mode) // the umask has cut mkdir's
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return path
    throw new EmbeddedPostgresError(
      'PostgreSQL does not run as root, and the user it runs as cannot enter this directory. Its files ' +
        `would go to ${systemHome}, which cannot be written (${codeOf(error) ?? 'unknown'}). ` +
        'Start as another user, or set DATABASE_URL.',
      { cause: error },
    )
  }
  return path
}

/**
 * Makes `target`, unless it is there, so that nobody ever sees half of it: `make` builds it in a private
 * directory beside it and returns its path. When a twin is first, the twin's stays.
 */
export async function makeWhole(target: string, make: (staging: string) => Promise<string>): Promise<void> {
  if (await exists(target)) return
  await removeLeftovers(target)
  const staging = `${target}.${randomHex()}.tmp`
  await fs.mkdir(staging, { mode: 0o700 })
  try {
    await fs.rename(await make(staging), target)
  } catch (error) {
    if (codeOf(error) !== 'ENOTEMPTY' && codeOf(error) !== 'EEXIST') throw error
  } finally {
    await fs.rm(staging, { recursive: true, force: true })
  }
}

async function removeLeftovers(target: string): Promise<void> {
  for (const name of await fs.readdir(dirname(target))) {
    if (!name.startsWith(`${basename(target)}.`) || !name.endsWith('.tmp')) continue
    const path = join(dirname(target), name)
    const found = await fs.stat(path).catch(() => undefined)
    if (found === undefined || Date.now() - found.mtimeMs < leftoverAgeMs) continue
    await fs.rm(path, { recursive: true, force: true })
  }
}

export async function exists(path: string): Promise<boolean> {
  return fs.stat(path).then(
    () => true,
    () => false,
  )
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}

function randomHex(): string {
  return randomBytes(8).toString('hex')
}
