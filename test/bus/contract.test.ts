/** What every bus promises, asked of each that there is. Redis: of this machine; skipped where there is none. */
import { describe, expect, it } from 'vitest'
import { messageBytesMax } from '../../src/bus/bus.ts'
import { carriers, eventsOf, listen, type Member, type Place } from '../support/buses.ts'

const line = (fields: Record<string, unknown>): unknown => expect.objectContaining(fields)

/** So many instances of one place, all of them up. */
async function meet(place: Place, count: number): Promise<Member[]> {
  const members = Array.from({ length: count }, () => place.join())
  await Promise.all(members.map((member) => member.untilBegun(1)))
  return members
}

async function pair(place: Place): Promise<[here: Member, there: Member]> {
  const [here, there] = await meet(place, 2)
  if (here === undefined || there === undefined) throw new Error('two were asked for')
  return [here, there]
}

for (const carrier of carriers)
  describe.skipIf(!carrier.available)(`a bus over ${carrier.name}`, () => {
    it('tells all others who said what, and never whoever said it', async () => {
      const members = await meet(await carrier.place(), 3)
      const ears = members.map(({ bus }) => listen(bus))
      for (const { bus, instanceId } of members) bus.publish('news', { from: instanceId })
      const names = members.map(({ instanceId }) => instanceId)
      for (const [index, ear] of ears.entries()) {
        const others = names.filter((name) => name !== names[index])
        for (const name of others) await ear.until({ from: name })
        expect([...ear.from].sort()).toEqual(others)
        expect(ear.messages).toEqual(ear.from.map((name) => ({ from: name })))
      }
    })

    it('tells those of a topic its messages, until they do not want to hear any more', async () => {
      const [here, there] = await pair(await carrier.place())
      const [news, other, rest] = [
        listen(there.bus, 'news'),
        listen(there.bus, 'other'),
        listen(there.bus, 'rest'),
      ]
      const heard: unknown[] = []
      const leave = there.bus.subscribe('news', (message) => heard.push(message))
      here.bus.publish('news', 1)
      here.bus.publish('other', 2)
      await other.until(2)
      leave()
      leave()
      here.bus.publish('news', 3)
      here.bus.publish('rest', null)
      await rest.until(null)
      expect({ news: news.messages, other: other.messages, heard }).toEqual({
        news: [1, 3],
        other: [2],
        heard: [1],
      })
    })

    it('keeps the order of an instance, in one sending and over many', async () => {
      const [here, there] = await pair(await carrier.place())
      const ear = listen(there.bus)
      for (let n = 0; n < 500; n++) {
        here.bus.publish('news', n)
        // Some meet a send in flight, some meet none.
        if (n % 7 === 0) await new Promise(setImmediate)
        if (n % 50 === 0) await ear.until(n)
      }
      await ear.until(499)
      expect(ear.messages).toEqual(Array.from({ length: 500 }, (_, n) => n))
    })

    it('replaces what has not left by a newer message of its topic and key, which comes in its own turn', async () => {
      const place = await carrier.place()
      const [here, there] = [place.join({ by: 'proxy' }), place.join()]
      await Promise.all([here.untilBegun(1), there.untilBegun(1)])
      const [ear, other] = [listen(there.bus), listen(there.bus, 'other')]
      const held = place.proxy.holdBack('in flight')
      here.bus.publish('news', 'in flight', 'ann')
      const pass = await held
      here.bus.publish('news', 'ann 1', 'ann')
      here.bus.publish('news', 'bob 1', 'bob')
      here.bus.publish('other', 'ann', 'ann')
      here.bus.publish('news', 'ann 2', 'ann')
      here.bus.publish('news', 'without a key')
      here.bus.publish('news', 'without a key')
      here.bus.publish('news', 'last')
      pass()
      await ear.until('last')
      expect(ear.messages).toEqual(['in flight', 'bob 1', 'ann 2', 'without a key', 'without a key', 'last'])
      expect(other.messages).toEqual(['ann'])
    })

    it('sends a thousand messages at once in a few packets', async () => {
      const place = await carrier.place()
      const [here, there] = await pair(place)
      const ear = listen(there.bus)
      const before = place.packets.length
      const wakeUps = Array.from({ length: 1_000 }, (_, n) => ({ user: crypto.randomUUID(), head: n }))
      for (const wakeUp of wakeUps) here.bus.publish('news', wakeUp)
      await ear.until(wakeUps.at(-1))
      expect(ear.messages).toEqual(wakeUps)
      expect(place.packets.length - before).toBeLessThan(20)
    })

    it('brings any text as it was, whatever it is cut at', async () => {
      const place = await carrier.place()
      const [here, there] = await pair(place)
      const ear = listen(there.bus)
      const long = 'aé€🙂"\\\u0000\u2028\ud800'.repeat(9_000)
      const texts = [
        long,
        'x' + long,
        'xy' + long,
        'xyz' + long,
        '🙂',
        '\ud83d',
        "'; drop table",
        '',
        '\uFEFF',
      ]
      texts.forEach((text, n) => here.bus.publish('news', { n, text }))
      here.bus.publish('news', 'end')
      await ear.until('end')
      expect(ear.messages).toEqual([...texts.map((text, n) => ({ n, text })), 'end'])
    })

    it('drops what is too long or no JSON, says so, and goes on', async () => {
      const [here, there] = await pair(await carrier.place())
      const ear = listen(there.bus)
      const round: Record<string, unknown> = {}
      round['self'] = round
      const longest = 'x'.repeat(messageBytesMax - '["news",""]'.length)
      for (const refused of [`${longest}x`, '€'.repeat(messageBytesMax / 2), round, 1n])
        here.bus.publish('news', refused)
      here.bus.publish('news', longest)
      here.bus.publish('news', 'end')
      await ear.until('end')
      expect(ear.messages).toEqual([longest, 'end'])
      expect(here.logs).toEqual(
        Array.from({ length: 4 }, () => line({ event: 'bus_message_refused', topic: 'news', level: 50 })),
      )
      expect(JSON.stringify(here.logs)).not.toContain('xxx')
    })

    it('ignores what others say on its channel, with one debug line each', async () => {
      const place = await carrier.place()
      const [here, there] = await pair(place)
      const ear = listen(there.bus)
      const garbage = [
        '',
        'hello',
        '{"json":true}',
        'rivulet/2 x 1 1/1 [["news","other version"]]',
        'rivulet/1 x -1 1/1 [["news",1]]',
        'rivulet/1 a 1 1/1 not JSON',
        'rivulet/1 b 1 1/1 {"news":1}',
        'rivulet/1 c 1 1/1 [["news"]]',
        'rivulet/1 d 1 1/1 [[1,"news"]]',
        'rivulet/1 e 1 1/1 [["news",1,2]]',
        'rivulet/1 f 1 1/1 [null]',
        `rivulet/1 g 1 1/1 ${'['.repeat(7_000)}`,
      ]
      // Parts of something that has no beginning, no end, or never was: of those nothing is said.
      const parts = [
        'rivulet/1 h 5 2/3 "x"',
        'rivulet/1 i 1 0/0 x',
        'rivulet/1 j 1 1/2 [["news",',
        'rivulet/1 j 3 2/2 "gap"]]',
      ]
      for (const packet of [...garbage, ...parts]) await place.say(packet)
      await place.say('rivulet/1 stranger 1 1/1 [["news","well said"]]')
      here.bus.publish('news', 'end')
      await Promise.all([ear.until('end'), ear.until('well said')])
      expect([...ear.messages].sort()).toEqual(['end', 'well said'])
      expect(there.logs).toEqual(
        garbage.map(({ length }) => line({ event: 'bus_packet_ignored', level: 20, chars: length })),
      )
      expect(there.bus.state()).toBe('up')
    })

    it('goes on with the others where one handler throws', async () => {
      const [here, there] = await pair(await carrier.place())
      there.bus.subscribe('news', () => {
        throw new Error('mine')
      })
      const ear = listen(there.bus)
      here.bus.publish('news', 1)
      here.bus.publish('news', 2)
      await ear.until(2)
      expect(ear.messages).toEqual([1, 2])
      expect(eventsOf(there)).toEqual(['bus_handler_failed', 'bus_handler_failed'])
    })
  })
