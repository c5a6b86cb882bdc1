/**
 * Door of bus: over PostgreSQL, by LISTEN and NOTIFY. One connection does both: while it answers it listens.
 *
 * NOTIFY holds a lock of the whole cluster until its transaction ends, so it has transactions of its own, in which
 * nothing else happens. It does not work through a pooler that lends a connection out for a transaction at a time.
 */
import { Socket } from 'node:net'
import pg from 'pg'
import type { Bus } from './bus.ts'
import { answerMs, closeMs, createLinkedBus, type LinkedBusOptions, type OpenLink } from './linked-bus.ts'

export type PostgresBusOptions = { url: string } & Omit<LinkedBusOptions, 'open' | 'packetBytesMax'>

/** NOTIFY takes less than 8,000 bytes. */
const packetBytesMax = 7_999
/** In one database: other databases of the cluster do not hear it. */
const channel = 'rivulet'

export function createPostgresBus({ url, ...options }: PostgresBusOptions): Bus {
  return createLinkedBus({ ...options, packetBytesMax, open: openLink(url) })
}

function openLink(url: string): OpenLink {
  return ({ packet, broken }) => {
    // Our own: the driver's `end` waits for ever for a server that has vanished without a word.
    const socket = new Socket()
    const gone = new Promise((resolve) => socket.once('close', resolve))
    const client = new pg.Client({
      connectionString: url,
      stream: () => socket,
      keepAlive: true,
      // A ping may meet a send.
      pipeline: true,
      application_name: 'rivulet bus',
      // What we no longer wait for should not wait for a lock either.
      statement_timeout: answerMs,
    })
    client.on('error', broken)
    client.on('end', () => broken(new Error('the connection has ended')))
    client.on('notification', (notification) => {
      if (notification.channel === channel) packet(notification.payload ?? '')
    })
    return {
      opened: client.connect().then(() => client.query(`listen ${channel}`)),
      send: (packets) =>
        client.query({
          name: 'bus_send',
          text: 'select count(pg_notify($1, packet)) from unnest($2::text[]) as packet',
          values: [channel, packets],
        }),
      async ping() {
        const { rowCount } = await client.query({
          name: 'bus_ping',
          text: 'select from pg_listening_channels() as name where name = $1',
          values: [channel],
        })
        if (rowCount !== 1) throw new Error('this connection does not listen any more')
      },
      async close() {
        const cut = setTimeout(() => socket.destroy(), closeMs)
        void client.end()
        await gone
        clearTimeout(cut)
      },
    }
  }
}
