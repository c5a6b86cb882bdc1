/**
 * Smoke test: starts the service as README says, waits for its banner, and does what a newcomer would: pastes the
 * command that it prints. Prints one line per check; exit code 1 when one of them failed.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'

const startWithinMs = 10_000
const stopWithinMs = 10_000
const firstByteMsMax = 50
const firstTokenMsMax = 100
const timedRuns = 5
/** Each of them takes about ten seconds, and more on a slow machine. */
const demoWithinMs = 60_000
let passed = 0
let failed = 0

function check(name: string, ok: boolean, detail = ''): void {
  if (ok) passed++
  else failed++
  console.log(`${ok ? 'ok' : 'NOT OK'} - ${name}${detail === '' ? '' : ` (${detail})`}`)
}

/** One answer, as the printed command asks for it: ms until its first byte and its first token. */
async function timeOf(curl: string, origin: string): Promise<{ byte: number; token: number }> {
  const authorization = /Authorization: ([^']+)/.exec(curl)?.[1] ?? ''
  const headers = { authorization, 'content-type': 'application/json' }
  const made = await fetch(`${origin}/api/chat/conversations`, { method: 'POST', headers: { authorization } })
  const { id } = (await made.json()) as { id: string }
  const askedAt = performance.now()
  const response = await fetch(`${origin}/api/chat/conversations/${id}/messages`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ content: 'What could I become?', stream: true }),
  })
  const time = { byte: Infinity, token: Infinity }
  let text = ''
  for await (const bytes of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    const now = Math.round(performance.now() - askedAt)
    time.byte = Math.min(time.byte, now)
    text += Buffer.from(bytes).toString('latin1')
    if (text.includes('assistant_chunk')) time.token = Math.min(time.token, now)
  }
  return time
}

/** To its end: what it told last; else why it did not come to it. */
async function playDemo(args: string[]): Promise<{ ended: boolean; last: string }> {
  try {
    const { stdout } = await promisify(execFile)('npm', ['run', '--silent', 'demo', ...args], {
      timeout: demoWithinMs,
      killSignal: 'SIGINT',
    })
    const last = stdout.trimEnd().split('\n').at(-1) ?? ''
    return { ended: last.startsWith('Everything is stopped and removed.'), last }
  } catch (error) {
    return { ended: false, last: error instanceof Error ? error.message : String(error) }
  }
}

const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Infinity

const dataDir = await mkdtemp(join(tmpdir(), 'rivulet-smoke-'))
// As root the database runs as another user, who has to get in.
await chmod(dataDir, 0o755)
const startedAt = performance.now()
const child = spawn('npm', ['start', '--silent'], {
  env: { ...process.env, DATA_DIR: join(dataDir, 'data'), PORT: '0', NODE_ENV: 'development' },
  stdio: ['ignore', 'pipe', 'inherit'],
  detached: true,
})
const ended = once(child, 'exit')
let output = ''
try {
  const curl = await new Promise<string>((resolve, reject) => {
    const late = setTimeout(
      () => reject(new Error(`no banner within ${startWithinMs} ms:\n${output}`)),
      startWithinMs,
    )
    child.stdout.on('data', (bytes: Buffer) => {
      output += bytes.toString()
      const command = /^curl -N .*$/m.exec(output)?.[0]
      if (command === undefined) return
      clearTimeout(late)
      resolve(command)
    })
    void ended.then(() => reject(new Error(`the service ended:\n${output}`)))
  })
  check(
    'npm start listens and prints a command to paste',
    true,
    `${Math.round(performance.now() - startedAt)} ms`,
  )

  const { stdout } = await promisify(execFile)('bash', ['-c', `${curl} --silent --max-time 30`], {
    maxBuffer: 1e7,
  })
  check('the command streams an answer', stdout.includes('"type":"assistant_chunk"'))
  check('the answer ends with one terminal frame', stdout.split('"type":"complete"').length === 2)

  const origin = /http:\/\/[\d.]+:\d+/.exec(curl)?.[0] ?? ''
  const times: { byte: number; token: number }[] = []
  for (let run = 0; run < timedRuns; run++) times.push(await timeOf(curl, origin))
  const [firstByteMs, firstTokenMs] = (['byte', 'token'] as const).map((which) =>
    median(times.map((t) => t[which])),
  )
  check(
    `the first byte comes within ${firstByteMsMax} ms`,
    (firstByteMs ?? Infinity) <= firstByteMsMax,
    `median ${firstByteMs} ms`,
  )
  check(
    `the first token comes within ${firstTokenMsMax} ms`,
    (firstTokenMs ?? Infinity) <= firstTokenMsMax,
    `median ${firstTokenMs} ms`,
  )

  const health = await fetch(`${origin}/health/ready`)
  check('it is ready', health.status === 200)
  const docs = await fetch(`${origin}/docs/openapi.json`)
  check('it documents itself', docs.ok && (await docs.text()).includes('/conversations/{id}/messages'))

  process.kill(-(child.pid ?? 0), 'SIGTERM')
  await ended
  // npm may be gone before the service is: the database's own file says when everything has stopped.
  const pidFile = join(dataDir, 'data', 'postgres', 'postmaster.pid')
  const deadline = performance.now() + stopWithinMs
  while (existsSync(pidFile) && performance.now() < deadline) await delay(100)
  const refused = await fetch(origin).then(
    () => false,
    () => true,
  )
  check('SIGTERM ends it, and its database with it', refused && !existsSync(pidFile))

  for (const story of [[], ['--', 'assessment']]) {
    const { ended: played, last } = await playDemo(story)
    check(`${['npm run demo', ...story].join(' ')} plays to its end`, played, last)
  }
} catch (error) {
  check(error instanceof Error ? error.message : String(error), false)
  if (child.exitCode === null) process.kill(-(child.pid ?? 0), 'SIGKILL')
} finally {
  await rm(dataDir, { recursive: true, force: true })
}
console.log(`smoke: ${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
