/** What a notification says, where a test does not care. */
import type { Content } from '../../src/notifications/inbox.ts'

export const contentOf = (changes: Partial<Content> = {}): Content => ({
  type: 'reminder',
  priority: 'medium',
  template: null,
  title: 'A title',
  body: 'A body.',
  icon: null,
  color: null,
  action: null,
  data: {},
  progress: null,
  channels: ['in_app'],
  ...changes,
})
