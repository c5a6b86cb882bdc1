/** A TCP proxy in front of a server: the network, to be taken away and given back. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/**
 * States: passing, refusing, frozen. Each connection is a pair of sockets; a stranded one stays frozen for good,
 * as after a fail-over that nobody was told about.
 */
export interface TcpProxy {
  port: number
  /** The same URL, through the proxy. */
  url: string
  /** New connections pass, and what was frozen flows on; stranded ones do not. */
  pass(): Promise<void>
  /** Connections are reset, and new ones refused: the server's process is gone. */
  refuse(): Promise<void>
  /** Nothing flows any more, and nothing closes; new connections are accepted and hear nothing. */
  freeze(): void
  /** Connections are reset; new ones pass: the server was restarted. */
  cut(): void
  /** The connections of now stay frozen for good; new ones pass. */
  strand(): void
  /**
   * PostgreSQL's next transaction is committed, but nobody is told: its connection is reset instead.
   * @param text in lower case: only a transaction that has said it.
   */
  loseCommit(text?: string): Promise<void>
  /** The same, but the connection is just silent until the returned function resets it. */
  withholdCommit(text?: string): Promise<() => void>
  /** Resolves when a message to the server holds `text` (in lower case), before it is passed on. */
  heard(text: string): Promise<void>
  /** The same, but it is not passed on, nor what follows it, until the returned function is called. */
  holdBack(text: string): Promise<() => void>
  connections(): number
  close(): Promise<void>
}

interface Pair {
  client: Socket
  server: Socket
  stranded: boolean
  /** Called when the server says that its transaction is over; the client is told nothing from then on. */
  withheld: ((reset: () => void) => void) | undefined
}

/** `ReadyForQuery`, outside of a transaction: how PostgreSQL says that one has ended, COMMIT or not. */
const transactionOver = Buffer.from('Z\0\0\0\x05I')

/** @param atPort default: a free one. */
export async function startTcpProxy(targetUrl: string, atPort = 0): Promise<TcpProxy> {
  const target = new URL(targetUrl)
  const pairs = new Set<Pair>()
  let frozen = false
  let port = atPort
  let listener: Server | undefined
  let withholding: { text: string; done: (reset: () => void) => void } | undefined
  let hearing: { text: string; heard: () => void } | undefined
  let holding: { text: string; held: (pass: () => void) => void } | undefined

  async function listen(): Promise<void> {
    listener = createServer(accept)
    listener.listen(port, '127.0.0.1')
    await once(listener, 'listening')
    port = (listener.address() as AddressInfo).port
  }

  function accept(client: Socket): void {
    const server = connect(Number(target.port), target.hostname)
    const pair: Pair = { client, server, stranded: false, withheld: undefined }
    pairs.add(pair)
    for (const socket of [client, server]) {
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      socket.on('close', () => drop(pair))
    }
    client.on('data', (bytes) => {
      const text = bytes.toString('latin1').toLowerCase()
      if (withholding !== undefined && text.includes(withholding.text)) {
        pair.withheld = withholding.done
        withholding = undefined
      }
      if (hearing !== undefined && text.includes(hearing.text)) {
        hearing.heard()
        hearing = undefined
      }
      if (holding !== undefined && text.includes(holding.text)) {
        client.pause()
        holding.held(() => {
          server.write(bytes)
          client.resume()
        })
        holding = undefined
      } else server.write(bytes)
    })
    server.on('data', (bytes) => {
      if (pair.withheld === undefined || !bytes.includes(transactionOver)) client.write(bytes)
      else {
        server.pause()
        pair.withheld(() => drop(pair))
      }
    })
    if (frozen) hold(pair)
  }

  function hold({ client, server }: Pair): void {
    client.pause()
    server.pause()
  }

  function drop(pair: Pair): void {
    pairs.delete(pair)
    // A socket that is paused never learns that its other end has gone.
    for (const socket of [pair.client, pair.server]) if (!socket.destroyed) socket.resetAndDestroy()
  }

  function cut(): void {
    for (const pair of pairs) drop(pair)
  }

  async function stopListening(): Promise<void> {
    const stopped = listener
    listener = undefined
    cut()
    if (stopped !== undefined) await new Promise((resolve) => stopped.close(resolve))
  }

  const withholdCommit = (text = '') => new Promise<() => void>((done) => (withholding = { text, done }))

  await listen()
  const url = new URL(targetUrl)
  url.hostname = '127.0.0.1'
  url.port = String(port)
  return {
    port,
    url: url.href,
    async pass() {
      frozen = false
      for (const { client, server } of [...pairs].filter(({ stranded }) => !stranded)) {
        client.resume()
        server.resume()
      }
      if (listener === undefined) await listen()
    },
    refuse: stopListening,
    freeze() {
      frozen = true
      pairs.forEach(hold)
    },
    cut,
    strand() {
      for (const pair of pairs) {
        pair.stranded = true
        hold(pair)
      }
    },
    async loseCommit(text) {
      const reset = await withholdCommit(text)
      reset()
    },
    withholdCommit,
    heard: (text) => new Promise((heard) => (hearing = { text, heard })),
    holdBack: (text) => new Promise((held) => (holding = { text, held })),
    connections: () => pairs.size,
    close: stopListening,
  }
}
