/** Quiet hours: by the clock on a person's wall, over midnight, and where that clock is changed. */
import { describe, expect, it } from 'vitest'
import { quietUntil, timezoneOf } from '../../src/notifications/quiet-hours.ts'

const until = (start: string, end: string, timezone: string, now: string) =>
  quietUntil({ start, end, timezone }, new Date(now))?.toISOString()

describe('quiet hours', () => {
  it.each([
    ['before they begin', '2026-01-15T20:59:59Z', undefined],
    ['as they begin', '2026-01-15T21:00:00Z', '2026-01-16T06:00:00.000Z'],
    ['before midnight', '2026-01-15T22:59:30Z', '2026-01-16T06:00:00.000Z'],
    ['after midnight', '2026-01-15T23:00:00Z', '2026-01-16T06:00:00.000Z'],
    ['in their last second', '2026-01-16T05:59:59Z', '2026-01-16T06:00:00.000Z'],
    ['as they end', '2026-01-16T06:00:00Z', undefined],
    ['over New Year', '2025-12-31T23:30:00Z', '2026-01-01T06:00:00.000Z'],
  ])('from 22:00 to 07:00 in Berlin, %s', (_name, now, expected) => {
    expect(until('22:00', '07:00', 'Europe/Berlin', now)).toBe(expected)
  })

  it.each([
    ['before', '2026-01-15T11:59:00Z', undefined],
    ['in between', '2026-01-15T12:30:00Z', '2026-01-15T14:00:00.000Z'],
    ['after', '2026-01-15T14:00:00Z', undefined],
  ])('on one day, %s', (_name, now, expected) => {
    expect(until('12:00', '14:00', 'UTC', now)).toBe(expected)
  })

  it.each([
    // 29 March 2026: 02:00 becomes 03:00. The night is an hour shorter.
    ['clocks are put forward', '2026-03-28T21:30:00Z', '2026-03-29T05:00:00.000Z'],
    ['they have been put forward since it began', '2026-03-29T01:30:00Z', '2026-03-29T05:00:00.000Z'],
    // 25 October 2026: 03:00 becomes 02:00. It is an hour longer.
    ['clocks are put back', '2026-10-24T20:30:00Z', '2026-10-25T06:00:00.000Z'],
    ['the hour that comes twice comes first', '2026-10-25T00:30:00Z', '2026-10-25T06:00:00.000Z'],
    ['the hour that comes twice comes again', '2026-10-25T01:30:00Z', '2026-10-25T06:00:00.000Z'],
  ])('end at 07:00 on the wall where %s', (_name, now, expected) => {
    expect(until('22:00', '07:00', 'Europe/Berlin', now)).toBe(expected)
  })

  it('end within an hour where their end is skipped, and where it comes twice with the first', () => {
    expect(until('22:00', '02:30', 'Europe/Berlin', '2026-03-29T00:30:00Z')).toBe('2026-03-29T01:30:00.000Z')
    expect(until('22:00', '02:30', 'Europe/Berlin', '2026-10-24T23:30:00Z')).toBe('2026-10-25T00:30:00.000Z')
  })

  it('know zones with half hours, on both sides of the world, and offsets', () => {
    expect(until('22:00', '07:00', 'Asia/Kathmandu', '2026-01-15T18:00:00Z')).toBe('2026-01-16T01:15:00.000Z')
    expect(until('22:00', '07:00', 'Pacific/Chatham', '2026-07-15T10:00:00Z')).toBe(
      '2026-07-15T18:15:00.000Z',
    )
    expect(until('22:00', '07:00', 'Pacific/Pago_Pago', '2026-01-15T10:00:00Z')).toBe(
      '2026-01-15T18:00:00.000Z',
    )
    expect(until('22:00', '07:00', '+05:30', '2026-01-15T17:00:00Z')).toBe('2026-01-16T01:30:00.000Z')
  })

  it('are never where the zone is not known, or nothing lies between their ends', () => {
    expect(until('22:00', '07:00', 'Mars/Olympus', '2026-01-15T23:00:00Z')).toBeUndefined()
    expect(until('07:00', '07:00', 'UTC', '2026-01-15T07:00:00Z')).toBeUndefined()
  })

  it('end later than now, and never by more than a day, at every half hour of a year in Berlin and in Lord Howe', () => {
    for (const zone of ['Europe/Berlin', 'Australia/Lord_Howe'])
      for (let ms = Date.UTC(2026, 0, 1); ms < Date.UTC(2027, 0, 1); ms += 1_800_000) {
        const end = quietUntil({ start: '22:00', end: '07:00', timezone: zone }, new Date(ms))
        if (end === undefined) continue
        expect(end.getTime() - ms, `${zone} at ${new Date(ms).toISOString()}`).toBeGreaterThan(0)
        expect(end.getTime() - ms).toBeLessThanOrEqual(10 * 3_600_000)
      }
  })
})

it('spells a zone as the database of zones does', () => {
  expect(timezoneOf('europe/berlin')).toBe('Europe/Berlin')
  expect(['', 'Berlin/Europe', '../etc', 'x'.repeat(1_000)].map(timezoneOf)).toEqual(Array(4).fill(undefined))
})
