/** Stops that are asked for on another instance, over HTTP, with a flush a second: the bus makes them faster. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { gated } from '../../src/embedded/demo-model.ts'
import type { Client } from '../support/client.ts'
import { begin, type Begun } from '../support/races.ts'
import { startService, type Service } from '../support/service.ts'

const flushMs = 1_000

let owner: Service
let other: Service
let ann: Client
let annElsewhere: Client

beforeAll(async () => {
  const env = { JOURNAL_FLUSH_MS: `${flushMs}` }
  owner = await startService({ env })
  other = await startService({ env, resolved: { databaseUrl: owner.databaseUrl, exclusive: false } })
  ann = await owner.as('ann')
  annElsewhere = await other.as('ann')
})
afterAll(async () => {
  await other.close()
  await owner.close()
})
beforeEach(() => owner.upstream.forget())

it.each([
  ['a stop', ({ messagePath }: Begun) => annElsewhere.post(`${messagePath}/stop`)],
  ['a deleted conversation', ({ id }: Begun) => annElsewhere.request('DELETE', `/conversations/${id}`)],
  [
    'a send that interrupts',
    ({ id }: Begun) =>
      annElsewhere.post(`/conversations/${id}/messages`, { content: 'no', if_generating: 'interrupt' }),
  ],
])('%s closes the upstream long before the next flush', async (_name, end) => {
  const tookMs: number[] = []
  for (let round = 0; round < 8; round++) {
    owner.upstream.script(gated())
    const begun = await begin(ann)
    const upstreamRequest = await owner.upstream.nextRequest()
    const askedAt = Date.now()
    const ended = end(begun)
    await upstreamRequest.ended
    tookMs.push((upstreamRequest.closedAt ?? Infinity) - askedAt)
    await ended
    await begun.stream.ended
  }
  // Without the bus all eight would be so fast once in 256 times.
  expect(Math.max(...tookMs)).toBeLessThan(flushMs / 2)
})
