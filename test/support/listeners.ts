/**
 * A process of many WebSockets that only listen: `fork(this, [port, sockets, frames])`. Says `told` to its parent
 * each time that they have had so many frames more, all together.
 */
import { WebSocket } from 'ws'

const [port = '', sockets = '', frames = ''] = process.argv.slice(2)
let had = 0

for (let n = 0; n < Number(sockets); n++) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/${n}`, { perMessageDeflate: false })
  socket.on('message', () => {
    if (++had % Number(frames) === 0) process.send?.('told')
  })
  await new Promise((resolve) => socket.once('open', resolve))
}
process.on('disconnect', () => process.exit())
