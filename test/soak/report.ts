/** What a soak says while it runs and at its end: plain text, on a terminal one line that moves. */
import type { Ledger } from './ledger.ts'
import { replay, type PartEntry } from './parts.ts'

type Write = (text: string) => void

/** A line that is not on a terminal is said again after this long, ms. */
const sayAgainMs = 10_000

export interface Progress {
  update: (done: number, of: number) => void
  end(violations: number): void
}

export function showProgress(
  part: PartEntry,
  count: number,
  out: { write: Write; isTTY: boolean },
): Progress {
  const startedAt = Date.now()
  let saidAt = 0
  const seconds = () => `${((Date.now() - startedAt) / 1_000).toFixed(0)} s`
  const line = (done: number, of: number) =>
    `${part.name.padEnd(9)} ${done} of ${of} ${part.unit}, ${seconds()}`
  if (out.isTTY) out.write(line(0, count))
  return {
    update(done, of) {
      if (out.isTTY) out.write(`\r\x1b[K${line(done, of)}`)
      else if (Date.now() - saidAt > sayAgainMs && done < of) {
        saidAt = Date.now()
        out.write(`${line(done, of)}\n`)
      }
    },
    end(violations) {
      const words = violations === 0 ? 'nothing violated' : `${violations} VIOLATIONS`
      out.write(`${out.isTTY ? '\r\x1b[K' : ''}${part.name.padEnd(9)} done in ${seconds()}: ${words}\n`)
    },
  }
}

export function printTable(ledgers: readonly Ledger[], write: Write): void {
  const ms = (value: number | undefined) => (value === undefined ? '' : String(Math.round(value)))
  const lines = ledgers.flatMap(({ part, rows }) =>
    rows().map(({ property, count, violations, times }) => [
      part,
      property,
      String(count),
      violations === 0 ? '0' : `${violations} !`,
      ms(times?.p50),
      ms(times?.p95),
      ms(times?.p99),
      ms(times?.max),
    ]),
  )
  const all = [['part', 'property', 'count', 'violations', 'p50 ms', 'p95', 'p99', 'max'], ...lines]
  const widths = (all[0] ?? []).map((_, column) =>
    Math.max(...all.map((cells) => cells[column]?.length ?? 0)),
  )
  const isText = (column: number) => column < 2
  for (const cells of all)
    write(
      `${cells
        .map((cell, column) =>
          isText(column) ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd()}\n`,
    )
}

/** The first of each property, and how to see it again. */
export function printViolations(
  ledgers: readonly Ledger[],
  { seed, quick }: { seed: number; quick: boolean },
  write: Write,
): void {
  for (const { violations } of ledgers) {
    const seen = new Set<string>()
    for (const { part, property, caseNumber, detail } of violations) {
      if (seen.has(property)) continue
      seen.add(property)
      write(`\n${part}: violated: ${property}\n  ${replay(seed, part, caseNumber, quick)}\n`)
      write(`  ${detail.slice(0, 2_000).replaceAll('\n', '\n  ')}\n`)
    }
  }
}
