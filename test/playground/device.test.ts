/** The page's devices, and with them the client, against the real service: what a person at the page would see. */
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { WebSocket } from 'ws'
import { createDevice, type Device } from '../../src/playground/realtime-device.ts'
import { startService, serviceKey, type Service } from '../support/service.ts'

let service: Service

beforeAll(async () => {
  service = await startService()
})
afterAll(() => service.close())

interface Watched extends Device {
  /** Looks again each time that something is to be drawn. */
  until(holds: () => boolean): Promise<void>
}

/** Connected, and live. Comes back at once: chance is on its side. */
async function openDevice(user: string): Promise<Watched> {
  const { token = '' } = await service.as(user)
  const looks = new Set<() => void>()
  const device = createDevice({
    api: `${service.origin}/api/chat`,
    token: () => token,
    fetch,
    WebSocket,
    random: () => 0,
    changed() {
      for (const look of looks) look()
    },
  })
  onTestFinished(() => device.disconnect())
  device.connect()
  const watched = {
    ...device,
    until: (holds: () => boolean) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if (!holds()) return
          looks.delete(look)
          resolve()
        }
        looks.add(look)
        look()
      }),
  }
  await watched.until(() => device.state().kind === 'live' && device.cursor() !== null)
  return watched
}

async function send(user: string, title: string, also: object = {}): Promise<void> {
  const response = await fetch(`${service.origin}/api/chat/internal/notifications`, {
    method: 'POST',
    headers: { authorization: `Bearer ${serviceKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ user_id: user, type: 'system', title, body: 'for a test', ...also }),
  })
  if (!response.ok) throw new Error(await response.text())
}

const titlesOf = (device: Device) => device.inbox().map(({ title }) => title)
const replayedOf = (device: Device) =>
  device
    .frames()
    .filter(({ replayed }) => replayed)
    .map(({ gist }) => gist)

it('shows what was there before, and what comes', async () => {
  await send('ann', 'before')
  const device = await openDevice('ann')
  await device.until(() => titlesOf(device).includes('before'))
  await send('ann', 'after')
  await device.until(() => titlesOf(device)[0] === 'after')
  expect([device.mode(), device.unread(), titlesOf(device)]).toEqual(['fresh', 2, ['after', 'before']])
  const [last] = device.frames().filter(({ kind }) => kind === 'durable')
  expect(last).toMatchObject({ replayed: false, gist: '#2 after' })
})

it('gets what it missed while it was offline, marked as replayed, and nothing else again', async () => {
  const device = await openDevice('ben')
  await send('ben', 'seen')
  await device.until(() => titlesOf(device).includes('seen'))
  device.setOnline(false)
  expect(device.state()).toEqual({ kind: 'offline' })
  for (const progress of [25, 50, 75])
    await send('ben', `${progress} %`, {
      type: 'assessment_progress',
      progress,
      dedupe_key: 'assessment:1',
    })
  device.setOnline(true)
  await device.until(() => device.state().kind === 'live')
  expect([device.mode(), titlesOf(device), replayedOf(device)]).toEqual([
    'resume',
    ['75 %', 'seen'],
    ['#4 75 %'],
  ])
})

it('comes back where it was when its connection is dropped', async () => {
  const device = await openDevice('cem')
  await send('cem', 'one')
  await device.until(() => titlesOf(device).includes('one'))
  device.drop()
  await send('cem', 'two')
  await device.until(() => titlesOf(device).includes('two'))
  expect([device.counts().connections, device.mode(), titlesOf(device)]).toEqual([
    2,
    'resume',
    ['two', 'one'],
  ])
})

it('reads the list again behind a cursor of another log', async () => {
  const device = await openDevice('dee')
  await send('dee', 'kept')
  await device.until(() => titlesOf(device).includes('kept'))
  const before = device.cursor()
  device.comeBackWith('elsewhere.1')
  await device.until(() => device.mode() === 'reset' && device.state().kind === 'live')
  await device.until(() => titlesOf(device).includes('kept'))
  expect(device.cursor()).toBe(before)
})

it('shows on one device what was read and archived on another', async () => {
  const [phone, laptop] = [await openDevice('eva'), await openDevice('eva')]
  for (const title of ['first', 'second']) await send('eva', title)
  await laptop.until(() => titlesOf(laptop).length === 2)
  await phone.until(() => titlesOf(phone).length === 2)
  await phone.markRead([phone.inbox()[0]?.id ?? ''])
  await laptop.until(() => laptop.unread() === 1)
  await laptop.archive(laptop.inbox().find(({ title }) => title === 'first')?.id ?? '')
  await phone.until(() => titlesOf(phone).length === 1)
  expect([titlesOf(phone), phone.unread()]).toEqual([['second'], 0])
})

it('marks all as read', async () => {
  const device = await openDevice('fay')
  for (const title of ['first', 'second', 'third']) await send('fay', title)
  await device.until(() => titlesOf(device).length === 3)
  expect(await device.markAllRead()).toMatchObject({ op: 'ok' })
  await device.until(() => device.unread() === 0)
})

it('shows who is typing in a room, also after its connection was cut', async () => {
  const room = 'playground:lobby'
  const url = `${service.origin}/api/chat/internal/rooms/${room}/members`
  await fetch(url, {
    method: 'PUT',
    headers: { authorization: `Bearer ${serviceKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ add: ['gus', 'hal'] }),
  })
  const [gus, hal] = [await openDevice('gus'), await openDevice('hal')]
  for (const device of [gus, hal]) expect(await device.join(room)).toMatchObject({ op: 'ok' })
  hal.drop()
  const joinsOf = (device: Device) => device.frames().filter(({ op }) => op === 'join')
  await hal.until(() => joinsOf(hal).length === 2)
  const again = joinsOf(hal)[0]?.nth ?? 0
  await hal.until(() => hal.frames().some(({ op, nth }) => op === 'ok' && nth > again))
  await gus.typing(room, true)
  await hal.until(() => hal.typists().includes('gus'))
  await gus.typing(room, false)
  await hal.until(() => hal.typists().length === 0)
  const [last] = hal.frames().filter(({ kind }) => kind === 'volatile')
  expect(last).toMatchObject({ op: 'event', gist: `typing, ${room}, gus` })
})

it('knows nothing any more once somebody else uses it', async () => {
  const device = await openDevice('ida')
  await send('ida', 'private')
  await device.until(() => titlesOf(device).includes('private'))
  device.forget()
  expect([device.inbox(), device.frames(), device.unread(), device.mode(), device.rooms()]).toEqual([
    [],
    [],
    0,
    undefined,
    [],
  ])
})

it('keeps the last 200 frames', async () => {
  const device = await openDevice('jim')
  for (let nth = 0; nth < 4; nth++)
    await Promise.all(Array.from({ length: 50 }, () => device.typing('playground:nowhere', true)))
  expect(device.frames().length).toBeLessThanOrEqual(200)
})
