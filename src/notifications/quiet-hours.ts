/** Quiet hours: a person's own night, by the clock of where they live. */

export interface QuietHours {
  /** `22:00`; later than the end: they go over midnight. */
  start: string
  end: string
  /** Of the IANA database, such as `Europe/Berlin`. */
  timezone: string
}

const minuteMs = 60_000
const dayMinutes = 24 * 60

/**
 * @returns when they end, where it is quiet at `now`. A zone that is not known here has none: what cannot be told apart
 * from day is not held back. Where clocks are put forward over the end, they may end within an hour of it.
 */
export function quietUntil({ start, end, timezone }: QuietHours, now: Date): Date | undefined {
  const clock = clockOf(timezone)
  if (clock === undefined) return undefined
  const [from, to] = [minutesOf(start), minutesOf(end)]
  const untilEnd = (minutes: number) => (to - minutes + dayMinutes) % dayMinutes
  const isQuiet = (minutes: number) =>
    from < to ? minutes >= from && minutes < to : from > to && (minutes >= from || minutes < to)

  let atMs = Math.floor(now.getTime() / minuteMs) * minuteMs
  if (!isQuiet(clock(atMs))) return undefined
  // More than once where a clock was put back on the way: then it is still quiet there.
  for (let steps = 0; steps < 3 && isQuiet(clock(atMs)); steps++) atMs += untilEnd(clock(atMs)) * minuteMs
  // And too far where it was put forward.
  const overMinutes = (clock(atMs) - to + dayMinutes) % dayMinutes
  const earlierMs = atMs - overMinutes * minuteMs
  return new Date(isQuiet(clock(earlierMs)) ? atMs : earlierMs)
}

/** @returns the zone's own spelling; undefined where there is none of this name. */
export function timezoneOf(name: string): string | undefined {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone
  } catch {
    return undefined
  }
}

const minutesOf = (time: string) => Number(time.slice(0, 2)) * 60 + Number(time.slice(3))

/** Formatters are dear to make. There are about 600 zones; users may also name offsets. */
const clocksMax = 1_000
const clocks = new Map<string, (atMs: number) => number>()

/** What the clocks there say, in minutes since midnight. */
function clockOf(timezone: string): ((atMs: number) => number) | undefined {
  const known = clocks.get(timezone)
  if (known !== undefined || timezoneOf(timezone) === undefined) return known
  const format = new Intl.DateTimeFormat('en-GB', {
    timeZone: timezone,
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  })
  const clock = (atMs: number) => minutesOf(format.format(atMs))
  if (clocks.size >= clocksMax) clocks.clear()
  clocks.set(timezone, clock)
  return clock
}
