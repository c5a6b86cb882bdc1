/** Door of db/schema: every table, as drizzle-kit reads them. */
export { chat, chatCaller, chatSystem } from './chat.ts'
export { conversations } from './conversations.ts'
export { generationChunks, generations } from './generations.ts'
export { idempotencyKeys } from './idempotency.ts'
export { jobs } from './jobs.ts'
export { messages } from './messages.ts'
export { tickets } from './tickets.ts'
export { usageTracking } from './usage.ts'
