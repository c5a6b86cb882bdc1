import { describe, expect, it } from 'vitest'
import { backoffMs } from '../../src/jobs/backoff.ts'

const bounds = { firstMs: 2_000, maxMs: 3_600_000 }

describe('the wait before another attempt', () => {
  it('doubles from the first to the longest, each time with up to half of it taken off', () => {
    for (let attempt = 1; attempt <= 2_000; attempt++) {
      const stepMs = Math.min(2_000 * 2 ** (attempt - 1), 3_600_000)
      expect(backoffMs(bounds, attempt, () => 0)).toBe(stepMs / 2)
      expect(backoffMs(bounds, attempt, () => 1 - Number.EPSILON)).toBe(stepMs)
      const some = backoffMs(bounds, attempt, Math.random)
      expect(some).toBeGreaterThanOrEqual(stepMs / 2)
      expect(some).toBeLessThanOrEqual(stepMs)
    }
  })

  it('is not the same for all that failed together', () => {
    const waits = new Set(Array.from({ length: 100 }, () => backoffMs(bounds, 5, Math.random)))
    expect(waits.size).toBeGreaterThan(90)
  })
})
