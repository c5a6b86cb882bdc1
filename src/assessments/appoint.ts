/** Makes the conversation about an assessment, or tells it what is known now: whoever asks for it, in its transaction. */
import { v7 as uuidv7 } from 'uuid'
import type { TellDevices } from '../conversations/changes.ts'
import type { Tx } from '../db/database.ts'
import { contextOf, titleOf } from './adviser.ts'
import { makeAdviser } from './queries.ts'
import type { AssessmentResults } from './results.ts'

export interface AppointDeps {
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

/** As the system, behind the lock on the assessment: whoever makes one for another that was deleted has noted that it is not ready. */
export async function appoint(
  tx: Tx,
  { tellDevices }: AppointDeps,
  { userId, assessmentId, results, title, trigger }: Appointment,
): Promise<Appointed> {
  const { listed, isNew } = await makeAdviser(tx, {
    id: uuidv7(),
    userId,
    assessmentId,
    title: title ?? titleOf(results),
    titleSource: title === undefined ? 'auto' : 'user',
    contextData: contextOf(assessmentId, results),
    metadata: { trigger_source: trigger },
  })
  const told = () => {
    if (isNew) tellDevices(userId, { ...listed, reason: 'created' })
  }
  return { conversationId: listed.id, isNew, told }
}
