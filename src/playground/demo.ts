/**
 * `npm run demo`: a service of its own (embedded database, demo model, a directory that is removed), and a client
 * that uses it over HTTP like everybody else. `npm run demo -- assessment` tells another story than the conversation's:
 * from an event of an assessment to an adviser that is ready.
 *
 * The environment is not read, but for RABBITMQ_URL by the story that has use for a broker: what is configured elsewhere
 * is neither used nor touched. Ends by itself, or at any moment by a signal, or when nobody reads it any more; in each
 * case everything is stopped and removed before the process exits.
 */
import { constants } from 'node:os'
import { EmbeddedPostgresError } from '../embedded/resolve.ts'
import { dim, seconds } from './demo-text.ts'

/** Imported when it is played: a story that there is not is refused at once, and Ctrl-C is heard from the beginning. */
const stories = new Map([
  ['chat', async () => (await import('./demo-chat.ts')).playChat],
  ['assessment', async () => (await import('./demo-assessment.ts')).playAssessment],
])

async function main(): Promise<void> {
  const [name = 'chat', ...more] = process.argv.slice(2)
  const story = stories.get(name)
  if (story === undefined || more.length > 0) {
    const asked = JSON.stringify([name, ...more].join(' '))
    console.error(`There is no story called ${asked}. There are: ${[...stories.keys()].join(', ')}.`)
    process.exitCode = 2
    return
  }
  const interrupted = new AbortController()
  const interrupt = (signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP' | 'SIGPIPE') => {
    process.exitCode = 128 + constants.signals[signal]
    interrupted.abort()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupt)
  // Nobody reads it any more, as behind `| head`.
  process.stdout.on('error', () => interrupt('SIGPIPE'))
  try {
    const play = await story()
    await play(interrupted.signal)
    console.log(dim(`\nEverything is stopped and removed. ${seconds(0)} since the process began.`))
  } catch (error) {
    // Whatever fails after a signal fails because of it: Ctrl-C reaches the children of this process too.
    if (!interrupted.signal.aborted) throw error
    console.log(dim('\nInterrupted: everything is stopped and removed.'))
  }
}

await main().catch((error: unknown) => {
  console.error(error instanceof EmbeddedPostgresError ? error.message : error)
  process.exitCode = 1
})
