/** The wire shapes of what services are answered about notifications. */
import { z } from 'zod'
import { channels, notificationTypes } from './kinds.ts'
import { outsideChannels } from './plan.ts'
import { notificationSchema } from './schemas.ts'

export const publishedSchema = z.object({
  notification_id: z.uuid().meta({ description: 'The row’s: an older one where its key was known.' }),
  user_id: z.string(),
  outcome: z
    .enum(['new', 'changed', 'same', 'scheduled'])
    .meta({ description: '`same`: nothing new was said, or something older than what is known.' }),
  seq: z.int().nullable().meta({ description: 'Its place in the user’s log; null: none by this.' }),
})

const why = z.string().nullable().meta({ description: 'A code.' })
const count = z.object({ queued: z.int(), sent: z.int(), failed: z.int(), skipped: z.int() })

export const dispatchStatusSchema = z.object({
  channels: z.array(z.enum(channels)).meta({ description: 'What this installation has.' }),
  deliveries: z.object({ email: count, web_push: count, webhook: count }),
  oldest_due_at: z.iso
    .datetime()
    .nullable()
    .meta({ description: 'Since when a delivery waits that is due; null: none does.' }),
  scheduled: z.int().meta({ description: 'Notifications that have not appeared yet.' }),
  dead: z.array(
    z.object({
      id: z.uuid(),
      notification_id: z.string(),
      channel: z.string(),
      target: z.string(),
      user_id: z.string().nullable(),
      attempts: z.int(),
      why,
      created_at: z.iso.datetime(),
    }),
  ),
  broadcasts: z.array(
    z.object({
      id: z.uuid(),
      sent: z.int(),
      created_at: z.iso.datetime(),
      finished_at: z.iso.datetime().nullable(),
    }),
  ),
})

export const inFullSchema = z.object({
  notification: notificationSchema,
  user_id: z.string(),
  dedupe_key: z.string().nullable(),
  deliveries: z.array(
    z.object({
      channel: z.enum(outsideChannels),
      target: z.string().meta({ description: 'A subscription’s or a webhook’s id; empty for e-mail.' }),
      status: z.enum(['queued', 'sent', 'failed', 'skipped']),
      attempts: z.int(),
      why,
      updated_at: z.iso.datetime(),
    }),
  ),
})

export const webhookSchema = z.object({
  id: z.uuid(),
  url: z.string(),
  user_id: z.string().nullable(),
  types: z.array(z.enum(notificationTypes)).nullable(),
  created_at: z.iso.datetime(),
})
