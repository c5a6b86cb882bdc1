/** Door of auth: who is asking. A user, by a token; or another service, by a key. */
import type { Tier } from '../upstream/chain.ts'

export interface UserCaller {
  kind: 'user'
  /** The token's `sub`. */
  userId: string
  tier: Tier
  name: string | undefined
  /** When what proves it ends, ms since the epoch: whoever stays longer than a request has to look. */
  validUntil: number
}

export type Caller = UserCaller | { kind: 'service' }
