/**
 * Events of assessments over a real RabbitMQ, with all the bad luck that there is: killed between commit and
 * acknowledgement, told again and in any order, without a database, without a broker, poisoned. In the end each
 * event has had its effect once. Without a RabbitMQ nothing of it can be shown, and that is what is said.
 *
 * It has a PostgreSQL of its own, which is stopped for real.
 */
import { hasRabbit } from '../support/rabbitmq.ts'
import { startCrashingPostgres } from './crashing-postgres.ts'
import { shuffled, together } from './events-again.ts'
import { poison } from './events-poison.ts'
import { setStand, type Stand } from './events-stand.ts'
import { killed, withoutBroker, withoutDatabase } from './events-trouble.ts'
import { createLedger } from './ledger.ts'
import { runCases, type Part } from './part.ts'
import { createWorld } from './world.ts'

/** In the order of their case numbers, from 1. */
const scenarios: readonly ((stand: Stand) => Promise<void>)[] = [
  killed,
  shuffled,
  together,
  withoutDatabase,
  withoutBroker,
  poison,
]

export const events: Part = async (_world, orders) => {
  if (!(await hasRabbit())) {
    const ledger = createLedger('events')
    ledger.note('SKIPPED: there is no RabbitMQ here')
    return ledger
  }
  const postgres = await startCrashingPostgres()
  orders.releases.add(postgres.stop)
  const world = await createWorld(postgres.url)
  try {
    const ledger = await runCases('events', orders, 1, async (caseNumber, found) => {
      const run = scenarios[caseNumber - 1]
      if (run === undefined) throw new Error(`there are ${scenarios.length} cases`)
      const stand = await setStand(world, postgres, orders, found, caseNumber)
      // What it has at the broker would outlive us.
      orders.releases.add(stand.close)
      try {
        await run(stand)
      } finally {
        await stand.close()
        orders.releases.delete(stand.close)
      }
      return 1
    })
    for (const death of world.deaths())
      ledger.check('no instance ends by itself', undefined, false, () => death)
    return ledger
  } finally {
    await world.close()
    await postgres.stop()
    orders.releases.delete(postgres.stop)
  }
}
