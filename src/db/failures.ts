/** What a failed statement means: is the database gone, is it busy, or is the statement wrong? */
import { AppError } from '../errors.ts'

/** Sockets, a lost connection, and PostgreSQL's classes 08, 53, 57 and a few of their kin. */
const unavailable =
  /^(E(CONN\w+|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|AI_AGAIN)|ENOTFOUND|CONNECTION_LOST|08\w{3}|57P0\d|57014|55P03|53\w{3}|25P0[34]|25006|28\w{3}|3D000)$/

/** Rolled back through no fault of its own: the same transaction may succeed when it is run again. */
const transient = /^(40001|40P01)$/

/** The connection broke under a statement: a new one may well work. */
const lost = /^(ECONNRESET|EPIPE|CONNECTION_LOST|57P0\d)$/

/** Somebody else has held a lock for longer than anybody waits. */
const locked = /^55P03$/

/** A statement behind one that failed in the same transaction. */
const skipped = /^25P02$/

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

export const isUnavailable = (error: unknown): boolean => unavailable.test(codeOf(error))
export const isTransient = (error: unknown): boolean => transient.test(codeOf(error))
export const isSkipped = (error: unknown): boolean => skipped.test(codeOf(error))
export const isLocked = (error: unknown): boolean => locked.test(codeOf(error))
export const isLost = (error: unknown): boolean => lost.test(codeOf(error))

/** Of what a transaction throws: there is no database now, and there may be one later. */
export const isAway = (error: unknown): boolean =>
  error instanceof AppError && error.code === 'database_unavailable'

/** Of those: it is there, and somebody's lock or a slow statement held this one transaction up. */
export const isHeldUp = (error: unknown): boolean =>
  isAway(error) && /^(55P03|57014)$/.test(codeOf((error as AppError).cause))
