/** A notification as channels are given it. */
import { randomUUID } from 'node:crypto'
import type { Outgoing } from '../../src/notifications/channels/channel.ts'

export const outgoing = (changes: Partial<Outgoing> = {}): Outgoing => ({
  id: randomUUID(),
  version: 1,
  userId: 'ann',
  type: 'chat_message',
  priority: 'high',
  title: 'Ben wrote to you',
  body: 'Shall we talk about it?',
  icon: 'chat',
  color: '#3b6ef5',
  action: { label: 'Read and reply', url: '/conversations/1' },
  data: { conversation_id: '1' },
  createdAt: '2026-01-02T03:04:05.678Z',
  ...changes,
})
