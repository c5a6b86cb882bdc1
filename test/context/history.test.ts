/** Which messages get a count, and when: through the service. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { answer } from '../../src/embedded/demo-model.ts'
import type { Client } from '../support/client.ts'
import { startService, type Service } from '../support/service.ts'
import { takeTurn } from '../support/turn.ts'

let service: Service
let ann: Client
beforeAll(async () => {
  service = await startService()
  ann = await service.as('ann')
})
afterAll(() => service.close())

const countsOf = async (id: string) => {
  const rows = await service.sql<{ token_count: number | null }[]>`
    select token_count from chat.messages where conversation_id = ${id} order by id`
  return rows.map(({ token_count }) => token_count)
}

it('a question is counted when it is first read as history; an answer has the count that its model told', async () => {
  const id = await ann.conversation()
  service.upstream.script(answer(['one', ' two', ' three'], { usage: { completion_tokens: 3 } }))
  await takeTurn(ann, id, 'json', { content: 'Hello there, who are you?' })
  expect(await countsOf(id)).toEqual([null, 3])
  await takeTurn(ann, id, 'json', { content: 'And now?' })
  await expect.poll(async () => (await countsOf(id))[0], { timeout: 15_000 }).toBe(7)
  expect((await countsOf(id))[2]).toBeNull()
})

it('what a model tells is not believed where it cannot be: then it is counted', async () => {
  const id = await ann.conversation()
  service.upstream.script(answer('word '.repeat(200), { usage: { completion_tokens: 1 } }))
  await takeTurn(ann, id, 'json')
  expect((await countsOf(id))[1]).toBeNull()
  await takeTurn(ann, id, 'json', { content: 'And now?' })
  await expect.poll(async () => (await countsOf(id))[1], { timeout: 15_000 }).toBeGreaterThan(150)
})
