/** One example or more of each frame, for the asynchronous API document. A test parses each by its schema. */
import type { z } from 'zod'
import type { Notification } from '../notifications/schemas.ts'
import type { clientFrameSchema, serverFrameSchema } from './protocol.ts'

type Inbound = z.input<typeof clientFrameSchema>
type Outbound = z.input<typeof serverFrameSchema>
type Examples<Frame extends { op: string }> = {
  [Op in Frame['op']]: readonly { summary: string; payload: Extract<Frame, { op: Op }> }[]
}

const conversationId = '0193c1a0-7d2e-7c45-9b1e-2f6a4d8c0e11'
const notification: Notification = {
  id: '0193c1a4-52b7-7e0a-8d3c-9a1f5b6e7c22',
  seq: 4183,
  type: 'assessment_progress',
  priority: 'medium',
  template: 'analysis_complete',
  title: 'Your results are here',
  body: 'Have a look at what we found. Your adviser is getting ready to talk about it.',
  icon: 'chart',
  color: '#3b6ef5',
  action: { label: 'See your results', url: '/assessment/77/results' },
  data: { stage: 'analysis_complete', progress: 75, assessment_id: '77' },
  progress: 75,
  status: 'sent',
  created_at: '2026-03-01T09:00:00.000Z',
  updated_at: '2026-03-01T09:04:10.000Z',
  scheduled_at: null,
  expires_at: '2026-03-31T09:00:00.000Z',
  delivered_at: null,
  read_at: null,
  archived_at: null,
  removed: false,
}

export const inboundExamples: Examples<Inbound> = {
  ack: [{ summary: 'Everything up to 4190 has been applied.', payload: { op: 'ack', seq: 4190 } }],
  read: [
    { summary: 'One has been opened.', payload: { op: 'read', ids: [notification.id], rid: 1 } },
    { summary: 'All that is on the screen.', payload: { op: 'read', up_to: 4190, rid: 2 } },
  ],
  list: [
    { summary: 'The newest unread ones.', payload: { op: 'list', status: 'unread', limit: 20, rid: 3 } },
  ],
  join: [
    { summary: 'A conversation.', payload: { op: 'join', room: `conversation:${conversationId}`, rid: 4 } },
  ],
  leave: [{ summary: 'A room that a service made.', payload: { op: 'leave', room: 'team:design', rid: 5 } }],
  typing: [
    {
      summary: 'Begins; to be said again within 6 s.',
      payload: { op: 'typing', room: `conversation:${conversationId}` },
    },
    {
      summary: 'Ends.',
      payload: { op: 'typing', room: `conversation:${conversationId}`, typing: false },
    },
  ],
  presence: [{ summary: 'The tab is in the background.', payload: { op: 'presence', state: 'away' } }],
  sync: [{ summary: 'There is a gap behind 4180.', payload: { op: 'sync', seq: 4180, rid: 6 } }],
  ping: [{ summary: 'Is anybody there?', payload: { op: 'ping', rid: 7 } }],
}

export const outboundExamples: Examples<Outbound> = {
  hello: [
    {
      summary: 'What is behind the cursor follows.',
      payload: { op: 'hello', v: 1, epoch: 'k3Vx0a2b', head: 4190, unread: 7, heartbeat: 25, mode: 'resume' },
    },
    {
      summary: 'The cursor is older than what is kept: the list is to be read again.',
      payload: { op: 'hello', v: 1, epoch: 'k3Vx0a2b', head: 4190, unread: 7, heartbeat: 25, mode: 'reset' },
    },
  ],
  event: [
    {
      summary: 'Durable: a change of the inbox.',
      payload: {
        op: 'event',
        seq: 4183,
        prev: 4180,
        id: notification.id,
        type: notification.type,
        time: notification.updated_at,
        unread: 7,
        data: notification,
      },
    },
    {
      summary: 'Volatile: somebody is typing in a room.',
      payload: {
        op: 'event',
        type: 'typing',
        room: `conversation:${conversationId}`,
        data: { user_id: 'ben', typing: true },
      },
    },
  ],
  live: [{ summary: 'The client stands at 4190 now.', payload: { op: 'live', seq: 4190 } }],
  heartbeat: [{ summary: 'The log ends at 4190.', payload: { op: 'heartbeat', head: 4190 } }],
  ok: [
    { summary: 'A ping’s answer.', payload: { op: 'ok', rid: 7 } },
    {
      summary: 'A list’s: a page of notifications.',
      payload: {
        op: 'ok',
        rid: 3,
        notifications: [notification],
        unread: 7,
        cursor: 'k3Vx0a2b.4190',
        pagination: { limit: 20, has_more: false, next_cursor: null },
      },
    },
  ],
  error: [
    {
      summary: 'A room that one is no member of.',
      payload: { op: 'error', rid: 4, code: 'forbidden', message: 'This room is not open to you.' },
    },
  ],
}
