/** Circuit breakers by a clock that the test turns. */
import { beforeEach, describe, expect, it } from 'vitest'
import { createBreakers, type Breakers } from '../../src/upstream/breakers.ts'
import { UpstreamFailed, type FailureKind } from '../../src/upstream/failures.ts'

const model = 'maker/model'
const free = ['a:free', 'b:free'] as const

let nowMs: number
let breakers: Breakers
beforeEach(() => {
  nowMs = 1_000
  breakers = createBreakers({ nowMs: () => nowMs })
})

const failure = (kind: FailureKind, closedForMs?: number) =>
  new UpstreamFailed('upstream_error', kind, { closedForMs })

function fail(kind: FailureKind, closedForMs?: number, of: string = model): void {
  breakers.asked(of)
  breakers.failed(of, failure(kind, closedForMs))
}
const waitMs = (of: string = model) => breakers.closedTo(of)?.waitMs

describe('a model that fails', () => {
  it('is left alone after three failures in a row, and not before', () => {
    fail('transient')
    fail('silent')
    expect(waitMs()).toBeUndefined()
    fail('transient')
    expect(waitMs()).toBe(15_000)
    expect(waitMs('maker/other')).toBeUndefined()
  })

  it('begins to count again after a success', () => {
    fail('transient')
    fail('transient')
    breakers.asked(model)
    breakers.succeeded(model, nowMs)
    fail('transient')
    fail('transient')
    expect(waitMs()).toBeUndefined()
  })

  it('stays closed where a success was begun before it was limited', () => {
    const askedAtMs = nowMs
    breakers.asked(model)
    nowMs += 100
    fail('limited', 17_000)
    breakers.succeeded(model, askedAtMs)
    expect(waitMs()).toBe(17_000)
    breakers.succeeded(model, nowMs + 1)
    expect(waitMs()).toBeUndefined()
  })

  it.each<[FailureKind, number | undefined, number]>([
    ['limited', 17_000, 17_000],
    ['limited', undefined, 15_000],
    ['gone', undefined, 600_000],
  ])('%s closes it at once', (kind, told, expected) => {
    fail(kind, told)
    expect(breakers.closedTo(model)).toMatchObject({ waitMs: expected, firm: false })
  })

  it.each<FailureKind>(['no_credit', 'refused', 'too_long', 'mistake'])(
    '%s says nothing about it',
    (kind) => {
      for (let time = 0; time < 10; time++) fail(kind)
      expect(waitMs()).toBeUndefined()
    },
  )
})

describe('when its time is over', () => {
  beforeEach(() => {
    fail('limited', 10_000)
    nowMs += 10_000
  })

  it('one attempt is let through, and others wait for what it finds', () => {
    expect(waitMs()).toBeUndefined()
    breakers.asked(model)
    expect(waitMs()).toBe(5_000)
    breakers.succeeded(model, nowMs)
    expect(waitMs()).toBeUndefined()
  })

  it('it is closed for twice as long where that one fails too, up to five minutes', () => {
    const times: (number | undefined)[] = []
    for (let time = 0; time < 7; time++) {
      fail('transient')
      times.push(waitMs())
      nowMs += times.at(-1) ?? 0
    }
    expect(times).toEqual([30_000, 60_000, 120_000, 240_000, 300_000, 300_000, 300_000])
  })

  it('an attempt that was stopped lets the next one through', () => {
    breakers.asked(model)
    breakers.abandoned(model)
    expect(waitMs()).toBeUndefined()
  })
})

describe('the free quota of the account', () => {
  it('closes every free model until its reset, firmly, and no other', () => {
    fail('free_quota', 60_000, free[0])
    for (const of of free) expect(breakers.closedTo(of)).toMatchObject({ waitMs: 60_000, firm: true })
    expect(waitMs()).toBeUndefined()
    nowMs += 59_999
    expect(waitMs(free[1])).toBe(1)
    nowMs += 1
    for (const of of free) expect(waitMs(of)).toBeUndefined()
  })

  it('is not forgotten since another free answer, begun before, succeeds', () => {
    fail('free_quota', 60_000, free[0])
    breakers.succeeded(free[1], nowMs)
    expect(waitMs(free[1])).toBe(60_000)
  })
})
