/** Will a free model be asked? The operator's share of those is limited, so they are counted by user and minute. */
import type { UserCaller } from '../auth/authenticate.ts'
import { readConversation } from '../conversations/queries.ts'
import type { Database } from '../db/database.ts'
import type { Links } from '../http/links.ts'
import type { ModelChain } from '../upstream/chain.ts'
import type { Catalogue } from '../upstream/models.ts'

/**
 * Of who pays it is the conversation that decides, unless a model is asked for. What is refused anyway is not counted, nor
 * is a model whose price nobody tells.
 */
export async function answersFree(
  {
    db,
    chain,
    models,
    links,
  }: { db: Database; chain: ModelChain; models: Pick<Catalogue, 'isFree'>; links: Links },
  caller: UserCaller,
  { conversationId, model }: { conversationId: string; model: string | undefined },
): Promise<boolean> {
  const { tier } = caller
  if (model !== undefined) return models.isFree(model)
  // Only where a tier may have both kinds does the conversation decide: as a rule it is not looked at.
  const offered = chain.offered(tier).models
  const free = offered.filter(models.isFree).length
  if (free === 0 || free === offered.length) return free > 0
  const conversation = await db.asCaller(caller, (tx) => readConversation(tx, conversationId, links))
  if (conversation === undefined) return false
  const [first] = chain.choose({
    conversationModel: conversation.model,
    contextType: conversation.context_type,
    tier,
  })
  return models.isFree(first)
}
