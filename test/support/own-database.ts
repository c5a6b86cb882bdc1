/** A migrated database of one test file, from before its first test until behind its last. */
import { afterAll, beforeAll } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { openDatabase } from './cluster.ts'
import { cloneDatabase } from './service.ts'

/** @param use gets it before the tests begin. */
export function ownDatabase(poolMax: number, use: (own: { url: string; database: Database }) => void): void {
  let close: () => Promise<void>
  beforeAll(async () => {
    const { url, drop } = await cloneDatabase()
    const { database } = openDatabase(url, poolMax)
    close = async () => {
      await database.close()
      await drop()
    }
    await database.prepare(new AbortController().signal)
    use({ url, database })
  })
  afterAll(() => close())
}
