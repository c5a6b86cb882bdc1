/** What `publish` promises: confirmed, or told so. */
import { describe, expect, it } from 'vitest'
import { BrokerAway } from '../../src/broker/broker.ts'
import { soon, startStation, upStation, type Station } from '../support/brokers.ts'
import { hasRabbit } from '../support/rabbitmq.ts'

const messageTo = ({ names }: Station, body: string) => ({
  exchange: names.exchange,
  routingKey: names.routingKey,
  body: Buffer.from(body),
  mandatory: true,
})

describe.skipIf(!(await hasRabbit()))('publish', () => {
  it('resolves when the broker has it, persistent and as it was given', async () => {
    const station = await upStation()
    const given = { messageId: 'event-1', type: 'analysis_complete', contentType: 'application/json' }
    const message = { ...messageTo(station, '{"a":"ü"}'), ...given, headers: { version: 3 } }
    expect(await station.broker.publish(message)).toBe('routed')
    const taken = await station.take(station.names.queue)
    expect(taken?.content.toString()).toBe('{"a":"ü"}')
    expect(taken?.properties).toMatchObject({ ...given, deliveryMode: 2 })
    expect(taken?.properties.headers).toMatchObject({ version: 3 })
  })

  it('says which of many have no queue, also where they have the same id', async () => {
    const station = await upStation()
    const { broker } = station
    const nobodys = { ...messageTo(station, 'x'), routingKey: 'nobody.listens' }
    const sent = Array.from({ length: 200 }, (_, n) =>
      broker.publish({ ...(n % 3 === 0 ? nobodys : messageTo(station, 'x')), messageId: 'same' }),
    )
    const fates = await Promise.all(sent)
    expect(fates).toEqual(fates.map((_, n) => (n % 3 === 0 ? 'unroutable' : 'routed')))
  })

  it('without `mandatory` does not ask whether there is a queue', async () => {
    const station = await upStation()
    const message = { ...messageTo(station, 'x'), routingKey: 'nobody.listens', mandatory: false }
    expect(await station.broker.publish(message)).toBe('routed')
  })

  it('rejects at once while the broker is away', async () => {
    const { broker, ...station } = await startStation({ refused: true })
    await expect.poll(station.events, soon).toContain('broker_away')
    await expect(broker.publish(messageTo({ broker, ...station }, 'x'))).rejects.toThrow(BrokerAway)
  })

  it('rejects all that is in flight when the connection is cut, and works again on the next', async () => {
    const station = await upStation()
    const { broker, proxy } = station
    proxy.freeze()
    const sent = Array.from({ length: 50 }, () => broker.publish(messageTo(station, 'in flight')))
    const settled = Promise.allSettled(sent)
    await proxy.refuse()
    for (const result of await settled)
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { name: 'BrokerAway', code: 'broker_away' },
      })
    await proxy.pass()
    await expect.poll(broker.state, soon).toBe('up')
    expect(await broker.publish(messageTo(station, 'again'))).toBe('routed')
  })

  it('rejects what is not confirmed in time, and what is too much at once', async () => {
    const station = await upStation({ confirmMs: 200 })
    const { broker, proxy } = station
    proxy.freeze()
    const sent = Array.from({ length: 1_001 }, () => broker.publish(messageTo(station, 'x')))
    await expect(sent[1_000]).rejects.toThrow('wait for their confirms already')
    const results = await Promise.allSettled(sent)
    expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(1_001)
    // Nobody waits for them any more, but the broker has not read them: there is no room yet.
    await expect(broker.publish(messageTo(station, 'x'))).rejects.toThrow('wait for their confirms already')
    await proxy.pass()
    await expect.poll(() => broker.publish(messageTo(station, 'y')).catch(() => 'away'), soon).toBe('routed')
  })

  it('survives a publish that kills its channel: an exchange that is not there', async () => {
    const station = await upStation()
    const { broker } = station
    await expect(broker.publish({ ...messageTo(station, 'x'), exchange: 'no-such' })).rejects.toThrow(
      BrokerAway,
    )
    await expect.poll(broker.state, soon).toBe('up')
    expect(await broker.publish(messageTo(station, 'x'))).toBe('routed')
    expect(station.events()).toEqual(['broker_up', 'broker_away', 'broker_back'])
  })

  it('tells what cannot be written down from a broker that is away, and goes on', async () => {
    const station = await upStation()
    const { broker } = station
    const sent = broker.publish({ ...messageTo(station, 'x'), headers: { long: 'x'.repeat(70_000) } })
    await expect(sent).rejects.toThrow(RangeError)
    expect(await broker.publish(messageTo(station, 'x'))).toBe('routed')
  })
})
