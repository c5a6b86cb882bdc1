/** The table: on the terminal, and on top of RESULTS.md. */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { join } from 'node:path'

export interface Row {
  scenario: string
  subject: string
  cells: Record<string, string>
  /** The same in one line. */
  text: string
}

export function tables(rows: Row[]): string {
  const blocks: string[] = []
  let heading = ''
  let scenario = ''
  for (const { scenario: of, subject, cells } of rows) {
    const names = Object.keys(cells)
    if (of !== scenario) blocks.push(`\n### ${of}`)
    if (of !== scenario || names.join() !== heading)
      blocks.push(`\n| | ${names.join(' | ')} |\n| --- |${' ---: |'.repeat(names.length)}`)
    scenario = of
    heading = names.join()
    blocks.push(`| ${subject} | ${Object.values(cells).join(' | ')} |`)
  }
  return `${blocks.join('\n').replaceAll('\n\n\n', '\n\n')}\n`
}

export const report = (rows: Row[]): void => console.log(tables(rows))

export function record(rows: Row[], quick: boolean): void {
  const path = join(import.meta.dirname, 'RESULTS.md')
  const [head = '', ...older] = readFileSync(path, 'utf8').split(/(?=^## )/m)
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? '?'}, Linux ${release()}, Node ${process.versions.node}`
  const date = new Date().toISOString().slice(0, 10)
  const section = `## ${date}${quick ? ' (--quick)' : ''}\n\n${machine}; everything (clients, upstream, PostgreSQL) on the same machine.\n${tables(rows)}\n`
  writeFileSync(path, [head, section, ...older].join(''))
}
