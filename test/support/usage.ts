/** Usage as a test writes it, and money as whole numbers: what the service adds is added here by other means. */
import { v7 as uuidv7 } from 'uuid'
import type { Sql } from 'postgres'
import type { UsageRow } from '../../src/usage/reconcile.ts'

/** Digits behind the point that `exact` keeps: more than any price in a test has. */
const scale = 60

/** A decimal, with or without an exponent, in units of 10^-60. @throws where that would lose a digit. */
export function exact(decimal: string): bigint {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/.exec(decimal) ?? []
  if (whole === '') throw new Error(`not a decimal: ${decimal}`)
  const zeros = scale - fraction.length + Number(exponent)
  if (zeros < 0) throw new Error(`too many digits: ${decimal}`)
  return BigInt(sign + whole + fraction) * 10n ** BigInt(zeros)
}

export const sum = (numbers: readonly bigint[]): bigint => numbers.reduce((total, one) => total + one, 0n)

/** As the service's responses print money: no exponent, no zeros at the end. */
export const plain = /^(0|[1-9]\d*)(\.\d*[1-9])?$/

/** Numbers from 0 to 1, the same ones for the same seed. */
export function createRandom(seed: number) {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let bits = Math.imul(state ^ (state >>> 15), state | 1)
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61)
    return ((bits ^ (bits >>> 14)) >>> 0) / 4_294_967_296
  }
  const below = (count: number): number => Math.floor(next() * count)
  return {
    next,
    below,
    chance: (share: number): boolean => next() < share,
    pick<T>(items: readonly T[]): T {
      return items[below(items.length)] as T
    },
    /** A price as JSON has it: tiny ones, ones that no float adds right, 17 digits. */
    price(): number {
      const kinds = [
        () => 1e-7,
        () => 0.1,
        () => 0.2,
        () => 0.1 + 0.2,
        () => 0,
        () => below(1_000_000) / 1e9,
        () => next(),
        () => next() * 1e-12,
        () => 1 + below(9_000),
        () => 9_999.999999 - below(100),
      ]
      return this.pick(kinds)()
    },
  }
}
export type Random = ReturnType<typeof createRandom>

export type StoredUsage = Partial<UsageRow> & { at?: string }

/** Rows as superuser, at any time: what nobody can wait for. Unless told otherwise ann's, each of a message of its own. */
export async function storeUsage(sql: Sql, rows: readonly StoredUsage[]): Promise<void> {
  await sql`
    insert into chat.usage_tracking ${sql(
      rows.map((row) => ({
        id: uuidv7(),
        user_id: row.userId ?? 'ann',
        conversation_id: row.conversationId ?? uuidv7(),
        message_id: row.messageId ?? uuidv7(),
        generation_id: uuidv7(),
        model: row.model ?? 'some/model',
        prompt_tokens: row.promptTokens ?? 10,
        completion_tokens: row.completionTokens ?? 2,
        total_tokens: row.totalTokens ?? 12,
        cost: row.cost === undefined ? '0.5' : row.cost,
        is_free_model: row.isFreeModel ?? false,
        source: row.source ?? 'reported',
        created_at: row.at ?? new Date().toISOString(),
      })),
    )}`
}
