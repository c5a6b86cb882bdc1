/** Lists in parts, each of which one message of the bus has room for. */

/** As JSON, bytes: with 32 KiB of data beside it far from the 256 KiB that the bus takes, and read in some ms. */
const partBytesMax = 64 * 1024

/** @returns one part at least. */
export function inParts<T>(items: Iterable<T>, textOf: (item: T) => string): T[][] {
  let part: T[] = []
  const parts = [part]
  let bytes = 0
  for (const item of items) {
    const more = Buffer.byteLength(JSON.stringify(textOf(item))) + 1
    if (part.length > 0 && bytes + more > partBytesMax) {
      parts.push((part = []))
      bytes = 0
    }
    part.push(item)
    bytes += more
  }
  return parts
}
