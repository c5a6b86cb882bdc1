import { expect, it } from 'vitest'
import { AppError } from '../../src/errors.ts'
import { createSendQueue } from '../../src/messages/queue.ts'

const busy = () => new AppError('generation_in_progress')

it('lets waiters through in the order of arrival, each when the answer before it has settled', async () => {
  const queue = createSendQueue()
  const order: number[] = []
  let running: PromiseWithResolvers<undefined> | undefined = Promise.withResolvers<undefined>()
  const first = running
  const attempt = (n: number) => async () => {
    if (running !== undefined) throw busy()
    order.push(n)
    running = Promise.withResolvers<undefined>()
    return n
  }
  const waiters = [1, 2, 3].map((n) =>
    queue.enter('c', attempt(n), () => Promise.resolve(running && { settled: running.promise })),
  )
  running = undefined
  first.resolve(undefined)
  expect(await waiters[0]).toBe(1)
  for (const waiter of waiters.slice(1)) {
    const ended = running as PromiseWithResolvers<undefined> | undefined
    running = undefined
    ended?.resolve(undefined)
    await waiter
  }
  expect(order).toEqual([1, 2, 3])
})

it('does not let one that failed hold up the next', async () => {
  const queue = createSendQueue()
  const failed = queue.enter(
    'c',
    () => Promise.reject(new AppError('conversation_not_found')),
    () => Promise.resolve(undefined),
  )
  const next = queue.enter(
    'c',
    () => Promise.resolve('through'),
    () => Promise.resolve(undefined),
  )
  await expect(failed).rejects.toMatchObject({ code: 'conversation_not_found' })
  expect(await next).toBe('through')
})

it('tells the 21st at once that an answer is being generated', async () => {
  const queue = createSendQueue()
  const never = new Promise(() => undefined)
  for (let n = 0; n < 20; n++)
    void queue
      .enter(
        'c',
        () => Promise.reject(busy()),
        () => Promise.resolve({ settled: never }),
      )
      .catch(() => undefined)
  await expect(
    queue.enter(
      'c',
      () => Promise.reject(busy()),
      () => Promise.resolve({ settled: never }),
    ),
  ).rejects.toMatchObject({
    code: 'generation_in_progress',
  })
})
