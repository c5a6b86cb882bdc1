/** What events have done in the end, held against what was told: each of it once. */
import { until, type Stand, type Told } from './events-stand.ts'

interface Found {
  user_id: string
  conversations: number
  /** Told to the end, and what its conversation shows. */
  welcomes: number
  shown: number
  /** Also those that died with their process. */
  begun: number
  composed: number
  score: string | null
  rows: number
  others: number
  progress: number | null
  /** Jobs that are not over. */
  jobs: number
}

/** The job behind an adviser that is ready is over soon; the lease of one that died with its process runs a minute, ms. */
const overMs = 75_000

/** @param score of the newest version @param killed processes died: what they had begun was begun again */
export async function judge(
  { world, ledger, caseNumber }: Stand,
  told: readonly Told[],
  { score = 92, killed = false }: { score?: number; killed?: boolean } = {},
): Promise<void> {
  const users = `events-${caseNumber}-%`
  await until(overMs, async () => {
    const [row] = await world.sql<{ count: number }>`
      select count(*)::int from chat.jobs where kind = 'onboard' and user_id like ${users}`
    return row?.count === 0
  })
  const found = await world.sql<Found>`
    select a.user_id,
      (select count(*)::int from chat.conversations c where c.user_id = a.user_id) as conversations,
      w.welcomes, w.shown, w.begun, w.composed,
      (select c.context_data -> 'riasec' ->> 'I' from chat.conversations c where c.user_id = a.user_id limit 1) as score,
      n.rows, n.others, n.progress,
      (select count(*)::int from chat.jobs j where j.kind = 'onboard' and j.key = a.assessment_id) as jobs
    from chat.assessments a
    cross join lateral (
      select count(*) filter (where m.status = 'complete')::int as welcomes,
        count(*) filter (where m.status = 'complete' and c.current_message_id = m.id)::int as shown,
        count(*)::int as begun, count(*) filter (where m.metadata ->> 'composed' = 'true')::int as composed
      from chat.conversations c join chat.messages m on m.conversation_id = c.id where c.user_id = a.user_id) w
    cross join lateral (
      select count(*) filter (where dedupe_key = 'assessment:' || a.assessment_id)::int as rows,
        count(*) filter (where dedupe_key is distinct from 'assessment:' || a.assessment_id)::int as others,
        max(progress)::int as progress
      from chat.notifications n where n.user_id = a.user_id) n
    where a.user_id like ${users}`
  const byUser = new Map(found.map((row) => [row.user_id, row]))
  for (const { userId, script } of told) {
    const row = byUser.get(userId)
    const check = (property: string, isSo: (row: Found) => boolean) =>
      ledger.check(
        property,
        caseNumber,
        row !== undefined && isSo(row),
        () => `${userId}: ${JSON.stringify(row ?? null)}, ${script.calls()} calls`,
      )
    check('one conversation for each assessment', (is) => is.conversations === 1)
    check(
      'one welcome that is shown, by the model',
      (is) => [is.welcomes, is.shown].every((count) => count === 1) && (killed || is.composed === 0),
    )
    check('one row of the inbox, at 100', (is) => is.rows === 1 && is.progress === 100)
    check('and nothing else in it', (is) => is.others === 0)
    check('the results of the newest version', (is) => Number(is.score) === score)
    check('no job is left over', (is) => is.jobs === 0)
    if (killed) {
      check('one upstream call for each welcome that was begun, at most', (is) => script.calls() <= is.begun)
      for (let again = 1; again < (row?.begun ?? 0); again++)
        ledger.note('welcomes that a kill interrupted, begun again')
    } else check('exactly one upstream call', (is) => script.calls() === 1 && is.begun === 1)
  }
}

/** When nobody takes anything any more: call with all instances gone. */
export async function judgeQueues(
  { ledger, caseNumber, depth, topology }: Stand,
  dead: number,
): Promise<void> {
  const { queue, deadQueue, delays } = topology
  const left = await depth(queue)
  ledger.check('the queue is empty in the end', caseNumber, left === 0, () => `${left} messages`)
  const lying = await depth(deadQueue)
  ledger.check('nothing else in the dead letters', caseNumber, lying === dead, () => `${lying} messages`)
  for (const one of delays) {
    const waiting = await depth(one.queue)
    ledger.check('nothing waits for another try', caseNumber, waiting === 0, () => `${waiting} messages`)
  }
}
