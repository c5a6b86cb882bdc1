/** Room for so many at once. */
import { expect, it } from 'vitest'
import { createRoom } from '../../src/jobs/room.ts'

it('lets in so many, the others in the order of coming, and whoever fails leaves their place too', async () => {
  const room = createRoom(2)
  const begun: number[] = []
  const ends = Array.from({ length: 5 }, () => Promise.withResolvers<undefined>())
  const works = ends.map(({ promise }, n) =>
    room(async () => {
      begun.push(n)
      await promise
      if (n === 1) throw new Error('on purpose')
      return n
    }),
  )
  const settled = Promise.allSettled(works)
  expect(begun).toEqual([0, 1])
  ends[1]?.resolve(undefined)
  await expect(works[1]).rejects.toThrow('on purpose')
  await expect.poll(() => begun).toEqual([0, 1, 2])
  for (const { resolve } of ends) resolve(undefined)
  expect((await settled).map(({ status }) => status)).toEqual([
    'fulfilled',
    'rejected',
    'fulfilled',
    'fulfilled',
    'fulfilled',
  ])
  expect(begun).toEqual([0, 1, 2, 3, 4])
})
