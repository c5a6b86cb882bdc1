/**
 * What has been published and has not left yet: oldest first, a key's newest message only, and bounded. Where there is
 * no room the oldest go: who listens is told of news rather than of the past.
 */

/** A message as it will be sent, with its length: it is needed three times. */
export interface Entry {
  text: string
  bytes: number
}

export interface Waiting {
  /** @returns how many had to go for it. */
  add(entry: Entry, key?: string): number
  /** The oldest: as many as fit, and one at least. */
  take(bytesMax: number): Entry[]
  size(): number
}

/** While the server is away. Of wake-ups alone, ten seconds of a busy instance. */
const entriesMax = 10_000
/** The same in bytes: what an instance pays for a server that does not come back. */
const bytesMax = 4 * 1024 * 1024

export function createWaiting(): Waiting {
  /** By their key, or by themselves; a Map keeps the order in which they came. */
  const waiting = new Map<string | Entry, Entry>()
  let bytes = 0

  function remove(key: string | Entry): void {
    bytes -= waiting.get(key)?.bytes ?? 0
    waiting.delete(key)
  }

  return {
    add(entry, key) {
      const name = key ?? entry
      // Not in the older one's place: what was published in between came earlier.
      remove(name)
      waiting.set(name, entry)
      bytes += entry.bytes
      let dropped = 0
      for (const oldest of waiting.keys()) {
        if (waiting.size <= entriesMax && bytes <= bytesMax) break
        remove(oldest)
        dropped++
      }
      return dropped
    },
    take(takenBytesMax) {
      const taken: Entry[] = []
      let takenBytes = 0
      for (const [name, entry] of waiting) {
        takenBytes += entry.bytes
        if (taken.length > 0 && takenBytes > takenBytesMax) break
        taken.push(entry)
        remove(name)
      }
      return taken
    },
    size: () => waiting.size,
  }
}
