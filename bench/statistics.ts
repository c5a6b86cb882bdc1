/** Medians and percentiles, all by the nearest rank. */
export interface Spread {
  p50: number
  p99: number
  max: number
}

export function spread(values: number[]): Spread {
  const sorted = Float64Array.from(values).sort()
  const at = (share: number) => sorted[Math.min(Math.ceil(share * sorted.length), sorted.length) - 1] ?? NaN
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

export const median = (values: number[]): number => spread(values).p50
