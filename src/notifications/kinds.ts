/**
 * Door of notifications: the closed lists that a notification is made of.
 * They stand in a file that imports nothing, so that templates, channels, tables and wire shapes can share them.
 */

/** What a notification is about. A client may group by it, a person may mute by it. */
export const notificationTypes = [
  'assessment_progress',
  'chat_message',
  'generation_finished',
  'generation_failed',
  'recommendation',
  'reminder',
  'announcement',
  'system',
  'security',
] as const
export type NotificationType = (typeof notificationTypes)[number]

/** From what can wait to what cannot. */
export const priorities = ['low', 'medium', 'high', 'critical'] as const
export type Priority = (typeof priorities)[number]

/** Ways to a person. `in_app` is always there; each of the others is off until it is configured. */
export const channels = ['in_app', 'email', 'web_push', 'webhook'] as const
export type Channel = (typeof channels)[number]
