/** What an answer cost in the end: a bill is kept exactly, and nothing but a bill is believed. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { reconcileKind, type UsageRow } from '../../src/usage/reconcile.ts'
import { bill, guess, startBills, type Bills } from '../support/bills.ts'
import { json, type Books } from '../support/books.ts'
import { eventually } from '../support/jobs.ts'

let bills: Bills
let bench: Bills['bench']
let books: Books
beforeEach(async () => {
  bills = await startBills()
  ;({ bench, books } = bills)
})
afterEach(() => bills.close())

describe('a bill', () => {
  it('sets tokens and cost right, and is asked for by the answer’s id, with our key', async () => {
    books.answer(json(bill({ total_cost: 0.00001234, tokens_prompt: 19, tokens_completion: 2 })))
    const id = await bills.record()
    bills.work()
    await bills.isDone()
    expect(await bills.usageOf(id)).toEqual({
      prompt: 20,
      completion: 3,
      total: 23,
      cost: '0.00001234',
      source: 'reconciled',
    })
    expect(books.asked).toEqual([
      { id: 'gen-1234567890-aBcDeF', authorization: 'Bearer the-key', path: '/api/v1/generation' },
    ])
  })

  it.each([
    ['0', '0'],
    ['0.0', '0'],
    ['-0', '0'],
    ['1e-7', '0.0000001'],
    ['1.2345678e-10', '0.00000000012345678'],
    ['0.1', '0.1'],
    ['9999.999999', '9999.999999'],
    ['5', '5'],
  ])('of %s is kept exactly', async (told, kept) => {
    books.answer(
      json(`{"data":{"total_cost":${told},"native_tokens_prompt":1,"native_tokens_completion":1}}`),
    )
    const id = await bills.record()
    bills.work()
    await bills.isDone()
    expect(await bills.usageOf(id)).toMatchObject({ cost: kept, source: 'reconciled' })
  })

  it('of a free model is an exact zero, and its tokens are set right', async () => {
    books.answer(json(bill({ total_cost: 0 })))
    const id = await bills.record({ cost: '0', isFreeModel: true })
    bills.work()
    await bills.isDone()
    expect(await bills.usageOf(id)).toEqual({
      prompt: 20,
      completion: 3,
      total: 23,
      cost: '0',
      source: 'reconciled',
    })
  })

  it.each([
    ['counted by another tokenizer', { tokens_prompt: 19, tokens_completion: 2 }, [19, 2, 21]],
    ['not at all', {}, [100, 10, 110]],
    ['in part', { native_tokens_completion: 7 }, [100, 7, 107]],
    ['as none', { native_tokens_prompt: 0, native_tokens_completion: 0 }, [0, 0, 0]],
  ])('whose tokens are told %s', async (_name, told, [prompt, completion, total]) => {
    const untold = { native_tokens_prompt: null, native_tokens_completion: undefined }
    books.answer(json(bill({ ...untold, ...told })))
    const id = await bills.record()
    bills.work()
    await bills.isDone()
    expect(await bills.usageOf(id)).toEqual({ prompt, completion, total, cost: '0.5', source: 'reconciled' })
  })

  it('settles a reported answer whose cost was not told', async () => {
    books.answer(json(bill({})))
    const id = await bills.record({ source: 'reported' })
    bills.work()
    await bills.isDone()
    expect(await bills.usageOf(id)).toMatchObject({ cost: '0.5', source: 'reconciled' })
  })

  it('changes nothing where it is known already what it cost', async () => {
    books.answer(json(bill({})))
    const id = await bills.record()
    await bench.sql`update chat.usage_tracking set source = 'reported', cost = 7`
    bills.work()
    await bills.isDone()
    expect(await bills.usageOf(id)).toEqual({ ...guess, source: 'reported', cost: '7' })
  })

  it('is not missed by anybody where the usage is gone', async () => {
    books.answer(json(bill({})))
    await bills.record()
    await bench.sql`delete from chat.usage_tracking`
    bills.work()
    await bills.isDone()
    expect(bench.logs.filter(({ level }) => Number(level) >= 40)).toEqual([])
  })
})

describe('is asked for', () => {
  it.each<[name: string, asked: boolean, usage: Partial<UsageRow>, upstreamId?: string]>([
    ['where usage is a guess', true, {}],
    ['where a free answer’s tokens are a guess', true, { cost: '0', isFreeModel: true }],
    ['where all was reported but the cost', true, { source: 'reported' }],
    ['never where all was reported', false, { source: 'reported', cost: '0.1' }],
    ['never of a free answer that was reported', false, { source: 'reported', cost: '0', isFreeModel: true }],
    ['never of another server’s answer', false, {}, 'chatcmpl-123'],
    ['never by an id that is none', false, {}, 'gen-1&id=gen-2'],
    ['never by an id without end', false, {}, `gen-${'x'.repeat(300)}`],
    ['never without an id', false, {}, ''],
  ])('%s', async (_name, asked, usage, upstreamId) => {
    await bills.record(usage, upstreamId)
    expect(await bench.rows()).toHaveLength(asked ? 1 : 0)
    expect(await bench.sql`select from chat.usage_tracking`).toHaveLength(1)
  })
})

const huge = (response: Parameters<Parameters<Books['answer']>[0]>[0]) => {
  response.writeHead(200, { 'content-type': 'application/json' })
  response.write('{"data":{"total_cost":1,"native_tokens_prompt":1,"native_tokens_completion":1,"x":"')
  response.end(`${'x'.repeat(10 * 1024 * 1024)}"}}`)
}

describe('nonsense', () => {
  it.each<[name: string, how: Parameters<Books['answer']>[0]]>([
    ['a negative cost', json(bill({ total_cost: -0.1 }))],
    ['a cost in words', json(bill({ total_cost: '0.5' }))],
    ['a cost above all prices', json(bill({ total_cost: 10_001 }))],
    ['a cost without end', json('{"data":{"total_cost":1e999}}')],
    ['no cost', json(bill({ total_cost: undefined }))],
    ['a cost of null', json(bill({ total_cost: null }))],
    ['negative tokens', json(bill({ native_tokens_prompt: -1 }))],
    ['half a token', json(bill({ native_tokens_completion: 1.5 }))],
    ['more tokens than there are', json(bill({ native_tokens_prompt: 1e15 }))],
    ['tokens in words', json(bill({ native_tokens_prompt: '12' }))],
    ['no data', json({})],
    ['data that is a list', json({ data: [bill({}).data] })],
    ['null', json('null')],
    ['no JSON', json('<html>welcome</html>')],
    ['half of it', json('{"data":{"total_cost":1,')],
    ['nothing', json('')],
    ['bytes that are no text', (response) => void response.end(Buffer.from([0xff, 0xfe, 0x00, 0x80]))],
    ['10 MB', huge],
  ])('%s is never written; the job is tried again, and dead after ten times', async (_name, how) => {
    books.answer(how)
    const id = await bills.record()
    bills.work()
    await eventually(() => bench.rows()).toMatchObject([
      { status: 'dead', attempts: 10, last_error: 'upstream_bill_is_unusable' },
    ])
    expect(await bills.usageOf(id)).toEqual(guess)
    await eventually(() => bills.deaths()).toMatchObject([{ level: 40, kind: reconcileKind }])
    expect(books.asked).toHaveLength(10)
  })

  it('once is forgiven: the next answer counts', async () => {
    books.answer((response) => {
      books.answer(json(bill({})))
      json('oops')(response)
    })
    const id = await bills.record()
    bills.work()
    await bills.isDone()
    expect(await bills.usageOf(id)).toMatchObject({ source: 'reconciled' })
  })

  it('in a job’s own row is given up, and hurts nobody', async () => {
    books.answer(json(bill({})))
    const id = await bills.record()
    await bench.sql`
      insert into chat.jobs (id, kind, key, payload) values (gen_random_uuid(), ${reconcileKind}, 'odd', '[1]')`
    bills.work()
    await eventually(() => bills.usageOf(id)).toMatchObject({ source: 'reconciled' })
    await eventually(() => bench.rows()).toMatchObject([
      { key: 'odd', status: 'dead', last_error: 'ZodError' },
    ])
  })
})
