/** Door of upstream: how long answers take, by model: the median of its recent ones, as an estimate for the next. */

export interface Latencies {
  note(model: string, ms: number): void
  /** ms; undefined: nothing is known of this model yet. */
  estimate: (model: string) => number | undefined
}

/** Answers that are remembered of a model: enough for a median, few enough to follow its hours. */
const rememberedMax = 31

export function createLatencies(): Latencies {
  // One list for each model that is ever asked: the configured ones.
  const recent = new Map<string, number[]>()
  return {
    note(model, ms) {
      const times = recent.get(model) ?? []
      times.push(ms)
      if (times.length > rememberedMax) times.shift()
      recent.set(model, times)
    },
    estimate(model) {
      const times = recent.get(model)?.toSorted((a, b) => a - b)
      const middle = times?.[Math.floor(times.length / 2)]
      return middle === undefined ? undefined : Math.round(middle)
    },
  }
}
