/** Parts put together again, and what becomes of those that never were whole. */
import { expect, it } from 'vitest'
import { createAssembly } from '../../src/bus/assembly.ts'
import { messageBytesMax } from '../../src/bus/bus.ts'
import { createPacker, entryOf, readPacket, type Packet } from '../../src/bus/packets.ts'

const part = (instance: string, n: number, index: number, count: number, body = `${index}`): Packet => ({
  instance,
  n,
  index,
  count,
  body,
})

it('puts the parts of several instances together, as they come one between the other', () => {
  const { take } = createAssembly()
  const bodies = [
    take(part('a', 1, 1, 3)),
    take(part('b', 7, 1, 2)),
    take(part('a', 2, 2, 3)),
    take(part('b', 8, 2, 2)),
    take(part('c', 1, 1, 1, 'whole')),
    take(part('a', 3, 3, 3)),
  ]
  expect(bodies).toEqual([undefined, undefined, undefined, '12', 'whole', '123'])
})

it('takes nothing twice, and nothing that comes behind a later packet of its instance', () => {
  const { take } = createAssembly()
  const whole = (n: number) => take(part('a', n, 1, 1, `${n}`))
  expect([whole(1), whole(1), whole(3), whole(2), whole(4)]).toEqual(['1', undefined, '3', undefined, '4'])
})

it.each([
  ['a packet is missing in between', [part('a', 1, 1, 2), part('a', 3, 2, 2)]],
  ['another body begins', [part('a', 1, 1, 2), part('a', 2, 1, 1, 'whole'), part('a', 3, 2, 2)]],
  ['their number changes', [part('a', 1, 1, 2), part('a', 2, 2, 3), part('a', 3, 3, 3)]],
  ['their order changes', [part('a', 1, 1, 3), part('a', 2, 3, 3), part('a', 3, 2, 3)]],
  ['the beginning was not heard', [part('a', 2, 2, 2)]],
  ['they count from nothing', [part('a', 1, 0, 2), part('a', 2, 1, 2), part('a', 4, 2, 2)]],
])('makes nothing of parts where %s, and goes on', (_why, packets) => {
  const { take } = createAssembly()
  expect(packets.map(take).filter((body) => body !== undefined && body !== 'whole')).toEqual([])
  expect([take(part('a', 10, 1, 2)), take(part('a', 11, 2, 2))]).toEqual([undefined, '12'])
})

it('keeps no more of a body than a message may have', () => {
  const { take } = createAssembly()
  const half = 'x'.repeat(messageBytesMax / 2 + 2)
  expect([1, 2, 3].map((index) => take(part('a', index, index, 3, half)))).toEqual([
    undefined,
    undefined,
    undefined,
  ])
})

it('forgets what has not grown between two tidyings', () => {
  const { take, tidy } = createAssembly()
  take(part('a', 1, 1, 3))
  tidy()
  take(part('a', 2, 2, 3))
  tidy()
  expect(take(part('a', 3, 3, 3))).toBe('123')
  take(part('a', 4, 1, 2))
  tidy()
  tidy()
  expect(take(part('a', 5, 2, 2))).toBeUndefined()
})

it('remembers a hundred instances, those that it heard of last', () => {
  const { take } = createAssembly()
  take(part('first', 1, 1, 2))
  for (let n = 0; n < 99; n++) take(part(`other ${n}`, 1, 1, 1))
  expect(take(part('first', 2, 2, 2))).toBe('12')
  take(part('first', 3, 1, 2))
  for (let n = 0; n < 100; n++) take(part(`another ${n}`, 1, 1, 1))
  expect(take(part('first', 4, 2, 2))).toBeUndefined()
})

it.each([200, 201, 202, 203, 7_999])('brings back what was cut into packets of %i bytes', (bytesMax) => {
  const pack = createPacker('instance', bytesMax)
  const { take } = createAssembly()
  const long = Array.from({ length: 400 }, (_, n) => 'aé€🙂"\\\u0000'.slice(n % 3)).join('')
  const entries = ['short', long, 'short', 'é'.repeat(60), ''].flatMap((text) => entryOf('news', text) ?? [])
  const packets = pack(entries)
  expect(Math.max(...packets.map((packet) => Buffer.byteLength(packet)))).toBeLessThanOrEqual(bytesMax)
  const bodies = packets.flatMap((text) => {
    // As it is on the wire: half a character would not survive this.
    const packet = readPacket(Buffer.from(text).toString())
    return (packet && take(packet)) ?? []
  })
  expect(bodies.flatMap((body) => JSON.parse(body) as unknown[])).toEqual(
    entries.map(({ text }) => JSON.parse(text) as unknown),
  )
})
