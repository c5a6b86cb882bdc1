/** The story of a conversation: ask, go on, regenerate, edit, and look at the tree that this made. */
import type { Conversation } from '../conversations/schemas.ts'
import type { Message } from '../messages/schemas.ts'
import { printAnswer } from './demo-answer.ts'
import type { DemoClient } from './demo-client.ts'
import { startDemo, user } from './demo-start.ts'
import { dim, heading } from './demo-text.ts'
import { printTree, type TreeEntry } from './tree-text.ts'

export async function playChat(signal: AbortSignal): Promise<void> {
  await using releases = new AsyncDisposableStack()
  const { client } = await startDemo(releases, signal)

  const { id } = await client.call<Conversation>('POST', '/conversations')
  const messages = `/conversations/${id}/messages`
  const first = await ask(client, messages, 'I like biology and drawing. What could I become?')
  const second = await ask(client, messages, 'Which of these could I try out within a month?')

  console.log(dim('\nThe last question, answered again:\n'))
  const again = await printAnswer(client.stream(`${messages}/${second.id}/regenerate`, {}))
  console.log(dim(`answer ${again.sibling_ids.indexOf(again.id) + 1} of ${again.sibling_ids.length}`))

  console.log(dim('\nThe first question, edited, which makes a branch:'))
  const question = await client.call<Message>('GET', `${messages}/${first.parent_message_id ?? ''}`)
  await ask(client, messages, 'I like numbers and people. What could I become?', {
    parent_message_id: question.parent_message_id,
  })

  const { conversation } = await client.call<{ conversation: Conversation }>('GET', `/conversations/${id}`)
  const tree = await client.call<{ head_id: string | null; messages: TreeEntry[] }>(
    'GET',
    `/conversations/${id}/tree`,
  )
  heading(
    `All ${tree.messages.length} messages, under the title made from the first two (● the current leaf)`,
  )
  console.log(printTree(conversation.title, tree.messages, tree.head_id))
}

async function ask(
  client: DemoClient,
  path: string,
  content: string,
  more: { parent_message_id?: string | null } = {},
): Promise<Message> {
  heading(`${user}: ${content}`)
  return printAnswer(client.stream(path, { content, ...more }))
}
