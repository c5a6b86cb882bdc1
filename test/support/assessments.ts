/** What events of assessments say, and what becomes of them as their user sees it. */
import { expect } from 'vitest'
import type { Conversation } from '../../src/conversations/schemas.ts'
import type { Message } from '../../src/messages/schemas.ts'
import type { Notification } from '../../src/notifications/schemas.ts'
import type { Answer, Client } from './client.ts'

export const results = {
  assessment_date: '2026-11-20T10:00:00.000Z',
  riasec: { R: 85, I: 92, A: 78, S: 40, E: 55, C: 30 },
  ocean: { O: 88, C: 75, E: 82, A: 60, N: 20 },
  via_is: { creativity: 95, leadership: 90, curiosity: 88, kindness: 70, honesty: 66 },
  persona_profile: {
    summary: 'You are someone who likes to find out how things work, and to show it to others.',
    details: 'You work best with the people and the problems that you have chosen yourself.',
    career_recommendations: ['Research engineer', 'Science journalist'],
  },
}

export interface EventWish {
  type?: string
  user_id?: string
  assessment_id?: string
  [key: string]: unknown
}

/** One that is complete, with its results, unless told otherwise. */
export const eventOf = (wish: EventWish = {}) => ({
  type: 'analysis_complete',
  user_id: 'ann',
  assessment_id: 'a1',
  occurred_at: '2026-11-20T10:05:00.000Z',
  ...((wish.type ?? 'analysis_complete') === 'analysis_complete' && { results }),
  ...wish,
})

export const tell = (service: Client, wish?: EventWish): Promise<Answer> =>
  service.post('/api/chat/internal/events', eventOf(wish))

export interface Adviser {
  exists: boolean
  conversation: Conversation
  messages: Message[]
}

export const adviserOf = async (client: Client, assessmentId = 'a1'): Promise<Adviser> =>
  (await client.get<Adviser>(`/api/chat/assessment/${encodeURIComponent(assessmentId)}/conversation`)).body

export const inboxOf = async (client: Client): Promise<Notification[]> =>
  (await client.get<{ notifications: Notification[] }>('/api/chat/notifications')).body.notifications

/** Waits for the row of the inbox that says so. */
export async function untilReady(client: Client, timeout = 12_000): Promise<void> {
  await expect
    .poll(async () => (await inboxOf(client)).map(({ progress }) => progress), { timeout, interval: 20 })
    .toContain(100)
}
