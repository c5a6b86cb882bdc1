/** Door of auth, for upstreams: a stable name for a user that says nothing of who it is. */
import { createHmac } from 'node:crypto'
import type { UserCaller } from './caller.ts'

/** 32 hexadecimal digits, the same as long as the key is. */
export function createPseudonyms(key: string): (caller: Pick<UserCaller, 'userId'>) => string {
  // A caller is remembered with its token: what was worked out for it goes with it.
  const known = new WeakMap<Pick<UserCaller, 'userId'>, string>()
  return (caller) => {
    let pseudonym = known.get(caller)
    if (pseudonym === undefined) {
      pseudonym = createHmac('sha256', key).update(caller.userId).digest('hex').slice(0, 32)
      known.set(caller, pseudonym)
    }
    return pseudonym
  }
}
