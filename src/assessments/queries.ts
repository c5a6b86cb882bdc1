/** SQL of assessments and their conversations, as functions of a transaction as the system unless it says otherwise. */
import { sql } from '../db/sql.ts'
import { listedColumns, type ListedConversation } from '../conversations/changes.ts'
import type { ContextType } from '../conversations/schemas.ts'
import type { Tx } from '../db/database.ts'
import type { AssessmentEvent } from './event.ts'
import { stageOf, type Known, type Stage } from './progress.ts'
import type { AssessmentResults } from './results.ts'

interface AssessmentRow extends Record<string, unknown> {
  assessment_id: string
  user_id: string
  stage: Stage
  version: string | null
  occurred_at: string
  results: AssessmentResults | null
  awaits_results: boolean
  suggestions: string[] | null
  ready_at: string | null
}

export interface Assessment extends Known {
  id: string
  /** Of an older version, where `hasResults` says that this one's are not known. */
  results: AssessmentResults | null
  suggestions: string[] | null
  isReady: boolean
}

const columns = sql`assessment_id, user_id, stage, version, occurred_at, results, awaits_results, suggestions, ready_at`

const toAssessment = (row: AssessmentRow): Assessment => ({
  id: row.assessment_id,
  userId: row.user_id,
  stage: row.stage,
  version: row.version,
  occurredAt: row.occurred_at,
  hasResults: row.results !== null && !row.awaits_results,
  results: row.results,
  suggestions: row.suggestions,
  isReady: row.ready_at !== null,
})

/** As its user, too. */
export async function readAssessment(tx: Tx, id: string): Promise<Assessment | undefined> {
  const [row] = await tx.execute<AssessmentRow>(
    sql`select ${columns} from chat.assessments where assessment_id = ${id}`,
  )
  return row && toAssessment(row)
}

/** The one that a user was last told of with its results, else any. As that user, too. */
export async function readNewest(tx: Tx, userId: string): Promise<Assessment | undefined> {
  const [row] = await tx.execute<AssessmentRow>(sql`
    select ${columns} from chat.assessments where user_id = ${userId}
    order by (stage = 'complete') desc, occurred_at desc, assessment_id limit 1`)
  return row && toAssessment(row)
}

/** First in every transaction that moves an assessment, behind its event's claim and its job. */
export async function lockAssessment(tx: Tx, id: string): Promise<Assessment | undefined> {
  const [row] = await tx.execute<AssessmentRow>(
    sql`select ${columns} from chat.assessments where assessment_id = ${id} for update`,
  )
  return row && toAssessment(row)
}

/** In one statement. @returns it, locked, and whether it was made by this. */
export async function makeAssessment(
  tx: Tx,
  { assessmentId, userId, type, version, occurredAt }: AssessmentEvent & { occurredAt: string },
): Promise<{ assessment: Assessment; isNew: boolean }> {
  const [row] = await tx.execute<AssessmentRow & { is_new: boolean }>(sql`
    insert into chat.assessments (assessment_id, user_id, stage, version, occurred_at)
    values (${assessmentId}, ${userId}, ${stageOf[type]}, ${version}::numeric, ${occurredAt}::timestamptz)
    on conflict (assessment_id) do update set updated_at = assessments.updated_at
    returning ${columns}, xmax = 0 as is_new`)
  if (row === undefined) throw new Error('an assessment is there and cannot be read')
  return { assessment: toAssessment(row), isNew: row.is_new }
}

/** What an older version found stays until this one's results are known; its suggestions do not, nor that it was ready. */
export async function moveAssessment(
  tx: Tx,
  { assessmentId, type, version, occurredAt, results }: AssessmentEvent & { occurredAt: string },
): Promise<void> {
  const stage = stageOf[type]
  await tx.execute(sql`
    update chat.assessments set stage = ${stage}, version = ${version}::numeric,
      occurred_at = ${occurredAt}::timestamptz, updated_at = now(),
      results = coalesce(${results && JSON.stringify(results)}::jsonb, results),
      awaits_results = ${stage === 'complete' && results === null},
      suggestions = case when ${stage} = 'complete' then null else suggestions end,
      ready_at = case when ${stage} = 'complete' then null else ready_at end
    where assessment_id = ${assessmentId}`)
}

export async function storeResults(tx: Tx, id: string, results: AssessmentResults): Promise<void> {
  await tx.execute(sql`
    update chat.assessments set results = ${JSON.stringify(results)}::jsonb, awaits_results = false, stage = 'complete',
      suggestions = null, updated_at = now()
    where assessment_id = ${id}`)
}

/** Nobody has them: what an older version found is what there is. */
export async function keepOldResults(tx: Tx, id: string): Promise<void> {
  await tx.execute(
    sql`update chat.assessments set awaits_results = false, updated_at = now() where assessment_id = ${id}`,
  )
}

/** Whether there is something left to do: for whoever is about to say that there is not, behind the end of their job. */
export async function isUnfinished(tx: Tx, id: string): Promise<boolean> {
  const assessment = await readAssessment(tx, id)
  if (assessment?.stage !== 'complete') return false
  if (!assessment.hasResults) return true
  return !assessment.isReady && (await readAdviser(tx, assessment.userId, id)) !== undefined
}

export async function noteReady(tx: Tx, id: string, suggestions: readonly string[]): Promise<void> {
  await tx.execute(sql`
    update chat.assessments set suggestions = ${JSON.stringify(suggestions)}::jsonb, ready_at = clock_timestamp(),
      updated_at = now()
    where assessment_id = ${id}`)
}

export async function noteUnready(tx: Tx, id: string): Promise<void> {
  await tx.execute(
    sql`update chat.assessments set ready_at = null where assessment_id = ${id} and ready_at is not null`,
  )
}

export interface AdviserRow extends Record<string, unknown> {
  id: string
  status: 'active' | 'archived'
  title: string
  context_data: Record<string, unknown>
}

/** The conversation of an assessment, besides those that were deleted. As its user, too. */
export async function readAdviser(
  tx: Tx,
  userId: string,
  assessmentId: string,
): Promise<AdviserRow | undefined> {
  const [row] = await tx.execute<AdviserRow>(sql`
    select id, status, title, context_data from chat.conversations
    where user_id = ${userId} and assessment_id = ${assessmentId} and status <> 'deleted'`)
  return row
}

/**
 * Makes the conversation of an assessment, or gives it what is known now, in one statement. Of several that make it at once
 * one does.
 */
export async function makeAdviser(
  tx: Tx,
  row: {
    id: string
    userId: string
    assessmentId: string
    title: string
    titleSource: 'auto' | 'user'
    contextData: Record<string, unknown>
    metadata: Record<string, unknown>
  },
): Promise<{ listed: ListedConversation; isNew: boolean }> {
  const [made] = await tx.execute<ListedConversation & { is_new: boolean }>(sql`
    insert into chat.conversations (id, user_id, title, title_source, context_type, context_data, metadata, assessment_id)
    values (${row.id}, ${row.userId}, ${row.title}, ${row.titleSource}, 'assessment',
      ${JSON.stringify(row.contextData)}::jsonb, ${JSON.stringify(row.metadata)}::jsonb, ${row.assessmentId})
    on conflict (user_id, assessment_id) where assessment_id is not null and status <> 'deleted'
      do update set context_data = conversations.context_data || excluded.context_data, updated_at = now()
    returning ${listedColumns}, xmax = 0 as is_new`)
  if (made === undefined) throw new Error('a conversation is there and cannot be changed')
  const { is_new: isNew, ...listed } = made
  return { listed, isNew }
}

/** One message that the assistant began with, as far as it matters what is to be done about it. */
export interface Welcome extends Record<string, unknown> {
  id: string
  status: 'complete' | 'streaming' | 'stopped' | 'failed' | 'interrupted'
  content: string
  composed: boolean
  generation_id: string | null
}

/** Of a conversation: its welcomes, the newest first, and whether its user has spoken. As its user, too. */
export async function readBeginning(
  tx: Tx,
  conversationId: string,
): Promise<{ welcomes: Welcome[]; hasSpoken: boolean }> {
  const [welcomes, [spoken]] = await Promise.all([
    tx.execute<Welcome>(sql`
      select m.id, m.status, m.content, coalesce((m.metadata ->> 'composed')::boolean, false) as composed,
        (select g.id from chat.generations g where g.conversation_id = m.conversation_id and g.message_id = m.id
          order by g.id desc limit 1) as generation_id
      from chat.messages m
      where m.conversation_id = ${conversationId} and m.parent_message_id is null and m.sender_type = 'assistant'
        and m.metadata ->> 'type' = ${welcomeType}
      order by m.id desc limit ${welcomesMax}`),
    tx.execute<{ spoken: boolean }>(sql`
      select exists (select from chat.messages where conversation_id = ${conversationId} and sender_type = 'user') as spoken`),
  ])
  return { welcomes, hasSpoken: spoken?.spoken ?? false }
}

/** `metadata.type` of a welcome. */
export const welcomeType = 'assessment_welcome'
/** More are never made: those of processes that died. */
const welcomesMax = 10

/** The suggestions stand in the welcome, too. */
export async function noteSuggestions(
  tx: Tx,
  conversationId: string,
  messageId: string,
  suggestions: readonly string[],
): Promise<void> {
  await tx.execute(sql`
    update chat.messages set metadata = metadata || jsonb_build_object('suggestions', ${JSON.stringify(suggestions)}::jsonb)
    where conversation_id = ${conversationId} and id = ${messageId}`)
}

/** A conversation as far as its adviser is concerned, by its own id. As its user, too. */
export interface OwnAdviser extends AdviserRow {
  context_type: ContextType
  assessment_id: string | null
}

export async function readOwn(tx: Tx, conversationId: string): Promise<OwnAdviser | undefined> {
  const [row] = await tx.execute<OwnAdviser>(sql`
    select id, status, title, context_type, context_data, assessment_id from chat.conversations
    where id = ${conversationId} and status <> 'deleted'`)
  return row
}

/** Behind the lock on it. */
export async function addContext(
  tx: Tx,
  conversationId: string,
  contextData: Record<string, unknown>,
): Promise<void> {
  await tx.execute(sql`
    update chat.conversations set context_data = context_data || ${JSON.stringify(contextData)}::jsonb, updated_at = now()
    where id = ${conversationId}`)
}

/** Another text in a welcome's place, behind the lock on its conversation. */
export async function replaceWelcome(
  tx: Tx,
  conversationId: string,
  id: string,
  by: { text: string; suggestions: readonly string[]; model: string; isFree: boolean },
): Promise<ListedConversation | undefined> {
  const { text, suggestions, model, isFree } = by
  const metadata = { model, is_free_model: isFree, suggestions }
  const [, , [listed]] = await Promise.all([
    // Whoever resumes its stream gets the new text from the message, and not the old one from its log.
    tx.execute(sql`
      delete from chat.generation_chunks where generation_id in (
        select id from chat.generations where conversation_id = ${conversationId} and message_id = ${id})`),
    tx.execute(sql`
      update chat.messages set content = ${text}, sender_id = ${model}, token_count = null,
        metadata = (metadata - 'composed') || ${JSON.stringify(metadata)}::jsonb
      where conversation_id = ${conversationId} and id = ${id}`),
    tx.execute<ListedConversation>(sql`
      update chat.conversations set updated_at = now() where id = ${conversationId} returning ${listedColumns}`),
  ])
  return listed
}

/** What the user said last, its beginnings, the newest first: by it one knows the language. As its user, too. */
export async function readNewestWords(tx: Tx, conversationId: string): Promise<string[]> {
  const rows = await tx.execute<{ said: string }>(sql`
    select left(content, 500) as said from chat.messages
    where conversation_id = ${conversationId} and sender_type = 'user' order by id desc limit 5`)
  return rows.map(({ said }) => said)
}
