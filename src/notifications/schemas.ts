/** The wire shapes of the inbox. Types are inferred; queries.ts and log.ts make the values. */
import { z } from 'zod'
import { notificationTypes, priorities } from './kinds.ts'

export const notificationStatuses = ['pending', 'sent', 'delivered', 'read', 'failed'] as const

export const actionSchema = z.strictObject({
  type: z.literal('redirect').optional().meta({ description: 'What it does: the only kind there is.' }),
  label: z.string().min(1).max(100).optional(),
  url: z
    .string()
    .min(1)
    .max(2_000)
    .refine((url) => /^(https?:\/\/|\/(?!\/))/i.test(url), 'must be an http(s) URL, or a path')
    .meta({ description: 'Where it leads: an http or https URL, or a path of the app.' }),
})

export const notificationSchema = z
  .object({
    id: z.uuid(),
    seq: z
      .int()
      .nullable()
      .meta({ description: 'Its place in the log: the same id with a higher seq is newer.' }),
    type: z.enum(notificationTypes),
    priority: z.enum(priorities),
    template: z.string().nullable(),
    title: z.string(),
    body: z.string(),
    icon: z.string().nullable(),
    color: z.string().nullable(),
    action: actionSchema.nullable(),
    data: z.record(z.string(), z.unknown()),
    progress: z.int().min(0).max(100).nullable().meta({ description: 'Percent; it never goes back.' }),
    status: z
      .enum(notificationStatuses)
      .meta({ description: 'One word for it all: delivered when a device acknowledged this version.' }),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    scheduled_at: z.iso.datetime().nullable(),
    expires_at: z.iso.datetime(),
    delivered_at: z.iso.datetime().nullable(),
    read_at: z.iso.datetime().nullable(),
    archived_at: z.iso.datetime().nullable(),
    removed: z.boolean().meta({ description: 'It expired: forget it. Nothing else of it is left.' }),
  })
  .meta({ id: 'Notification' })
export type Notification = z.infer<typeof notificationSchema>

export const notificationParams = z.object({ id: z.string() })
