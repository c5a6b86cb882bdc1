/**
 * The upstream that every server under test is given: OpenRouter's protocol, as fast as it can. How many tokens, and
 * how far apart, stands in the last message: "<tokens> tokens, <ms> ms apart".
 *
 * A token is `#` and the µs at which it was written, in base 36: whoever reads it knows how long it took.
 */
import { createServer, type ServerResponse } from 'node:http'
import { createFrames, DONE, PROCESSING, usageOf } from '../src/embedded/demo-protocol.ts'
import { nowUs, serveUnderTest } from './probe.ts'
import { tokenAt } from './tokens.ts'

const server = createServer((request, response) => {
  const parts: Buffer[] = []
  request.on('data', (part: Buffer) => parts.push(part))
  request.on('end', () => {
    const body = Buffer.concat(parts).toString()
    const asked = [...body.matchAll(/(\d+) tokens, (\d+) ms apart/g)].at(-1)
    const model = /"model":"([^"]*)"/.exec(body)?.[1] ?? 'bench'
    if (asked === undefined) {
      response.writeHead(400).end()
      return
    }
    speak(response, model, Number(asked[1]), Number(asked[2]))
  })
})
server.keepAliveTimeout = 60_000
let generations = 0

function speak(response: ServerResponse, model: string, tokens: number, everyMs: number): void {
  const id = `gen-${++generations}`
  const frames = createFrames({ id, model, created: 1_750_000_000 })
  response.writeHead(200, { 'content-type': 'text/event-stream', 'x-generation-id': id })
  response.socket?.setNoDelay(true)
  response.write(PROCESSING)
  let said = 0
  const say = () => response.write(frames.content(tokenAt(nowUs())))
  const end = () => {
    const counts = { prompt: 20, content: tokens, reasoning: 0 }
    response.write(frames.finish('stop'))
    response.write(frames.usage(usageOf(model, counts)))
    response.end(DONE)
  }
  if (everyMs === 0) {
    // As fast as it can, and each token by itself, as providers flush them; what is written stays bounded.
    const burst = () => {
      if (response.destroyed) return
      if (said === tokens) end()
      else {
        said++
        if (say()) setImmediate(burst)
        else response.once('drain', burst)
      }
    }
    burst()
    return
  }
  const step = () => {
    if (response.destroyed) return
    say()
    if (++said < tokens) setTimeout(step, everyMs)
    else end()
  }
  step()
}

serveUnderTest(server)
