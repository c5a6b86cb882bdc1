/** Door of db/schema: every table, as drizzle-kit reads them. */
export { conversations } from './conversations.ts'
export { idempotencyKeys } from './idempotency.ts'
export { generationChunks, generations } from './generations.ts'
export { messages } from './messages.ts'
export { chat, chatCaller, chatSystem } from './chat.ts'
export { usageTracking } from './usage.ts'
