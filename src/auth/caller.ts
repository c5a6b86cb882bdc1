/** Who is asking: a user, by a token; or another service, by a key. */
import type { Tier } from '../upstream/chain.ts'

export interface UserCaller {
  kind: 'user'
  /** The token's `sub`. */
  userId: string
  tier: Tier
  name: string | undefined
}

export type Caller = UserCaller | { kind: 'service' }
