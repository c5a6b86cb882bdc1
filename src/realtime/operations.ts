/** What a client asks over its socket, and what it is answered with beside `ok`. */
import type { Selection } from '../notifications/inbox.ts'
import type { Peer, Rooms } from './peer.ts'
import type { ClientFrame } from './protocol.ts'

/** What the inbox does for sockets: as its HTTP routes do it. */
export interface InboxOperations {
  mark(caller: { userId: string }, selection: Selection, as: 'read'): Promise<object>
  /** @returns a page, as `GET …/notifications` answers. */
  list(caller: { userId: string }, query: ListQuery): Promise<object>
}

export type ListQuery = Omit<Extract<ClientFrame, { op: 'list' }>, 'op' | 'rid'>

export type Operation = Exclude<ClientFrame, { op: 'ack' | 'sync' }>

/** @throws AppError for what is not allowed, or is not there. */
export type Perform = (peer: Peer, operation: Operation) => Promise<object>

export function createOperations(inbox: InboxOperations, rooms: Rooms): Perform {
  return async (peer, operation) => {
    switch (operation.op) {
      case 'read': {
        const { ids, up_to: upTo = 0 } = operation
        return inbox.mark(peer, ids === undefined ? { upTo } : { ids }, 'read')
      }
      case 'list': {
        const { status, type, limit, cursor } = operation
        return listed(inbox, peer, { status, type, limit, cursor })
      }
      case 'join':
        return rooms.join(peer, operation.room)
      case 'leave':
        rooms.leave(peer, operation.room)
        return {}
      case 'typing':
        rooms.typing(peer, operation.room, operation.typing)
        return {}
      case 'presence':
        rooms.presence(peer, operation.state)
        return {}
      case 'ping':
        return {}
      default:
        return operation satisfies never
    }
  }
}

/** Of a page, characters: a socket that is not read holds no more than about this back for it. */
const pageCharsMax = 64 * 1024

/** A page is as long as was asked for, or as a socket should hold: the next one begins behind it. */
async function listed(inbox: InboxOperations, peer: Peer, query: ListQuery): Promise<object> {
  for (let { limit } = query; ;) {
    const page = await inbox.list(peer, { ...query, limit })
    const rows = 'notifications' in page && Array.isArray(page.notifications) ? page.notifications.length : 0
    const chars = JSON.stringify(page).length
    if (chars <= pageCharsMax || rows <= 1) return page
    limit = Math.max(1, Math.min(rows - 1, Math.floor((rows * pageCharsMax) / chars)))
  }
}
