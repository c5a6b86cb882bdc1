/**
 * When each notification was committed, as PostgreSQL itself saw it: a trigger that fires when its transaction begins to
 * commit, before that is on the disk. So a time "from the commit" holds the disk's part too: it is never flattered.
 */
import type { Client } from 'pg'
import { nowUs } from '../probe.ts'

/** Call when the table is there. It costs both servers the same. */
export async function noteCommits(client: Client, table: string): Promise<void> {
  await client.query(`
    create schema if not exists bench;
    create unlogged table if not exists bench.commits (sent_at_us bigint primary key, at timestamptz not null);
    create or replace function bench.note_commit() returns trigger language plpgsql security definer as $$ begin
      insert into bench.commits values ((new.data ->> 'sent_at_us')::bigint, clock_timestamp()) on conflict do nothing;
      return null;
    end $$;
    create constraint trigger note_commit after insert on ${table} deferrable initially deferred
      for each row execute function bench.note_commit()`)
}

/** @returns by what names a notification, when its commit began, on the clock of `nowUs`. */
export async function readCommits(client: Client): Promise<Map<number, number>> {
  const offsetUs = await clockOffsetUs(client)
  const { rows } = await client.query<{ sent: string; us: number }>(
    'select sent_at_us as sent, (extract(epoch from at) * 1e6)::float8 as us from bench.commits',
  )
  return new Map(rows.map(({ sent, us }) => [Number(sent), us - offsetUs]))
}

/** How far PostgreSQL's clock is ahead of ours: by the quickest of some answers, so to about 0.1 ms. */
async function clockOffsetUs(client: Client): Promise<number> {
  let best = { tookUs: Infinity, offsetUs: 0 }
  for (let time = 0; time < 50; time++) {
    const beganUs = nowUs()
    const { rows } = await client.query<{ us: number }>(
      'select (extract(epoch from clock_timestamp()) * 1e6)::float8 as us',
    )
    const tookUs = nowUs() - beganUs
    if (tookUs < best.tookUs) best = { tookUs, offsetUs: (rows[0]?.us ?? NaN) - beganUs - tookUs / 2 }
  }
  return best.offsetUs
}
