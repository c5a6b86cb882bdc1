/**
 * Every way in which a request can fail: one catalogue, one error class.
 *
 * A code is stable (clients switch on it); its status and title follow from it. `detail` is written for the
 * caller and never holds SQL, a path, a host name or an upstream's words.
 */
const catalogue = {
  invalid_request: [400, 'Invalid request'],
  unauthorized: [401, 'Authentication required'],
  forbidden: [403, 'Not allowed'],
  route_not_found: [404, 'No such route'],
  conversation_not_found: [404, 'Conversation not found'],
  message_not_found: [404, 'Message not found'],
  generation_not_found: [404, 'Generation not found'],
  notification_not_found: [404, 'Notification not found'],
  assessment_not_found: [404, 'Assessment not found'],
  push_subscription_not_found: [404, 'Push subscription not found'],
  push_not_configured: [404, 'Web push is not configured'],
  webhook_not_found: [404, 'Webhook not found'],
  method_not_allowed: [405, 'Method not allowed'],
  generation_in_progress: [409, 'An answer is being generated'],
  conversation_archived: [409, 'Conversation is archived'],
  body_too_large: [413, 'Body too large'],
  uri_too_long: [414, 'URL too long'],
  unsupported_media_type: [415, 'Unsupported media type'],
  upgrade_required: [426, 'A WebSocket is needed here'],
  idempotency_key_reused: [422, 'Idempotency key was used for another request'],
  invalid_parent: [422, 'Parent message not in this conversation'],
  model_not_allowed: [422, 'Model not allowed'],
  not_an_answer: [422, 'Only an answer can be regenerated'],
  context_too_long: [422, 'Conversation too long for the model'],
  unknown_template: [422, 'No such notification template'],
  invalid_variables: [422, 'Wrong variables for this template'],
  too_many_webhooks: [422, 'Too many webhooks'],
  rate_limited: [429, 'Too many requests'],
  headers_too_large: [431, 'Request headers too large'],
  internal_error: [500, 'Internal error'],
  upstream_error: [502, 'The model failed'],
  upstream_refused: [502, 'The model provider refused'],
  archive_error: [502, 'The archive answered wrongly'],
  archive_unavailable: [503, 'The archive is not available'],
  upstream_unavailable: [503, 'The model is not available'],
  upstream_quota: [503, 'The model quota is used up'],
  database_unavailable: [503, 'Database not available'],
  keys_unavailable: [503, 'Token keys not available'],
  service_scope_closed: [503, 'Service scope is closed'],
  overloaded: [503, 'Overloaded'],
  shutting_down: [503, 'Shutting down'],
  request_timeout: [408, 'Request took too long to arrive'],
  upstream_timeout: [504, 'The model took too long'],
} as const satisfies Record<string, readonly [status: number, title: string]>

export type ErrorCode = keyof typeof catalogue

export interface ErrorOptions {
  /** One sentence for the caller: what happened, and what to do about it. */
  detail?: string
  /** Seconds after which trying again makes sense. Sent as `retry_after` and `Retry-After`. */
  retryAfter?: number
  /** What is wrong with which part of the request. `path` is dotted, '' for the whole. */
  errors?: { path: string; message: string }[]
  /** Further members of the problem document, such as `active_generation`. */
  members?: Record<string, unknown>
  headers?: Record<string, string>
  /** Where the code alone does not say: may the same request succeed later without being changed? */
  retryable?: boolean
  cause?: unknown
}

/** An error that a caller may see. Thrown anywhere, turned into a response by http/error-handler.ts alone. */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly status: number
  readonly title: string
  readonly detail: string | undefined
  readonly retryAfter: number | undefined
  readonly errors: { path: string; message: string }[] | undefined
  readonly members: Record<string, unknown> | undefined
  readonly headers: Record<string, string> | undefined
  readonly retryable: boolean

  constructor(code: ErrorCode, options: ErrorOptions = {}) {
    const [status, title] = catalogue[code]
    super(options.detail ?? title, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AppError'
    this.code = code
    this.status = status
    this.title = title
    this.detail = options.detail
    this.retryAfter = options.retryAfter
    this.errors = options.errors
    this.members = options.members
    this.headers = options.headers
    this.retryable = options.retryable ?? (status === 429 || (status >= 502 && code !== 'upstream_refused'))
  }
}

/** The catalogue as rows, for the API page. */
export const errorCatalogue: readonly { code: ErrorCode; status: number; title: string }[] = (
  Object.keys(catalogue) as ErrorCode[]
).map((code) => ({ code, status: catalogue[code][0], title: catalogue[code][1] }))
