/** Makes the conversation about an assessment, or tells it what is known now: whoever asks for it, in its transaction. */
import { v7 as uuidv7 } from 'uuid'
import { changeOf, type TellDevices } from '../conversations/changes.ts'
import { readConversation } from '../conversations/queries.ts'
import type { Tx } from '../db/database.ts'
import type { Links } from '../http/links.ts'
import { contextOf, titleOf } from './adviser.ts'
import { makeAdviser } from './queries.ts'
import type { AssessmentResults } from './results.ts'

export interface AppointDeps {
  links: Links
  tellDevices: TellDevices
}

export interface Appointment {
  userId: string
  assessmentId: string
  results: AssessmentResults
  /** Its user's own; else one by its results. */
  title?: string | undefined
  /** Who asked for it, as its conversation's metadata says. */
  trigger: string
}

export interface Appointed {
  conversationId: string
  isNew: boolean
  /** For after the commit. */
  told: () => void
}

/** As the system, behind the lock on the assessment. */
export async function appoint(
  tx: Tx,
  { links, tellDevices }: AppointDeps,
  { userId, assessmentId, results, title, trigger }: Appointment,
): Promise<Appointed> {
  const { id, isNew } = await makeAdviser(tx, {
    id: uuidv7(),
    userId,
    assessmentId,
    title: title ?? titleOf(results),
    titleSource: title === undefined ? 'auto' : 'user',
    contextData: contextOf(assessmentId, results),
    metadata: { trigger_source: trigger },
  })
  const made = isNew ? await readConversation(tx, id, links) : undefined
  const told = () => {
    if (made !== undefined) tellDevices(userId, changeOf(made, 'created'))
  }
  return { conversationId: id, isNew, told }
}
