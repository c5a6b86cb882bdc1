/** A figure that somebody slow must be asked for. */
import { beforeEach, describe, expect, it } from 'vitest'
import { createSample, type Sample } from '../../src/operations/sample.ts'

const everyMs = 60_000
const keptMs = 300_000

let nowMs: number
let reads: PromiseWithResolvers<number>[]
let errors: unknown[]
let sample: Sample<number>

beforeEach(() => {
  nowMs = 0
  reads = []
  errors = []
  sample = createSample({
    read() {
      const asked = Promise.withResolvers<number>()
      reads.push(asked)
      return asked.promise
    },
    everyMs,
    keptMs,
    onError: (error) => errors.push(error),
    nowMs: () => nowMs,
  })
})

async function answer(value: number | Error): Promise<void> {
  const asked = reads.at(-1)
  if (value instanceof Error) asked?.reject(value)
  else asked?.resolve(value)
  await new Promise(setImmediate)
}

describe('a sample', () => {
  it('is not read before somebody looks, and whoever looks does not wait', async () => {
    expect(reads).toHaveLength(0)
    expect(sample.latest()).toBeUndefined()
    await answer(7)
    expect(sample.latest()).toBe(7)
  })

  it('is read once in its time, however often it is looked at; then again, and shows the old one meanwhile', async () => {
    sample.latest()
    await answer(7)
    nowMs = everyMs - 1
    for (let n = 0; n < 1_000; n++) sample.latest()
    expect(reads).toHaveLength(1)
    nowMs = everyMs
    expect(sample.latest()).toBe(7)
    expect(reads).toHaveLength(2)
    await answer(8)
    expect(sample.latest()).toBe(8)
  })

  it('is not asked for twice at once, however long an answer takes', () => {
    sample.latest()
    nowMs = 10 * everyMs
    sample.latest()
    expect(reads).toHaveLength(1)
  })

  it('that fails is shown as it was until it is too old, tried again in its time, and its failure told once', async () => {
    sample.latest()
    await answer(7)
    for (nowMs = everyMs; nowMs <= keptMs; nowMs += everyMs) {
      expect(sample.latest()).toBe(7)
      await answer(new Error('away'))
    }
    expect(sample.latest()).toBeUndefined()
    expect(errors).toHaveLength(1)
    await answer(8)
    expect(sample.latest()).toBe(8)
    nowMs += everyMs
    sample.latest()
    await answer(new Error('away again'))
    expect(errors).toHaveLength(2)
  })
})
