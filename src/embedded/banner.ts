/** Door: what a person sees at the start: what is embedded, where the API page is, and a command that works when pasted. */
import type { AddressInfo } from 'node:net'
import { mintToken } from '../auth/tokens.ts'
import type { Config } from '../config.ts'

/** What had to be brought along, each undefined where the environment provides it. */
export interface Embedded {
  /** Where the embedded PostgreSQL keeps its files. */
  database?: string
  /** The demo model's id. */
  model?: string
  jwtSecret?: string
}

const devUser = 'dev'
const devTokenHours = 24

export async function printBanner(options: {
  config: Config
  embedded: Embedded
  /** Where the server listens; PORT=0 lets the system choose. */
  address: AddressInfo | string | null
}): Promise<void> {
  const { config, embedded, address } = options
  const port = typeof address === 'object' && address !== null ? address.port : config.PORT
  const everywhere = ['0.0.0.0', '::', 'localhost'].includes(config.HOST)
  const host = everywhere ? '127.0.0.1' : config.HOST.includes(':') ? `[${config.HOST}]` : config.HOST
  const origin = `http://${host}:${port}`
  const lines = [
    '',
    `Rivulet listens on ${origin}`,
    `  API page   ${origin}/docs`,
    ...(config.NODE_ENV === 'production' ? [] : [`  the socket ${origin}/playground/realtime`]),
    `  database   ${embedded.database === undefined ? 'as configured' : `embedded PostgreSQL in ${embedded.database} (set DATABASE_URL for your own)`}`,
    `  model      ${embedded.model === undefined ? 'as configured' : `${embedded.model}, built in (set OPENROUTER_API_KEY for a real one)`}`,
    `  tokens     ${embedded.jwtSecret === undefined ? 'as configured' : 'signed with a secret of this installation: npm run token -- <user>'}`,
  ]
  if (embedded.jwtSecret !== undefined && config.NODE_ENV !== 'production') {
    const token = await mintToken(embedded.jwtSecret, {
      sub: devUser,
      hours: devTokenHours,
      issuer: config.JWT_ISSUER,
      audience: config.JWT_AUDIENCE,
    })
    // The service runs without this: a first conversation is a courtesy.
    const id = await firstConversation(`${origin}${config.BASE_PATH}`, token).catch(() => undefined)
    if (id !== undefined)
      lines.push(
        '',
        `Paste this to watch an answer stream (as user "${devUser}", for ${devTokenHours} hours):`,
        '',
        `curl -N ${origin}${config.BASE_PATH}/conversations/${id}/messages -H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json' -d '{"content":"What could I become?","stream":true}'`,
      )
  }
  console.log(`${lines.join('\n')}\n`)
}

/** The dev user's newest conversation, or a first one: the command above needs one to talk in. */
async function firstConversation(api: string, token: string): Promise<string | undefined> {
  const headers = { authorization: `Bearer ${token}` }
  const listed = await fetch(`${api}/conversations?limit=1`, { headers })
  if (!listed.ok) return undefined
  const { conversations } = (await listed.json()) as { conversations: { id: string }[] }
  const [newest] = conversations
  if (newest !== undefined) return newest.id
  const made = await fetch(`${api}/conversations`, { method: 'POST', headers })
  return made.ok ? ((await made.json()) as { id: string }).id : undefined
}
