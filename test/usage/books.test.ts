/** Upstreams that do not tell what an answer cost: not yet, not ever, not to us. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { bill, guess, startBills, type Bills } from '../support/bills.ts'
import { json, startBooks, type Books } from '../support/books.ts'
import { eventually } from '../support/jobs.ts'

let bills: Bills
let bench: Bills['bench']
let books: Books
beforeEach(async () => {
  bills = await startBills()
  ;({ bench, books } = bills)
})
afterEach(() => bills.close())

describe('an upstream', () => {
  it.each([
    ['does not know the answer', 404, 10, 'upstream_knows_no_such_answer'],
    ['does not know the question', 400, 3, 'upstream_tells_no_costs'],
    ['does not know the method', 405, 3, 'upstream_tells_no_costs'],
    ['has not learned it yet', 501, 3, 'upstream_tells_no_costs'],
  ])('that %s (%d) is asked %d times, then no more; no warning', async (_name, status, times, why) => {
    books.answer(json({ error: { code: status, message: 'no' } }, status))
    const id = await bills.record()
    bills.work()
    await eventually(() => bench.rows()).toMatchObject([{ status: 'dead', attempts: times, last_error: why }])
    await eventually(() => bills.deaths()).toMatchObject([{ level: 30, why }])
    expect(bench.logs.filter(({ level }) => Number(level) >= 40)).toEqual([])
    expect(books.asked).toHaveLength(times)
    expect(await bills.usageOf(id)).toEqual(guess)
  })

  it.each([301, 302, 307, 308])(
    'that sends us elsewhere (%d) is not followed: it could take our key along',
    async (status) => {
      const elsewhere = await startBooks()
      elsewhere.answer(json(bill({})))
      books.answer(json('', status, { location: `${elsewhere.baseUrl}/generation?id=gen-1` }))
      const id = await bills.record()
      bills.work()
      await eventually(() => bench.rows()).toMatchObject([
        { status: 'dead', last_error: 'upstream_tells_no_costs' },
      ])
      expect(elsewhere.asked).toEqual([])
      expect(await bills.usageOf(id)).toEqual(guess)
      await elsewhere.close()
    },
  )

  it.each([401, 402, 403, 408, 429, 500, 502, 503, 529])(
    'that answers %d is asked again, until it tells',
    async (status) => {
      books.answer(json({ error: {} }, status))
      const id = await bills.record()
      bills.work({ attemptsMax: 1_000 })
      await eventually(() => books.asked.length).toBeGreaterThan(4)
      expect(await bench.rows()).toMatchObject([
        { status: 'queued', last_error: `upstream_status_${status}` },
      ])
      books.answer(json(bill({})))
      await bills.isDone()
      expect(await bills.usageOf(id)).toMatchObject({ source: 'reconciled' })
    },
  )

  it('that says when to come back is not asked before', async () => {
    books.answer(json({}, 429, { 'retry-after': '300' }))
    await bills.record()
    bills.work()
    await eventually(() => bench.rows()).toMatchObject([{ attempts: 1, leased: false }])
    const [row] = await bench.rows()
    expect(row?.due_ms).toBeGreaterThan(290_000)
    expect(row?.due_ms).toBeLessThanOrEqual(300_000)
  })

  it('that is down is asked again, and answers when it is back', async () => {
    await books.shut()
    const id = await bills.record()
    bills.work({ attemptsMax: 1_000 })
    await eventually(async () => (await bench.rows())[0]?.attempts).toBeGreaterThan(3)
    expect(await bench.rows()).toMatchObject([{ status: 'queued', last_error: 'upstream_unreachable' }])
    expect(await bills.usageOf(id)).toEqual(guess)
    books.answer(json(bill({})))
    await books.open()
    await bills.isDone()
    expect(await bills.usageOf(id)).toMatchObject({ cost: '0.5', source: 'reconciled' })
  })

  it('that is down for good is given up after sixteen times, with a warning: the row stays a guess', async () => {
    await books.shut()
    const id = await bills.record()
    bills.work()
    await eventually(() => bench.rows()).toMatchObject([
      { status: 'dead', attempts: 16, last_error: 'upstream_unreachable' },
    ])
    await eventually(() => bills.deaths()).toMatchObject([{ level: 40 }])
    expect(await bills.usageOf(id)).toEqual(guess)
  })

  it('that cuts the answer off is asked again', async () => {
    books.answer((response) => {
      response.writeHead(200, { 'content-length': '500' }).write('{"data":{"total_cost":1')
      response.destroy()
    })
    const id = await bills.record()
    bills.work({ attemptsMax: 1_000 })
    await eventually(async () => (await bench.rows())[0]?.last_error).toBe('upstream_unreachable')
    books.answer(json(bill({})))
    await bills.isDone()
    expect(await bills.usageOf(id)).toMatchObject({ source: 'reconciled' })
  })

  it.each([
    ['never answers', () => undefined],
    [
      'never ends its answer',
      (response: { writeHead: (status: number) => { write: (text: string) => unknown } }) =>
        void response.writeHead(200).write('{'),
    ],
  ])('that %s does not hold a process that stops', async (_name, how) => {
    books.answer(how)
    await bills.record()
    const worker = bills.work()
    await eventually(() => books.asked.length).toBe(1)
    const startedAtMs = performance.now()
    await worker.close()
    expect(performance.now() - startedAtMs).toBeLessThan(900)
    expect(await bench.rows()).toMatchObject([{ status: 'queued', attempts: 0, leased: false }])
  })
})
