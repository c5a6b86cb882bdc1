/** Calendar periods in UTC: what is asked for → from when until when. */

export type Wish =
  | { period: 'day' | 'week' | 'all' }
  /** The current one where none is named. */
  | { period: 'month'; named?: { year: number; month: number } | undefined }
  | { period: 'year'; named?: { year: number } | undefined }

export interface Span {
  /** Inclusive; undefined: from the first row on. */
  from: Date | undefined
  /** Exclusive. */
  to: Date
}

/** @param now decides which day, week, month or year is the current one. */
export function spanOf(wish: Wish, now: Date): Span {
  const year = now.getUTCFullYear()
  const month = now.getUTCMonth()
  const day = now.getUTCDate()
  switch (wish.period) {
    case 'day':
      return { from: midnight(year, month, day), to: midnight(year, month, day + 1) }
    case 'week': {
      const monday = day - ((now.getUTCDay() + 6) % 7)
      return { from: midnight(year, month, monday), to: midnight(year, month, monday + 7) }
    }
    case 'month': {
      const { year: y, month: m } = wish.named ?? { year, month: month + 1 }
      return { from: midnight(y, m - 1), to: midnight(y, m) }
    }
    case 'year': {
      const { year: y } = wish.named ?? { year }
      return { from: midnight(y), to: midnight(y + 1) }
    }
    case 'all':
      // Today belongs to it, as to every period that is not over yet.
      return { from: undefined, to: midnight(year, month, day + 1) }
    default:
      return wish satisfies never
  }
}

/** Months and days beyond the calendar's are carried over. */
const midnight = (year: number, month = 0, day = 1) => new Date(Date.UTC(year, month, day))
