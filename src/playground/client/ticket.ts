/** Door of playground: tickets for the socket, over fetch: where a browser learns why it may not connect. */
import type { RealtimeOptions, Ticket } from './contract.ts'

export interface TicketOptions {
  /** Origin and base path, such as `https://app.example/api/chat`. */
  api: string
  /** `renew`: the last one has expired. */
  token(ask: { renew: boolean }): string | Promise<string>
  fetch: (
    url: string,
    init: { method: string; headers: Record<string, string>; body: string },
  ) => Promise<{ status: number; json(): Promise<unknown> }>
}

/** These do not change by waiting: somebody has to sign in, or has no business here. */
const refusals = new Set([400, 401, 403, 404])

export function createTicketSource(options: TicketOptions): RealtimeOptions['ticket'] {
  const { api, fetch } = options
  return async ({ renew }): Promise<Ticket> => {
    const response = await fetch(`${api}/ticket`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${await options.token({ renew })}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ for: 'socket' }),
    })
    const answer = (await response.json()) as { url?: string; code?: string; retry_after?: number }
    if (response.status === 200 && answer.url !== undefined) {
      const url = new URL(answer.url, api)
      url.protocol = url.protocol.replace('http', 'ws')
      return { url: url.href }
    }
    if (refusals.has(response.status)) return { refused: answer.code ?? `status ${response.status}` }
    return { retryAfterMs: (answer.retry_after ?? 0) * 1_000 }
  }
}
