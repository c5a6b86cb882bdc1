/** What a failed query means: is the database gone, is it busy, or is the statement wrong? */
/** Sockets, postgres.js's own words for a lost connection, and PostgreSQL's classes 08, 57 and 53. */
const unavailable =
  /^(E(CONN\w+|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|AI_AGAIN)|ENOTFOUND|CONNECTION_\w+|CONNECT_TIMEOUT|08\w{3}|57P0\d|57014|55P03|53\w{3}|25P0[34]|28\w{3}|3D000)$/

/** Rolled back through no fault of its own: the same transaction may succeed when it is run again. */
const transient = /^(40001|40P01)$/

/** The connection broke under a statement: a new one may well work. */
const lost = /^(ECONNRESET|EPIPE|CONNECTION_\w+|57P0\d)$/

function sqlCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

export const isUnavailable = (error: unknown): boolean => unavailable.test(sqlCode(error) ?? '')
export const isTransient = (error: unknown): boolean => transient.test(sqlCode(error) ?? '')
export const isLost = (error: unknown): boolean => lost.test(sqlCode(error) ?? '')
