/** The page: devices in panes, and a form that sends. Runs in the browser. */
import type { Notification } from '../notifications/schemas.ts'
import type { RealtimeOptions } from './client/realtime.ts'
import { createDevice, type Device } from './realtime-device.ts'
import type { Element, Page } from './realtime-dom.ts'
import { createView, find, isAllowed, onClick, type View } from './realtime-view.ts'

declare const document: Page
declare const location: { origin: string }
declare const requestAnimationFrame: (draw: () => void) => number
declare const WebSocket: RealtimeOptions['WebSocket']

const { api: apiPath = '', tokens } = document.documentElement.dataset
const api = `${location.origin}${apiPath}`
const mintsTokens = tokens === 'minted'
const firstUser = 'ann'
const offlineS = 10
/** While somebody types it is said again after so long, ms: the server lets it run out after 6 s. */
const typingAgainMs = 3_000
const devicesMax = 4

const minted = new Map<string, string>()

async function tokenOf(user: string, renew: boolean): Promise<string> {
  if (!mintsTokens) return find(document, '#token').value.trim()
  const known = minted.get(user)
  if (known !== undefined && !renew) return known
  const { token } = (await post('/playground/token', { sub: user })) as { token: string }
  minted.set(user, token)
  return token
}

/** @throws Error in the server's words. */
async function post(path: string, body: object, token?: string): Promise<unknown> {
  const response = await fetch(path, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify(body),
  })
  if (response.status === 204) return undefined
  const answer = (await response.json()) as { title?: string; detail?: string }
  if (!response.ok) throw new Error(answer.detail ?? answer.title)
  return answer
}

function fresh(template: string): Element {
  const made = find(document, `#${template}`).content.cloneNode(true).firstElementChild
  if (made === null) throw new Error(`the template ${template} is empty`)
  return made
}

const devices: Device[] = []

function addDevice(): void {
  const name = `Device ${String.fromCharCode(65 + devices.length)}`
  let drawing = false
  const view: View = createView(fresh, name, {
    read: (id) => void device.markRead([id]),
    archive: (id) => void device.archive(id),
  })
  const user = find(view.part('person'), 'input')
  user.value = mintsTokens ? firstUser : 'as the token says'
  user.disabled = !mintsTokens
  const redraw = () => {
    if (drawing) return
    drawing = true
    requestAnimationFrame(() => {
      drawing = false
      view.draw(device)
    })
  }
  const device = createDevice({
    api,
    token: ({ renew }) => tokenOf(user.value.trim(), renew),
    fetch: (url, init) => fetch(url, init),
    WebSocket,
    changed: redraw,
  })
  listen(view, device, user)
  find(document, '#devices').append(view.pane)
  // Typing that runs out is no frame.
  setInterval(redraw, 1_000)
  redraw()
  if (mintsTokens) device.connect()
  devices.push(device)
  find(document, '#add-device').disabled = devices.length >= devicesMax
}

function listen(view: View, device: Device, user: Element): void {
  const { part } = view
  let connectedAs = user.value

  part('person').addEventListener('submit', (event) => {
    event.preventDefault()
    if (device.state().kind === 'stopped') {
      // Another person's inbox is another log.
      if (user.value !== connectedAs) device.forget()
      connectedAs = user.value
      device.connect()
    } else device.disconnect()
  })
  user.addEventListener('change', () => {
    if (user.value === connectedAs || user.value.trim() === '') return
    connectedAs = user.value
    device.forget()
    device.connect()
  })
  onClick(part('drop'), () => device.drop())
  onClick(part('offline'), () => beOffline(part('offline'), device))
  onClick(part('fresh'), () => device.comeBackWith(null))
  onClick(part('reset'), () => device.comeBackWith('elsewhere.1'))
  onClick(part('read-all'), () => void device.markAllRead())
  onClick(part('clear'), () => device.clearFrames())
  const quiet = part('quiet')
  const hush = () => (part('frames').dataset['quiet'] = String(quiet.checked))
  quiet.addEventListener('change', hush)
  hush()
  listenToRoom(view, device, user)
}

function beOffline(button: Element, device: Device): void {
  const words = button.textContent
  let leftS = offlineS
  const count = () => {
    button.textContent = `Offline: ${leftS} s left`
  }
  device.setOnline(false)
  count()
  const timer = setInterval(() => {
    leftS--
    count()
    if (leftS > 0) return
    clearInterval(timer)
    button.textContent = words
    device.setOnline(true)
  }, 1_000)
}

function listenToRoom({ part }: View, device: Device, user: Element): void {
  const name = find(part('room'), 'input')
  const input = part('typing')
  const joined = () => device.rooms()[0]
  let saidAtMs = 0

  async function toggle(): Promise<void> {
    const left = joined()
    if (left !== undefined) {
      await device.leave(left)
      return
    }
    const room = name.value.trim()
    if (mintsTokens && room.startsWith('playground:'))
      await post('/playground/room', { room }, await tokenOf(user.value.trim(), false))
    const answer = await device.join(room)
    if (answer.op === 'error') throw new Error(answer.message)
  }

  part('room').addEventListener('submit', (event) => {
    event.preventDefault()
    if (!isAllowed(part('join'))) return
    toggle().catch((error: unknown) => (part('room-news').textContent = String(error)))
  })
  input.addEventListener('input', () => {
    const room = joined()
    if (room === undefined) return
    const typing = input.value !== ''
    if (typing && performance.now() - saidAtMs < typingAgainMs) return
    saidAtMs = typing ? performance.now() : 0
    void device.typing(room, typing)
  })
}

function listenToForm(): void {
  const form = find(document, '#send')
  const field = (name: string) => find(form, `[name="${name}"]`)
  const sent = find(document, '#sent')
  const isProgress = () => field('type').value === 'assessment_progress'

  function drawProgress(): void {
    find(document, '#progress-field').hidden = !isProgress()
    find(document, '#progress-shown').textContent = `${field('progress').value} %`
  }
  field('type').addEventListener('change', drawProgress)
  field('progress').addEventListener('input', drawProgress)
  drawProgress()

  async function send(times: number): Promise<void> {
    const to = field('to').value.trim()
    const token = await tokenOf(to, false)
    const outcomes: string[] = []
    for (let nth = 1; nth <= times; nth++) {
      const title = times === 1 ? field('title').value : `${field('title').value} (${nth})`
      const body = { title, type: field('type').value, priority: field('priority').value, ...moreOf() }
      const { outcome } = (await post('/playground/notify', body, token)) as { outcome: string }
      outcomes.push(outcome)
    }
    sent.textContent = times === 1 ? (outcomes[0] ?? '') : `${outcomes.length} sent`
  }

  function moreOf(): object {
    const delay = field('delay').value
    const progress = Number(field('progress').value)
    return {
      ...(delay !== '' && { delay_s: Number(delay) }),
      ...(isProgress() && {
        progress,
        dedupe_key: 'assessment:playground',
        data: { assessment_id: 'playground', progress } satisfies Notification['data'],
      }),
    }
  }

  const attempt = (times: number) => {
    sent.textContent = ''
    send(times).catch((error: unknown) => (sent.textContent = String(error)))
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    attempt(1)
  })
  find(document, '#send-many').addEventListener('click', () => attempt(20))
}

function listenToToken(): void {
  find(document, '#pasted').addEventListener('submit', (event) => {
    event.preventDefault()
    // It may be another person's.
    for (const device of devices) {
      device.forget()
      device.connect()
    }
  })
}

find(document, mintsTokens ? '#send' : '#pasted').hidden = false
if (mintsTokens) listenToForm()
else listenToToken()
find(document, '#add-device').addEventListener('click', addDevice)
addDevice()
addDevice()
