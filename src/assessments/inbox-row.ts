/** The one row of an inbox in which an assessment moves forward, from its submission to its adviser. */
import { renderTemplate } from '../notifications/templates.ts'
import type { NewNotification } from '../notifications/notify.ts'
import type { EventType } from './event.ts'

export function progressOf(
  stage: EventType | 'chatbot_ready',
  { userId, assessmentId, conversationId }: { userId: string; assessmentId: string; conversationId?: string },
): NewNotification {
  const variables = {
    assessment_id: assessmentId,
    ...(conversationId !== undefined && { conversation_id: conversationId }),
  }
  return { userId, content: renderTemplate(stage, variables), dedupeKey: `assessment:${assessmentId}` }
}
