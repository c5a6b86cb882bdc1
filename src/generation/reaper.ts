/**
 * The reaper: ends generations whose process is gone, with the text that its journal holds.
 *
 * By the same guarded update as a run's own settle, so exactly one of them wins. The terminal event's seq lies beyond
 * anything that the dead process could have shown: a cursor of such an event gets a snapshot.
 */
import { v7 as uuidv7 } from 'uuid'
import { sql } from '../db/sql.ts'
import { estimateTokens } from '../context/build.ts'
import { listedColumns, type ListedConversation, type TellDevices } from '../conversations/changes.ts'
import type { Transactions, Tx } from '../db/database.ts'
import { AppError } from '../errors.ts'
import type { Logger } from '../logging.ts'
import { settleMessage } from '../messages/queries.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { isFreeModel } from '../upstream/models.ts'
import { recordUsage } from '../usage/reconcile.ts'
import type { StoredTerminal } from './mirror.ts'
import { leaveNews } from './news.ts'

/** More events than a generation can have had in flight to its viewers when it died. */
const shownSeqMax = 1_000_000

const terminal: StoredTerminal = {
  type: 'error',
  error: {
    code: 'upstream_error',
    message: 'The server was lost while this answer was being written. What had arrived is kept.',
    retryable: true,
  },
}

export interface Reaper {
  close(): void
}

/** A heartbeat is renewed every 5 s: this long without one, its process is gone, s. */
const silentS = 30
/** Between two looks, ms. */
const everyMs = 5_000
/** After the database was away its owners come back at the same moment as we do: they get this long, ms. */
const graceMs = 10_000
/** A settled generation's chunks are kept this long, for viewers who come back, minutes. */
const chunksKeptMin = 10
/** An idempotency key's life, hours. */
const keysKeptH = 24

export function createReaper(deps: {
  transactions: Transactions
  log: Logger
  tellDevices?: TellDevices | undefined
  /** Tells other services of answers. */
  outbox?: Outbox | undefined
}): Reaper {
  const { transactions, log, tellDevices, outbox } = deps
  let awayUntilMs = performance.now() + graceMs
  const look = async () => {
    try {
      if (performance.now() < awayUntilMs) {
        await transactions.asSystem('look', (tx) => tx.commit(() => tx.execute(sql`select 1`)))
        return
      }
      const reaped = await reap(transactions, silentS, log, tellDevices, outbox)
      if (reaped > 0)
        log.warn({ event: 'generations_reaped', count: reaped }, 'answers of a lost process were settled')
      await forgetChunks(transactions)
      await forgetKeys(transactions)
    } catch (error) {
      awayUntilMs = performance.now() + graceMs
      log.error({ event: 'reaper_failed', err: error }, 'the reaper could not look')
    } finally {
      timer.refresh()
    }
  }
  const timer = setTimeout(() => void look(), everyMs)
  timer.unref()
  return { close: () => clearTimeout(timer) }
}

async function forgetChunks(transactions: Transactions): Promise<void> {
  await transactions.asSystem('forget chunks', (tx) =>
    tx.commit(() =>
      tx.execute(sql`
        delete from chat.generation_chunks c where c.created_at < now() - make_interval(mins => ${chunksKeptMin})
          and not exists (select from chat.generations g where g.id = c.generation_id
            and (g.status = 'running' or g.settled_at > now() - make_interval(mins => ${chunksKeptMin})))`),
    ),
  )
}

/** Idempotency keys and tickets whose time is over. */
async function forgetKeys(transactions: Transactions): Promise<void> {
  await transactions.asSystem('forget keys', (tx) =>
    tx.commit(() =>
      tx.execute(
        sql`delete from chat.idempotency_keys where created_at < now() - make_interval(hours => ${keysKeptH})`,
      ),
    ),
  )
}

interface Silent extends Record<string, unknown> {
  id: string
  conversation_id: string
  message_id: string
  user_id: string
  model: string
}

/**
 * Settles every generation that has been silent for `silentS` seconds (0: every running one, for an instance that has
 * the database to itself) as interrupted. One that cannot be settled keeps no other from it. @returns how many.
 */
export async function reap(
  transactions: Transactions,
  silentS: number,
  log?: Logger,
  tellDevices?: TellDevices,
  outbox?: Outbox,
): Promise<number> {
  const silent = await transactions.asSystem('find silent generations', (tx) =>
    tx.commit(() =>
      tx.execute<Silent>(sql`
        select id, conversation_id, message_id, user_id, model from chat.generations
        where status = 'running' and heartbeat_at <= now() - make_interval(secs => ${silentS}) limit 100`),
    ),
  )
  let reaped = 0
  for (const generation of silent)
    try {
      const listed = await transactions.asSystem('reap', (tx) =>
        settleSilent(tx, generation, silentS, outbox),
      )
      if (listed === undefined) continue
      reaped++
      outbox?.wake('chat.message_created')
      if (listed.status !== 'deleted') tellDevices?.(generation.user_id, { ...listed, reason: 'answer' })
    } catch (error) {
      if (error instanceof AppError && error.code === 'database_unavailable') throw error
      log?.error(
        { event: 'reap_refused', generationId: generation.id, err: error },
        'an answer cannot be ended',
      )
    }
  return reaped
}

/** @returns its conversation; undefined where it is not silent, or not running any more. */
async function settleSilent(
  tx: Tx,
  generation: Silent,
  silentS: number,
  outbox: Outbox | undefined,
): Promise<ListedConversation | undefined> {
  const { id, conversation_id: conversationId, message_id: messageId, user_id: userId, model } = generation
  await tx.execute(sql`select 1 from chat.conversations where id = ${conversationId} for update`)
  const [guarded] = await tx.execute<{
    upstream_id: string | null
    prompt_tokens: number | null
    stop_requested: boolean
  }>(sql`
    update chat.generations set status = 'interrupted', settled_at = now(), error_code = 'upstream_error'
    where id = ${id} and status = 'running' and heartbeat_at <= now() - make_interval(secs => ${silentS})
    returning upstream_id, prompt_tokens_estimate as prompt_tokens, stop_requested_at is not null as stop_requested`)
  if (guarded === undefined) return undefined
  // In a statement of its own, behind the guard: what a last flush stored before it is seen, and nothing comes after.
  const [survived] = await tx.execute<{ text: string | null; reasoning: string | null; seq: string }>(sql`
    select coalesce(max(c.last_seq), 0) as seq,
      string_agg(e.value->>'content', '' order by c.first_seq, e.ordinality)
        filter (where e.value->>'type' = 'assistant_chunk') as text,
      string_agg(e.value->>'content', '' order by c.first_seq, e.ordinality)
        filter (where e.value->>'type' = 'reasoning_chunk') as reasoning
    from chat.generation_chunks c, jsonb_array_elements(c.events) with ordinality e
    where c.generation_id = ${id}`)
  const survivedSeq = Number(survived?.seq ?? 0)
  const lastSeq = survivedSeq + shownSeqMax
  const text = survived?.text ?? ''
  const reasoning = survived?.reasoning ?? undefined
  const upstreamId = guarded.upstream_id ?? undefined
  const promptTokens = guarded.prompt_tokens ?? 0
  const completionTokens = estimateTokens(text + (reasoning ?? ''))
  const [[listed]] = await tx.commit(() =>
    Promise.all([
      tx.execute<ListedConversation>(
        sql`update chat.conversations set updated_at = now() where id = ${conversationId} returning ${listedColumns}`,
      ),
      tx.execute(
        sql`update chat.generations set survived_seq = ${survivedSeq}, last_seq = ${lastSeq} where id = ${id}`,
      ),
      tx.execute(sql`
        insert into chat.generation_chunks (generation_id, first_seq, last_seq, user_id, events)
        values (${id}, ${lastSeq}, ${lastSeq}, ${userId}, ${JSON.stringify([terminal])}::jsonb)`),
      settleMessage(tx, conversationId, messageId, {
        content: text,
        status: 'interrupted',
        metadata: {
          ...(reasoning !== undefined && { reasoning }),
          error: {
            code: terminal.type === 'error' ? terminal.error.code : '',
            message: 'The server was lost.',
          },
        },
      }),
      // An upstream that has named the answer had read the prompt: it may be billed without a word of text.
      completionTokens === 0 && upstreamId === undefined
        ? undefined
        : recordUsage(
            tx,
            {
              id: uuidv7(),
              userId,
              conversationId,
              messageId,
              generationId: id,
              model,
              promptTokens,
              completionTokens,
              totalTokens: promptTokens + completionTokens,
              cost: isFreeModel(model) ? '0' : null,
              isFreeModel: isFreeModel(model),
              source: 'estimated',
            },
            upstreamId,
          ),
      // Whoever asked for a stop has what they wanted, though its process did not live to do it.
      leaveNews(tx, {
        userId,
        conversationId,
        messageId,
        generationId: id,
        outcome: guarded.stop_requested ? 'stopped' : 'interrupted',
      }),
      outbox?.appendMessage(tx, { conversationId, messageId }),
    ]),
  )
  return listed
}
