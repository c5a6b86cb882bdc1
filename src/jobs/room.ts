/** Door of jobs: room for so many at once; whoever comes beyond waits for their turn, in the order of coming. */

export type Room = <T>(work: () => Promise<T>) => Promise<T>

export function createRoom(max: number): Room {
  const waiting: (() => void)[] = []
  let free = max
  return async (work) => {
    if (free > 0) free--
    else await new Promise<void>((enter) => waiting.push(enter))
    try {
      return await work()
    } finally {
      // A place goes from hand to hand: nobody who comes now is faster than who waits.
      const next = waiting.shift()
      if (next === undefined) free++
      else next()
    }
  }
}
