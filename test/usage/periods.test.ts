/** Periods are of the UTC calendar, whatever the moment. */
import { expect, it } from 'vitest'
import { spanOf, type Wish } from '../../src/usage/periods.ts'

it.each<[what: string, wish: Wish, now: string, from: string | undefined, to: string]>([
  ['a day', { period: 'day' }, '2026-03-05T12:00:00Z', '2026-03-05', '2026-03-06'],
  ['a day’s last moment', { period: 'day' }, '2026-12-31T23:59:59.999Z', '2026-12-31', '2027-01-01'],
  ['a day’s first moment', { period: 'day' }, '2027-01-01T00:00:00.000Z', '2027-01-01', '2027-01-02'],
  ['a leap day', { period: 'day' }, '2028-02-29T08:00:00Z', '2028-02-29', '2028-03-01'],
  ['a week on its Monday', { period: 'week' }, '2026-03-02T00:00:00Z', '2026-03-02', '2026-03-09'],
  ['a week on its Sunday', { period: 'week' }, '2026-03-08T23:59:59.999Z', '2026-03-02', '2026-03-09'],
  ['a week of two years', { period: 'week' }, '2027-01-01T10:00:00Z', '2026-12-28', '2027-01-04'],
  ['a week of two months', { period: 'week' }, '2026-04-01T10:00:00Z', '2026-03-30', '2026-04-06'],
  ['this month', { period: 'month' }, '2026-12-31T23:59:59.999Z', '2026-12-01', '2027-01-01'],
  ['a short month', { period: 'month' }, '2026-02-28T10:00:00Z', '2026-02-01', '2026-03-01'],
  [
    'another month',
    { period: 'month', named: { year: 2025, month: 12 } },
    '2026-07-31T10:00:00Z',
    '2025-12-01',
    '2026-01-01',
  ],
  ['this year', { period: 'year' }, '2026-07-31T10:00:00Z', '2026-01-01', '2027-01-01'],
  [
    'another year',
    { period: 'year', named: { year: 2999 } },
    '2026-07-31T10:00:00Z',
    '2999-01-01',
    '3000-01-01',
  ],
  ['all', { period: 'all' }, '2026-07-31T10:00:00Z', undefined, '2026-08-01'],
])('%s', (_what, wish, now, from, to) => {
  expect(spanOf(wish, new Date(now))).toEqual({
    from: from === undefined ? undefined : new Date(`${from}T00:00:00.000Z`),
    to: new Date(`${to}T00:00:00.000Z`),
  })
})
