/** The wire shapes of what services ask of notifications. */
import { z } from 'zod'
import { jsonObject, text, userId } from '../http/text.ts'
import { isAddress } from './channels/email.ts'
import { channels, notificationTypes, priorities } from './kinds.ts'

/** Of one request: their heads are locked together for under a second. */
export const bulkUsersMax = 10_000
export const bulkBodyBytesMax = 4 * 1024 * 1024
/** As JSON: with everything else a frame stays under 64 KiB. */
export const dataBytesMax = 16 * 1024
export const emailAddress = z
  .string()
  .refine((address) => isAddress(address) && address.isWellFormed(), 'must be an e-mail address')

/** Browsers drop tabs and line ends, and take a backslash for a slash: what is left could be another host. */
export const isLink = (url: string) =>
  /^(https?:\/\/|\/(?![/\\]))/i.test(url) && !/[\u0000-\u001f\u007f]/.test(url)
const link = text(1, 2_000).refine(isLink, 'must be an http(s) URL, or a path')
const moment = z.iso
  .datetime({ offset: true })
  .meta({ description: 'RFC 3339, within a year from now; one that is over means now.' })
const data = jsonObject
  .refine(
    (value) => Buffer.byteLength(JSON.stringify(value)) <= dataBytesMax,
    `must have at most ${dataBytesMax} bytes as JSON`,
  )
  .meta({
    description: 'For clients: ids and the like. A template has some of its own, which this is laid over.',
  })

/** What it says, and how it goes: the same for one and for many. */
const said = {
  template: text(1, 100)
    .optional()
    .meta({ description: 'Of GET …/notifications/templates; else a type and a title.' }),
  variables: z.record(z.string(), z.unknown()).optional(),
  type: z.enum(notificationTypes).optional(),
  title: text(1, 200).optional(),
  body: text(0, 4_000).optional(),
  icon: text(1, 100).optional(),
  color: z
    .string()
    .regex(/^#[0-9a-f]{6}$/i, 'must be a colour such as #3b6ef5')
    .optional(),
  action: z
    .strictObject({ type: z.literal('redirect').optional(), label: text(1, 100).optional(), url: link })
    .optional(),
  data: data.optional(),
  progress: z.int().min(0).max(100).optional().meta({ description: 'Percent; it never goes back.' }),
  priority: z.enum(priorities).optional(),
  channels: z.array(z.enum(channels)).max(channels.length).optional(),
  send_at: moment.optional(),
  expires_at: moment.optional().meta({ description: 'Default: 30 days after it appears.' }),
}
const named = {
  dedupe_key: text(1, 255).optional().meta({
    description: 'Names the row: what comes under it again changes it, and progress does not go back.',
  }),
}

type Said = z.output<z.ZodObject<typeof said>>

/** Either a template with its variables, or a type and words of one's own. A type with variables names its template. */
function checkSaid(value: Said, context: z.core.$RefinementCtx): void {
  const wrong = (path: string, message: string) =>
    context.issues.push({ code: 'custom', path: [path], message, input: value })
  if (value.template === undefined) {
    if (value.type === undefined) wrong('type', 'is needed where there is no template')
    if (value.title === undefined && value.variables === undefined)
      wrong('title', 'is needed where there is no template')
    if (value.title !== undefined && value.variables !== undefined) wrong('variables', 'are a template’s')
    if (value.title === undefined && value.body !== undefined) wrong('body', 'goes with a title')
  } else
    for (const key of ['type', 'title', 'body'] as const)
      if (value[key] !== undefined) wrong(key, 'is what the template says')
}

export const notificationBody = z
  .strictObject({ user_id: userId, ...said, ...named, email: emailAddress.optional() })
  .superRefine(checkSaid)
export type NotificationBody = z.output<typeof notificationBody>

/** As older services send it. */
export const olderBody = z.strictObject({
  userId,
  notification: z.strictObject({
    type: z.enum(notificationTypes),
    stage: text(1, 100).optional(),
    title: text(1, 200).optional(),
    message: text(0, 4_000).optional(),
    progress: z.number().min(0).max(100).optional(),
    assessmentId: text(1, 128).optional(),
    action: z
      .union([text(0, 2_000), jsonObject])
      .nullable()
      .optional(),
    metadata: data.nullable().optional(),
    timestamp: z.union([text(0, 100), z.number()]).optional(),
  }),
})
export type OlderBody = z.output<typeof olderBody>

export const bulkBody = z
  .strictObject({
    user_ids: z.array(userId).min(1).max(bulkUsersMax).optional(),
    ...said,
    ...named,
    notifications: z.array(notificationBody).min(1).max(bulkUsersMax).optional(),
  })
  .superRefine((value, context) => {
    const { user_ids, notifications, ...rest } = value
    const wrong = (message: string) =>
      context.issues.push({ code: 'custom', path: [], message, input: value })
    if ((user_ids === undefined) === (notifications === undefined)) wrong('either user_ids or notifications')
    else if (user_ids !== undefined) checkSaid(rest, context)
    else if (Object.values(rest).some((given) => given !== undefined))
      wrong('each of notifications says for itself what it says')
  })
export type BulkBody = z.output<typeof bulkBody>

export const broadcastBody = z.strictObject(said).superRefine(checkSaid)
export type BroadcastBody = z.output<typeof broadcastBody>

export const webhookBody = z.strictObject({
  url: text(1, 2_000),
  user_id: userId.optional().meta({ description: 'Only of this user; default: of all.' }),
  types: z.array(z.enum(notificationTypes)).min(1).max(notificationTypes.length).optional(),
})
export type WebhookBody = z.output<typeof webhookBody>
