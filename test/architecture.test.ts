/** The rules of the layout, checked on the source itself. */
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
const files = globSync('src/**/*.ts', { cwd: root }).map((file) => normalize(file))
const sources = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]))

/** Relative imports of a file, as paths from the root. */
function importsOf(file: string): string[] {
  const text = sources.get(file) ?? ''
  return [...text.matchAll(/(?:from|import\()\s*'(\.{1,2}\/[^']+)'/g)].map(([, target = '']) =>
    relative(root, join(root, dirname(file), target)),
  )
}

/** src/db/pool.ts → src/db; files directly in src belong to no folder. */
function folderOf(file: string): string | undefined {
  const parts = file.split('/')
  return parts.length > 2 ? parts.slice(0, 2).join('/') : undefined
}

/** What a file says of itself before its first line of code. */
const headerOf = (file: string) =>
  /^(?:\s*\/\*[\s\S]*?\*\/|\s*\/\/.*\n)*/.exec(sources.get(file) ?? '')?.[0] ?? ''

describe('the layout', () => {
  it('has only imports that exist', () => {
    for (const file of files)
      for (const target of importsOf(file)) expect(sources.has(target), `${file} → ${target}`).toBe(true)
  })

  it('has no cycle of imports', () => {
    const done = new Set<string>()
    const walk = (file: string, above: readonly string[]): void => {
      expect(above, `a cycle: ${[...above, file].join(' → ')}`).not.toContain(file)
      if (done.has(file)) return
      for (const target of importsOf(file)) walk(target, [...above, file])
      done.add(file)
    }
    for (const file of files) walk(file, [])
  })

  // Every feature has the same three faces, and http/ is the edge that all of them share.
  const isDoor = (target: string) =>
    /\/(routes|schemas|queries)\.ts$/.test(target) ||
    target.startsWith('src/http/') ||
    /\bDoor\b/.test(headerOf(target))

  it('lets one folder into another only through a door: a fixed role, or a file whose header says so', () => {
    const trespasses = files.flatMap((file) =>
      importsOf(file)
        .filter((target) => folderOf(target) !== undefined && folderOf(target) !== folderOf(file))
        .filter((target) => !isDoor(target))
        .map((target) => `${file} → ${target}`),
    )
    expect(trespasses).toEqual([])
  })

  it('keeps the machines free of the web framework', () => {
    const machines = /^src\/(db|generation|upstream|context|embedded|jobs|bus|broker|outbox)\//
    const offenders = files.filter(
      (file) =>
        machines.test(file) &&
        !file.endsWith('/routes.ts') &&
        /from '(@?fastify)/.test(sources.get(file) ?? ''),
    )
    expect(offenders).toEqual([])
  })

  it('reads the environment in one place', () => {
    const readers = files.filter((file) => (sources.get(file) ?? '').includes('process.env'))
    expect(readers).toEqual(['src/config.ts'])
  })

  it('has no file over 350 lines', () => {
    const long = files.filter((file) => (sources.get(file) ?? '').split('\n').length > 350)
    expect(long).toEqual([])
  })

  it('has no `any`, and no name that says nothing', () => {
    const loose = files.filter((file) =>
      /(: any\b|\bas any\b|<any>|@ts-(ignore|expect-error|nocheck))/.test(sources.get(file) ?? ''),
    )
    expect(loose).toEqual([])
    const nameless = files.filter((file) =>
      /[/-](manager|helpers?|utils?|service|common|shared|misc|base|impl|lib)(\.ts|\/)/i.test(file),
    )
    expect(nameless).toEqual([])
  })

  it('begins every file with what it is', () => {
    expect(files.filter((file) => headerOf(file).trim() === '')).toEqual([])
  })
})
