/**
 * The one reader of the environment: a zod schema over `process.env`, frozen.
 *
 * Every wrong value is reported at once, by name and without its value (it may be a secret). An empty value
 * counts as absent. Names marked "older" still work; the newer name wins where both are set.
 */
import { createPublicKey } from 'node:crypto'
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs'
import { isIP } from 'node:net'
import { dirname } from 'node:path'
import { z } from 'zod'

export type Config = Readonly<z.output<typeof schema>>

export class ConfigError extends Error {
  readonly problems: readonly string[]
  constructor(problems: readonly string[]) {
    super(`The configuration is wrong:\n${problems.map((problem) => `  ${problem}`).join('\n')}`)
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** @throws ConfigError naming every wrong variable. */
export function loadConfig(env: Record<string, string | undefined> = environment()): Config {
  const present = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value !== ''),
  )
  const result = schema.safeParse(withOlderNames(present as Record<string, string>))
  if (result.success) return Object.freeze(result.data)
  throw new ConfigError(result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`))
}

/** The process's own variables, then those of a `.env` file in the working directory. */
function environment(): Record<string, string | undefined> {
  try {
    process.loadEnvFile()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  return process.env
}

const integer = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, `must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .pipe(z.number().min(min, `must be at least ${min}`).max(max, `must be at most ${max}`))
const flag = z
  .enum(['true', 'false', '1', '0'], 'must be true or false')
  .transform((value) => value === 'true' || value === '1')
const list = z.string().transform((value) =>
  value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
)
const url = (...protocols: string[]) =>
  z.string().refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol), {
    message: `must be a URL starting with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`,
  })
/** RabbitMQ takes 255 bytes; names of ours are longer by an ending. */
const amqpName = z.string().regex(/^[A-Za-z0-9._:-]{1,200}$/, 'must be letters, digits and . _ : -')

/** An address, a network, or one of the names that Fastify's `trustProxy` knows. */
function isNetwork(text: string): boolean {
  if (['loopback', 'linklocal', 'uniquelocal'].includes(text)) return true
  const [address = '', bits] = text.split('/')
  const family = isIP(address)
  if (bits === undefined) return family !== 0
  return family !== 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)
}

function isPublicKey(pem: string): boolean {
  try {
    return pem.includes('-----BEGIN PUBLIC KEY-----') && createPublicKey(pem).type === 'public'
  } catch {
    return false
  }
}

/** Tried now: a log that cannot be opened later would take the process with it. */
function isWritable(file: string): boolean {
  try {
    // One level only: `recursive` never returns where nothing can be made, such as under /proc.
    if (!existsSync(dirname(file))) mkdirSync(dirname(file))
    closeSync(openSync(file, 'a'))
    return true
  } catch {
    return false
  }
}

const milliseconds = integer(1, 3_600_000)
/** 0: no limit. */
const rateLimit = integer(0, 1_000_000)

/** Shortest service key and production secret that is accepted, in characters. */
export const secretCharsMin = 32

const schema = z
  .object({
    NODE_ENV: z
      .enum(['development', 'test', 'production'], 'must be development, test or production')
      .default('development'),
    HOST: z.string().default('127.0.0.1'),
    PORT: integer(0, 65_535).default(3006),
    BASE_PATH: z
      .string()
      .regex(/^(\/[A-Za-z0-9._~-]+)*\/?$/, 'must be a path such as /api/chat')
      .transform((value) => value.replace(/\/$/, ''))
      .default('/api/chat'),
    DATA_DIR: z.string().default('.rivulet'),

    DATABASE_URL: url('postgres:', 'postgresql:').optional(),
    DB_POOL_MAX: integer(1, 200).default(10),

    OPENROUTER_API_KEY: z.string().optional(),
    OPENROUTER_BASE_URL: url('http:', 'https:').optional(),
    OPENROUTER_REFERER: z.string().optional(),
    OPENROUTER_TITLE: z.string().default('Rivulet'),
    DEFAULT_MODEL: z.string().optional(),
    FALLBACK_MODEL: z.string().optional(),
    EMERGENCY_FALLBACK_MODEL: z.string().optional(),
    PREMIUM_MODEL: z.string().optional(),
    AUTO_TITLE_MODEL: z.string().optional(),
    ALLOWED_MODELS: list.default([]),
    USE_FREE_MODELS_ONLY: flag.default(false),
    MAX_TOKENS: integer(1, 1_000_000).default(1000),
    TEMPERATURE: z
      .string()
      .regex(/^\d+(\.\d+)?$/, 'must be a number from 0 to 2')
      .transform(Number)
      .pipe(z.number().max(2, 'must be a number from 0 to 2'))
      .default(0.7),
    UPSTREAM_CONNECT_TIMEOUT_MS: milliseconds.default(5_000),
    UPSTREAM_FIRST_TEXT_TIMEOUT_MS: milliseconds.default(45_000),
    FREE_REQUESTS_PER_MINUTE: integer(0, 1_000_000).optional(),
    UPSTREAM_RETRY_MS: milliseconds.default(600),
    UPSTREAM_FALLBACK_AFTER_MS: milliseconds.default(20_000),
    UPSTREAM_IDLE_TIMEOUT_MS: milliseconds.default(60_000),
    UPSTREAM_TOTAL_TIMEOUT_MS: milliseconds.default(600_000),

    JWT_SECRET: list.optional(),
    JWT_PUBLIC_KEY: z
      .string()
      .transform((value) => value.replaceAll('\\n', '\n'))
      .refine(isPublicKey, 'must be a PEM public key (SPKI)')
      .optional(),
    JWKS_URL: url('http:', 'https:').optional(),
    JWT_ISSUER: z.string().optional(),
    JWT_AUDIENCE: z.string().optional(),
    INTERNAL_SERVICE_KEY: list.default([]),

    MAX_MESSAGE_LENGTH: integer(1, 200_000).default(4000),
    MAX_CONVERSATION_HISTORY_TOKENS: integer(100, 2_000_000).default(6000),
    RATE_LIMIT_RUNNING_GENERATIONS: integer(1, 10_000).default(3),
    RATE_LIMIT_MESSAGES_PER_HOUR: rateLimit.default(200),
    RATE_LIMIT_CONVERSATIONS_PER_DAY: rateLimit.default(100),
    RATE_LIMIT_FREE_GENERATIONS_PER_MINUTE: rateLimit.default(20),
    RATE_LIMIT_TICKETS_PER_MINUTE: rateLimit.default(60),
    RATE_LIMIT_BAD_TOKENS_PER_MINUTE: rateLimit.default(300),
    MAX_SOCKETS: integer(1, 1_000_000).default(12_000),
    MAX_SOCKETS_PER_USER: integer(1, 1_000).default(10),
    REDIS_URL: url('redis:', 'rediss:').optional(),
    REDIS_KEY_PREFIX: z.string().default('rivulet:'),

    RABBITMQ_URL: url('amqp:', 'amqps:').optional(),
    EXCHANGE_NAME: amqpName.default('atma_exchange'),
    CHAT_QUEUE_NAME: amqpName.default('chat_events'),
    ROUTING_KEY: amqpName.default('chat.events'),
    ARCHIVE_SERVICE_URL: url('http:', 'https:').optional(),
    AUTH_SERVICE_URL: url('http:', 'https:').optional(),
    NOTIFICATION_SERVICE_URL: url('http:', 'https:').optional(),

    SMTP_URL: url('smtp:', 'smtps:').optional(),
    EMAIL_FROM: z
      .string()
      .regex(/^[^\r\n]*@[A-Za-z0-9.-]+>?\s*$/, 'must be an address such as Rivulet <hello@example.com>')
      .optional(),
    PUBLIC_URL: url('http:', 'https:').optional(),
    VAPID_PUBLIC_KEY: z
      .string()
      .regex(/^[A-Za-z0-9_-]{87}$/, 'must be 65 bytes in base64url')
      .optional(),
    VAPID_PRIVATE_KEY: z
      .string()
      .regex(/^[A-Za-z0-9_-]{43}$/, 'must be 32 bytes in base64url')
      .optional(),
    VAPID_SUBJECT: url('mailto:', 'https:').optional(),
    ALLOW_PRIVATE_TARGETS: flag.default(false),

    LOG_LEVEL: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'must be a pino level or silent')
      .default('info'),
    LOG_FILE: z.string().refine(isWritable, 'cannot be written').optional(),
    CORS_ORIGINS: list
      .refine(
        (origins) => origins.every((origin) => origin === '*' || URL.canParse(origin)),
        'must be origins such as https://app.example, or *',
      )
      .transform((origins) => origins.map((origin) => (origin === '*' ? origin : new URL(origin).origin)))
      .optional(),
    TRUSTED_PROXIES: list
      .refine((proxies) => proxies.every(isNetwork), 'must be addresses or networks such as 10.0.0.0/8')
      .default([]),
    ENABLE_METRICS: flag.default(true),
    JOURNAL_FLUSH_MS: integer(10, 1_000).default(100),
    JOURNAL_STALL_MS: integer(1_000, 600_000).default(10_000),
    SHUTDOWN_GRACE_MS: integer(0, 600_000).default(10_000),
    STREAM_PING_MS: milliseconds.default(15_000),
    STREAM_COALESCE_MS: integer(0, 1_000).default(20),
  })
  .superRefine((config, context) => {
    const wrong = (name: string, message: string) => {
      context.addIssue({ code: 'custom', path: [name], message })
    }
    if (
      [config.JWT_SECRET, config.JWT_PUBLIC_KEY, config.JWKS_URL].filter((key) => key !== undefined).length >
      1
    )
      wrong(
        'JWT_SECRET',
        'set one of JWT_SECRET, JWT_PUBLIC_KEY and JWKS_URL: together they would let one kind of key pass for another',
      )
    if (config.JWT_SECRET?.length === 0) wrong('JWT_SECRET', 'holds no value')
    if ((config.SMTP_URL === undefined) !== (config.EMAIL_FROM === undefined))
      wrong('EMAIL_FROM', 'SMTP_URL and EMAIL_FROM are needed together')
    const vapid = [config.VAPID_PUBLIC_KEY, config.VAPID_PRIVATE_KEY, config.VAPID_SUBJECT]
    if (new Set(vapid.map((value) => value === undefined)).size > 1)
      wrong('VAPID_PUBLIC_KEY', 'VAPID_PUBLIC_KEY, VAPID_PRIVATE_KEY and VAPID_SUBJECT are needed together')
    if (config.NODE_ENV === 'production') refuseInProduction(config, wrong)
  })

const knownSecrets = /^(.*(change[-_ ]?me|your[-_ ].*(secret|key)|example).*|secret|password|(.)\3*)$/i

function refuseInProduction(
  config: z.output<typeof schema>,
  wrong: (name: string, message: string) => void,
): void {
  if (config.DATABASE_URL === undefined)
    wrong('DATABASE_URL', 'required in production: the embedded database is for development')
  if (config.OPENROUTER_API_KEY === undefined && config.OPENROUTER_BASE_URL === undefined)
    wrong(
      'OPENROUTER_API_KEY',
      'required in production (or OPENROUTER_BASE_URL): the demo model is for development',
    )
  if (config.JWT_SECRET === undefined && config.JWT_PUBLIC_KEY === undefined && config.JWKS_URL === undefined)
    wrong('JWT_SECRET', 'required in production (or JWT_PUBLIC_KEY, or JWKS_URL)')
  for (const secret of config.JWT_SECRET ?? [])
    if (secret.length < secretCharsMin || knownSecrets.test(secret))
      wrong(
        'JWT_SECRET',
        `in production every value has at least ${secretCharsMin} characters and is no example`,
      )
  for (const key of config.INTERNAL_SERVICE_KEY)
    if (key.length < secretCharsMin || knownSecrets.test(key))
      wrong(
        'INTERNAL_SERVICE_KEY',
        `in production every value has at least ${secretCharsMin} characters and is no example`,
      )
}

/** Older names, as deployed before Rivulet. */
function withOlderNames(env: Record<string, string>): Record<string, string> {
  const named = { ...env }
  const parts = ['DB_HOST', 'DB_PORT', 'DB_NAME', 'DB_USER', 'DB_PASSWORD']
  if (env['DATABASE_URL'] === undefined && parts.some((name) => env[name] !== undefined)) {
    const port = env['DB_PORT'] ?? '5432'
    if (!/^\d{1,5}$/.test(port)) throw new ConfigError(['DB_PORT: must be a whole number from 1 to 65535'])
    const database = new URL('postgres://localhost')
    database.hostname = env['DB_HOST'] ?? 'localhost'
    database.port = port
    database.username = encodeURIComponent(env['DB_USER'] ?? 'postgres')
    database.password = encodeURIComponent(env['DB_PASSWORD'] ?? '')
    database.pathname = `/${encodeURIComponent(env['DB_NAME'] ?? 'postgres')}`
    named['DATABASE_URL'] = database.href
  }
  // Only where a host is named: Kubernetes sets a REDIS_PORT of its own beside a service called redis.
  if (env['REDIS_URL'] === undefined && env['REDIS_HOST'] !== undefined) {
    const host = isIP(env['REDIS_HOST']) === 6 ? `[${env['REDIS_HOST']}]` : env['REDIS_HOST']
    const port = env['REDIS_PORT'] ?? '6379'
    if (!/^\d{1,5}$/.test(port)) throw new ConfigError(['REDIS_PORT: must be a whole number from 1 to 65535'])
    const password = env['REDIS_PASSWORD']
    const credentials = password === undefined ? '' : `:${encodeURIComponent(password)}@`
    named['REDIS_URL'] = `redis://${credentials}${host}:${port}`
  }
  const origins = env['CORS_ORIGINS'] ?? env['CORS_ORIGIN'] ?? env['FRONTEND_URL']
  if (origins !== undefined) named['CORS_ORIGINS'] = origins
  return named
}
