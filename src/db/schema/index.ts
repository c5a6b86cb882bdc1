/** Door of db/schema: every table, as drizzle-kit reads them. */
export { chat, chatCaller, chatSystem } from './chat.ts'
export { assessments } from './assessments.ts'
export { conversations } from './conversations.ts'
export { processedEvents } from './events.ts'
export { generationChunks, generations } from './generations.ts'
export { idempotencyKeys } from './idempotency.ts'
export {
  broadcasts,
  deliveries,
  inboxHeads,
  notificationPreferences,
  notifications,
  pushSubscriptions,
  webhookTargets,
} from './inbox.ts'
export { jobs } from './jobs.ts'
export { messages } from './messages.ts'
export { outbox } from './outbox.ts'
export { messageReactions } from './reactions.ts'
export { roomMembers } from './rooms.ts'
export { tickets } from './tickets.ts'
export { usageTracking } from './usage.ts'
