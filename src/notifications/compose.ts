/** What a service said → what is published. */
import { AppError } from '../errors.ts'
import {
  dataBytesMax,
  isLink,
  type BroadcastBody,
  type BulkBody,
  type NotificationBody,
  type OlderBody,
} from './bodies.ts'
import type { Content, NewNotification } from './inbox.ts'
import type { Channel } from './kinds.ts'
import { listTemplates, renderTemplate } from './templates.ts'

/** As the templates have it. */
const assessmentCharsMax = 128
/** Of one row in one request: each takes its turn in the transaction. */
const repeatedMax = 50
/** How far ahead anything may be planned, ms. */
const aheadMaxMs = 366 * 24 * 3_600_000

export interface Composed {
  entries: NewNotification[]
  /** Addresses that were told along. */
  contacts: { userId: string; email: string }[]
}

/** @throws AppError unknown_template, invalid_variables, invalid_request. */
export function composeOne(
  body: NotificationBody | OlderBody,
  now: Date,
): { entry: NewNotification; contacts: Composed['contacts'] } {
  return 'userId' in body
    ? { entry: fromOlder(body), contacts: [] }
    : { entry: entryOf(body, '', now), contacts: contactsOf([body]) }
}

/** Of many users who are told the same there is one content. */
export function composeBulk(body: BulkBody, now: Date): Composed {
  const { user_ids = [], notifications, ...said } = body
  if (notifications !== undefined) {
    const entries = notifications.map((one, index) => entryOf(one, `notifications.${index}.`, now))
    assertFewOfEach(entries)
    return { entries, contacts: contactsOf(notifications) }
  }
  const content = contentOf(said, '')
  const rest = { ...timesOf(said, '', now), dedupeKey: said.dedupe_key ?? assessmentKey(content) }
  return { entries: [...new Set(user_ids)].map((userId) => ({ userId, content, ...rest })), contacts: [] }
}

export function composeBroadcast(
  body: BroadcastBody,
  now: Date,
): { content: Content; sendAt: string | null; expiresAt: string | null } {
  const { scheduledAt, expiresAt } = timesOf(body, '', now)
  return { content: contentOf(body, ''), sendAt: scheduledAt, expiresAt }
}

function entryOf(body: NotificationBody, at: string, now: Date): NewNotification {
  const content = contentOf(body, at)
  return {
    userId: body.user_id,
    content,
    dedupeKey: body.dedupe_key ?? assessmentKey(content),
    ...timesOf(body, at, now),
  }
}

function assertFewOfEach(entries: readonly NewNotification[]): void {
  const counts = new Map<string, number>()
  for (const [index, { userId, dedupeKey }] of entries.entries()) {
    if (dedupeKey == null) continue
    const name = JSON.stringify([userId, dedupeKey])
    const count = (counts.get(name) ?? 0) + 1
    counts.set(name, count)
    if (count <= repeatedMax) continue
    const message = `is the same row for more than ${repeatedMax} times`
    throw new AppError('invalid_request', {
      detail: 'One row is changed too often in one request: send its last version.',
      errors: [{ path: `notifications.${index}`, message }],
    })
  }
}

/** The last one told of each user. */
function contactsOf(bodies: readonly NotificationBody[]): Composed['contacts'] {
  const addresses = new Map<string, string>()
  for (const { user_id, email } of bodies) if (email !== undefined) addresses.set(user_id, email)
  return [...addresses].map(([userId, email]) => ({ userId, email }))
}

type Said = Omit<BroadcastBody, 'send_at' | 'expires_at'>

/** @param at where it stands in the request, with a dot at its end, or ''. */
function contentOf(said: Said, at: string): Content {
  const base = baseOf(said, at)
  return {
    ...base,
    icon: said.icon ?? base.icon,
    color: said.color ?? base.color,
    action: said.action ?? base.action,
    data: { ...base.data, ...said.data },
    progress: said.progress ?? base.progress,
    priority: said.priority ?? base.priority,
    channels: channelsOf(said.channels ?? base.channels),
  }
}

function baseOf({ template, variables, type, title, body }: Said, at: string): Content {
  const name = template ?? (title === undefined ? type : undefined)
  if (name !== undefined) return renderTemplate(name, variables ?? {}, `${at}variables`)
  if (type === undefined || title === undefined) throw new AppError('invalid_request')
  return { ...plain, type, title, body: body ?? '' }
}

const plain = {
  priority: 'medium',
  template: null,
  icon: null,
  color: null,
  action: null,
  data: {},
  progress: null,
  channels: ['in_app'],
} as const

/** The inbox always. */
const channelsOf = (named: readonly Channel[]): Channel[] => [...new Set<Channel>(['in_app', ...named])]

/** The steps of an assessment are one row that moves, whatever its sender calls it. */
function assessmentKey({ type, data }: Content): string | null {
  const id = data['assessment_id']
  if (type !== 'assessment_progress' || typeof id !== 'string') return null
  if (id.length <= assessmentCharsMax) return `assessment:${id}`
  const message = `must have at most ${assessmentCharsMax} characters`
  throw new AppError('invalid_request', {
    detail: `data.assessment_id ${message}.`,
    errors: [{ path: 'data.assessment_id', message }],
  })
}

function timesOf(
  { send_at, expires_at }: Pick<BroadcastBody, 'send_at' | 'expires_at'>,
  at: string,
  now: Date,
): { scheduledAt: string | null; expiresAt: string | null } {
  const nowMs = now.getTime()
  const [sendMs, expiresMs] = [send_at, expires_at].map((time) =>
    time === undefined ? undefined : Date.parse(time),
  )
  const wrong = (path: string, message: string) =>
    new AppError('invalid_request', {
      detail: `${path} ${message}.`,
      errors: [{ path: `${at}${path}`, message }],
    })
  if (sendMs !== undefined && sendMs > nowMs + aheadMaxMs) throw wrong('send_at', 'must be within a year')
  const appearsMs = Math.max(sendMs ?? nowMs, nowMs)
  if (expiresMs !== undefined && expiresMs <= appearsMs)
    throw wrong('expires_at', 'must be later than now and than send_at')
  if (expiresMs !== undefined && expiresMs > appearsMs + aheadMaxMs)
    throw wrong('expires_at', 'must be within a year of its appearing')
  const print = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString())
  return {
    scheduledAt: sendMs !== undefined && sendMs > nowMs ? print(sendMs) : null,
    expiresAt: print(expiresMs),
  }
}

const templateNames: ReadonlySet<string> = new Set(listTemplates().map(({ name }) => name))

/** Its stage may be one of our templates, which then says what the sender does not. */
function fromOlder({ userId, notification }: OlderBody): NewNotification {
  const { type, stage, title, message, progress, assessmentId, action, metadata } = notification
  const known =
    type === 'assessment_progress' &&
    stage !== undefined &&
    assessmentId !== undefined &&
    templateNames.has(stage)
      ? renderTemplate(stage, { assessment_id: assessmentId }, 'notification.variables')
      : undefined
  if (title === undefined && known === undefined)
    throw new AppError('invalid_request', {
      detail: 'A notification has a title.',
      errors: [{ path: 'notification.title', message: 'is needed for this stage' }],
    })
  const percent = progress === undefined ? undefined : Math.round(progress)
  const leadsTo = actionOf(action)
  const base: Content = known ?? { ...plain, type, title: title ?? '', body: '' }
  const content: Content = {
    ...base,
    title: title ?? base.title,
    body: message ?? base.body,
    action: leadsTo ?? base.action,
    progress: percent ?? base.progress,
    data: {
      ...metadata,
      // What leads nowhere that we know means something to its client.
      ...(action != null && leadsTo === undefined && { action }),
      ...base.data,
      ...(stage !== undefined && { stage }),
      ...(assessmentId !== undefined && { assessment_id: assessmentId }),
      ...(percent !== undefined && { progress: percent }),
    },
    channels: channelsOf(base.channels),
  }
  if (Buffer.byteLength(JSON.stringify(content.data)) > dataBytesMax)
    throw new AppError('invalid_request', {
      detail: 'A notification carries so much data and no more.',
      errors: [{ path: 'notification.metadata', message: `must have at most ${dataBytesMax} bytes as JSON` }],
    })
  return { userId, content, dedupeKey: assessmentKey(content) }
}

function actionOf(action: OlderBody['notification']['action']): Content['action'] | undefined {
  const { type, url, label, text }: Record<string, unknown> =
    typeof action === 'string' ? { url: action } : (action ?? {})
  if (typeof url !== 'string' || url.length > 2_000 || !isLink(url)) return undefined
  const words = [label, text].find((word) => typeof word === 'string' && word !== '' && word.length <= 100)
  return {
    ...(type === 'redirect' && { type }),
    url,
    ...(typeof words === 'string' && { label: words }),
  }
}
