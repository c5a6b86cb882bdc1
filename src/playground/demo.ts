/**
 * `npm run demo`: a service of its own (embedded database, demo model, a directory that is removed), and a client
 * that uses it over HTTP like everybody else: ask, go on, regenerate, edit, and look at the tree that this made.
 *
 * The environment is not read: what is configured elsewhere is neither used nor touched. Ends by itself, or by
 * SIGINT or SIGTERM at any moment; in each case everything is stopped and removed before the process exits.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { styleText } from 'node:util'
import { createApp } from '../app.ts'
import { mintToken } from '../auth/tokens.ts'
import { loadConfig } from '../config.ts'
import type { Conversation } from '../conversations/schemas.ts'
import { EmbeddedPostgresError, resolve } from '../embedded/resolve.ts'
import { createLogger } from '../logging.ts'
import type { Message } from '../messages/schemas.ts'
import { createDemoClient, type DemoClient } from './demo-client.ts'
import { printTree, type TreeEntry } from './tree-text.ts'

const user = 'demo'
const tokenHours = 1

async function main(): Promise<void> {
  const interrupted = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.on(name, () => {
      process.exitCode = 128 + constants.signals[name]
      interrupted.abort()
    })
  try {
    await converse(interrupted.signal)
    console.log(dim(`\nEverything is stopped and removed. ${seconds(0)} since the process began.`))
  } catch (error) {
    // Whatever fails after a signal fails because of it: Ctrl-C reaches the children of this process too.
    if (!interrupted.signal.aborted) throw error
    console.log(dim('\nInterrupted: everything is stopped and removed.'))
  }
}

async function converse(signal: AbortSignal): Promise<void> {
  await using releases = new AsyncDisposableStack()
  const client = await startService(releases, signal)

  const { id } = await client.call<Conversation>('POST', '/conversations')
  const messages = `/conversations/${id}/messages`
  const first = await ask(client, messages, 'I like biology and drawing. What could I become?')
  const second = await ask(client, messages, 'Which of these could I try out within a month?')

  console.log(dim('\nThe last question, answered again:\n'))
  const again = await watch(client, `${messages}/${second.id}/regenerate`, {})
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

/** As `npm start` does it, on a free port. Every part adds its own release. */
async function startService(releases: AsyncDisposableStack, signal: AbortSignal): Promise<DemoClient> {
  const startedAt = performance.now()
  const home = await mkdtemp(join(tmpdir(), 'rivulet-demo-'))
  releases.defer(() => rm(home, { recursive: true, force: true }))
  // Started by root, PostgreSQL runs as somebody else, who must be able to pass through.
  await chmod(home, 0o755)

  const config = loadConfig({ DATA_DIR: join(home, 'data'), PORT: '0', LOG_LEVEL: 'silent' })
  const { resolved, embedded, release } = await resolve(config, (message) => console.log(dim(message)))
  releases.defer(release)
  signal.throwIfAborted()
  const app = await createApp(config, resolved, createLogger(config))
  releases.defer(() => app.close(0))
  await app.prepared
  const origin = await app.listen({ host: config.HOST, port: config.PORT })
  signal.throwIfAborted()

  if (embedded.jwtSecret === undefined) throw new Error('the demo has no secret of its own')
  const token = await mintToken(embedded.jwtSecret, { sub: user, hours: tokenHours })
  console.log(
    dim(`Rivulet listens on ${origin} after ${seconds(startedAt)}; database and model are embedded.`),
  )
  const client = createDemoClient({ api: `${origin}${config.BASE_PATH}`, token, signal })
  releases.defer(() => client.close())
  return client
}

async function ask(
  client: DemoClient,
  path: string,
  content: string,
  more: { parent_message_id?: string | null } = {},
): Promise<Message> {
  heading(`${user}: ${content}`)
  return watch(client, path, { content, ...more })
}

/** Prints an answer as it arrives, and then what it took. */
async function watch(client: DemoClient, path: string, body: object): Promise<Message> {
  const startedAt = performance.now()
  let firstTokenMs: number | undefined
  let frames = 0
  for await (const event of client.stream(path, body)) {
    if (event.type === 'assistant_chunk') {
      firstTokenMs ??= performance.now() - startedAt
      frames++
      process.stdout.write(style('cyan', event.content))
    }
    if (event.type === 'error') throw new Error(`${event.error.code}: ${event.error.message}`)
    if (event.type === 'complete') {
      const { message, usage } = event
      const told = [
        `first token after ${Math.round(firstTokenMs ?? 0)} ms`,
        `${frames} frames in ${seconds(startedAt)}`,
        ...(usage === null
          ? []
          : [
              `${usage.prompt_tokens} + ${usage.completion_tokens} = ${usage.total_tokens} tokens`,
              `cost ${usage.cost ?? 'unknown'} (${usage.source})`,
            ]),
      ]
      console.log(`\n\n${dim(told.join(' · '))}`)
      return message
    }
  }
  throw new Error('the stream ended without a last frame')
}

function heading(text: string): void {
  console.log(`\n${style('bold', text)}\n`)
}

/** @param since of `performance.now()`, which counts from the process's start. */
const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`

// Plain where stdout is no terminal or NO_COLOR is set.
const style = (format: 'bold' | 'cyan' | 'dim', text: string) =>
  styleText(format, text, { stream: process.stdout })
const dim = (text: string) => style('dim', text)

await main().catch((error: unknown) => {
  console.error(error instanceof EmbeddedPostgresError ? error.message : error)
  process.exitCode = 1
})
