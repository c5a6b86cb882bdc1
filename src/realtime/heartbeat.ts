/**
 * The wheel: one interval for what time brings to thousands of sockets.
 *
 * Whoever is on it sits in one of a hundred slots. The wheel turns once in `everyMs` and beats each slot in its turn, so
 * heartbeats are spread evenly; every 2.5 s it looks at everybody. Its clock stands still while the process
 * does: after a pause nobody is late for an answer that nobody could have read.
 */

export interface Beating {
  /** Its heartbeat is due. @param nowMs of the wheel's clock. */
  beat(nowMs: number): void
  look(nowMs: number): void
}

export interface Wheel {
  /** @returns its slot, for `delete`. */
  add(beating: Beating): number
  delete(beating: Beating, slot: number): void
  close(): void
}

const slotsCount = 100
/** Everybody is looked at once in so many ticks, a divisor of the slots: with heartbeats of 25 s, every 2.5 s. */
const lookTicks = 10

/** @param everyMs between two heartbeats of one. */
export function createWheel(everyMs: number, clockMs: () => number = () => performance.now()): Wheel {
  const tickMs = everyMs / slotsCount
  const slots = Array.from({ length: slotsCount }, () => new Set<Beating>())
  let turned = 0
  let filled = 0
  let nowMs = 0
  let tickedAtMs = clockMs()

  const timer = setInterval(() => {
    const atMs = clockMs()
    // Late, it has been busy: what came in meanwhile has not been read yet.
    nowMs += Math.min(atMs - tickedAtMs, 2 * tickMs)
    tickedAtMs = atMs
    turned = (turned + 1) % slotsCount
    for (const beating of slots[turned] ?? []) beating.beat(nowMs)
    for (let slot = turned % lookTicks; slot < slotsCount; slot += lookTicks)
      for (const beating of slots[slot] ?? []) beating.look(nowMs)
  }, tickMs)
  timer.unref()

  return {
    add(beating) {
      filled = (filled + 1) % slotsCount
      slots[filled]?.add(beating)
      return filled
    },
    delete: (beating, slot) => void slots[slot]?.delete(beating),
    close: () => clearInterval(timer),
  }
}
