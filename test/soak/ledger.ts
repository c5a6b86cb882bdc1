/** What a part found: how often each property was looked at, how often it did not hold, and the times it took. */

export interface Violation {
  part: string
  property: string
  /** Which case shows it again; undefined where only the whole part does. */
  caseNumber: number | undefined
  detail: string
}

export interface Row {
  property: string
  count: number
  violations: number
  /** Where the property is a time, ms. */
  times: Quantiles | undefined
}

export interface Quantiles {
  p50: number
  p95: number
  p99: number
  max: number
}

export interface Ledger {
  part: string
  check(property: string, caseNumber: number | undefined, holds: boolean, detail?: () => string): void
  /** @param maxMs each single one must stay below. */
  time(property: string, caseNumber: number, ms: number, maxMs?: number): void
  /** Holds for the times so far: this quantile of them is at most `maxMs`. */
  bound(property: string, quantile: keyof Quantiles, maxMs: number): void
  /** Something worth knowing that is no violation. */
  note(property: string): void
  rows: () => Row[]
  violations: readonly Violation[]
}

interface Entry {
  count: number
  violations: number
  times: { ms: number; caseNumber: number }[]
}

export function createLedger(part: string): Ledger {
  const entries = new Map<string, Entry>()
  const violations: Violation[] = []

  function entryOf(property: string): Entry {
    const known = entries.get(property)
    if (known !== undefined) return known
    const entry: Entry = { count: 0, violations: 0, times: [] }
    entries.set(property, entry)
    return entry
  }

  function violate(property: string, caseNumber: number | undefined, detail: string): void {
    entryOf(property).violations++
    violations.push({ part, property, caseNumber, detail })
  }

  return {
    part,
    violations,
    check(property, caseNumber, holds, detail = () => '') {
      entryOf(property).count++
      if (!holds) violate(property, caseNumber, detail())
    },
    time(property, caseNumber, ms, maxMs = Infinity) {
      const entry = entryOf(property)
      entry.count++
      entry.times.push({ ms, caseNumber })
      if (ms > maxMs) violate(property, caseNumber, `${Math.round(ms)} ms, allowed are ${maxMs}`)
    },
    bound(property, quantile, maxMs) {
      const { times } = entryOf(property)
      if (times.length === 0) return
      const found = quantiles(times.map(({ ms }) => ms))[quantile]
      if (found <= maxMs) return
      const worst = times.reduce((one, other) => (other.ms > one.ms ? other : one))
      violate(
        property,
        undefined,
        `${quantile} is ${Math.round(found)} ms, allowed are ${maxMs}; the worst was case ${worst.caseNumber} with ${Math.round(worst.ms)} ms`,
      )
    },
    note(property) {
      entryOf(property).count++
    },
    rows: () =>
      [...entries].map(([property, { count, violations: broken, times }]) => ({
        property,
        count,
        violations: broken,
        times: times.length === 0 ? undefined : quantiles(times.map(({ ms }) => ms)),
      })),
  }
}

/** Nearest rank. */
export function quantiles(values: readonly number[]): Quantiles {
  const sorted = values.toSorted((one, other) => one - other)
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sorted.at(-1) ?? 0 }
}
