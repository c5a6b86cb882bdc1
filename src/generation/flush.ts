/** The journal's one statement: what a flush sends, and what comes back. */
import { sql, type SQL } from '../db/sql.ts'

/** What whoever settles after a crash must know of the upstream's answer, beside its text. */
export interface UpstreamNote {
  /** Null: it has begun, and has not told its id. */
  upstreamId: string | null
  promptTokens: number
  /** Which one answers by now. */
  model: string
}

/** Events of one generation, as a JSON array. */
export interface FlushedEvents {
  entry: { id: string }
  firstSeq: number
  lastSeq: number
  events: string
}

export interface FlushedNote {
  entry: { id: string }
  note: UpstreamNote
}

export interface FlushRow {
  id: string
  stop: boolean
  /** Running and ours, but its row was held by somebody at that moment: nothing of it was written, try again. */
  locked_out: boolean
  /** Its row was written to: a note of it is stored. */
  noted: boolean
}

/**
 * One statement for all. A generation's own row is written to for its heartbeat and for news of its upstream alone.
 *
 * `doubtful`: we were silent for so long that a reaper may be settling our generations at this moment; then their rows
 * are locked before anything is written for them, and those that are held are left out.
 */
export function flushStatement(
  pieces: readonly FlushedEvents[],
  notes: readonly FlushedNote[],
  ids: readonly string[],
  instanceId: string,
  doubtful: boolean,
): SQL {
  // By id: looked up in it, a thousand of them cost what one does.
  const news = Object.fromEntries(notes.map(({ entry, note }) => [entry.id, note]))
  return sql`
    with ours as (
      select id, user_id, heartbeat_at, stop_requested_at from chat.generations
      where id = any(${ids}::uuid[]) and status = 'running' and instance_id = ${instanceId}
    ), writable as (
      select id, user_id from chat.generations
      where id in (select id from ours) and status = 'running' ${doubtful ? sql`for share skip locked` : sql.empty()}
    ), written as (
      insert into chat.generation_chunks (generation_id, first_seq, last_seq, user_id, events)
      select piece.id, piece.first_seq, piece.last_seq, writable.user_id, piece.events
      from unnest(${pieces.map(({ entry }) => entry.id)}::uuid[],
        ${pieces.map(({ firstSeq }) => firstSeq)}::bigint[],
        ${pieces.map(({ lastSeq }) => lastSeq)}::bigint[],
        ${pieces.map(({ events }) => events)}::jsonb[]) as piece (id, first_seq, last_seq, events)
      join writable on writable.id = piece.id
      on conflict do nothing
    ), noted as (
      select ${JSON.stringify(news)}::jsonb as news
    ), held as (
      select id from chat.generations
      where id in (
          select id from ours where heartbeat_at < now() - interval '5 s' or (select news from noted) ? id::text)
        and status = 'running'
      for no key update skip locked
    ), beating as (
      update chat.generations g set heartbeat_at = now(),
        upstream_id = coalesce((select news from noted)->g.id::text->>'upstreamId', g.upstream_id),
        prompt_tokens_estimate = coalesce(
          ((select news from noted)->g.id::text->>'promptTokens')::int, g.prompt_tokens_estimate),
        model = coalesce((select news from noted)->g.id::text->>'model', g.model)
      from held where g.id = held.id
      returning g.id
    )
    select ours.id, ours.stop_requested_at is not null as stop,
      ours.id not in (select id from writable) as locked_out, ours.id in (select id from beating) as noted from ours`
}
