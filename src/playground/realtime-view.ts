/** Draws one device: each part of its pane by what the device says now. Runs in the browser. */
import type { Notification } from '../notifications/schemas.ts'
import type { ClientState } from './client/realtime.ts'
import type { Device, FrameEntry } from './realtime-device.ts'
import type { Element } from './realtime-dom.ts'

export interface View {
  pane: Element
  part: (name: string) => Element
  draw(device: Device): void
}

export interface ViewActions {
  read(id: string): void
  archive(id: string): void
}

/** @param fresh makes what a template of the page holds. */
export function createView(fresh: (template: string) => Element, name: string, actions: ViewActions): View {
  const pane = fresh('device')
  const part = (named: string) => find(pane, `[data-part="${named}"]`)
  const rowsById = new Map<string, Element>()
  let drawnNth = 0
  part('name').textContent = name

  function draw(device: Device): void {
    drawState(device)
    drawRows(device.inbox())
    drawFrames(device.frames())
    drawRoom(device)
  }

  function drawState(device: Device): void {
    const state = device.state()
    const pill = part('state')
    set(pill, wordsOf(state))
    pill.dataset['kind'] = state.kind
    pill.dataset['final'] = String(state.kind === 'stopped' && device.counts().connections > 0)
    const unread = device.unread()
    const badge = part('unread')
    set(badge, String(unread))
    badge.dataset['any'] = String(unread > 0)
    badge.setAttribute('aria-label', `${unread} unread`)
    const stopped = state.kind === 'stopped'
    const connected = state.kind === 'live' || state.kind === 'replaying'
    set(part('connect'), stopped ? 'Connect' : 'Disconnect')
    for (const named of ['drop', 'read-all', 'join']) allow(part(named), connected)
    for (const named of ['offline', 'fresh', 'reset']) allow(part(named), !stopped && !device.offline())
    set(part('cursor'), device.cursor() ?? 'none')
    set(part('mode'), device.mode() ?? '–')
    const { replayed, connections } = device.counts()
    set(part('replayed'), String(replayed))
    set(part('connections'), String(connections))
  }

  function drawRows(rows: readonly Notification[]): void {
    const list = part('rows')
    const ids = new Set(rows.map(({ id }) => id))
    for (const [id, row] of rowsById)
      if (!ids.has(id)) {
        row.remove()
        rowsById.delete(id)
      }
    // Moved only where its place is another one: what has the focus keeps it.
    let at = list.firstElementChild
    for (const notification of rows) {
      const row = rowsById.get(notification.id) ?? freshRow(notification.id)
      drawRow(row, notification)
      if (row === at) at = at.nextElementSibling
      else if (at === null) list.append(row)
      else at.before(row)
    }
    part('no-rows').hidden = rows.length > 0
  }

  function freshRow(id: string): Element {
    const row = fresh('row')
    rowsById.set(id, row)
    onClick(find(row, '[data-part="read"]'), () => actions.read(id))
    onClick(find(row, '[data-part="archive"]'), () => actions.archive(id))
    return row
  }

  function drawFrames(frames: readonly FrameEntry[]): void {
    const list = part('frames')
    const shown = frames[0]?.nth ?? 0
    for (const frame of frames.filter(({ nth }) => nth > drawnNth).reverse()) list.prepend(frameOf(frame))
    drawnNth = Math.max(drawnNth, shown)
    while (list.childElementCount > frames.length) list.lastElementChild?.remove()
  }

  function frameOf(entry: FrameEntry): Element {
    const line = fresh('frame')
    const { kind, op, replayed, direction } = entry
    Object.assign(line.dataset, { op, replayed: String(replayed) })
    line.setAttribute('class', `frame ${kind}`)
    const partOf = (named: string) => find(line, `[data-part="${named}"]`)
    set(partOf('time'), new Date(entry.atMs).toISOString().slice(11, 23))
    set(partOf('arrow'), direction === 'in' ? '↓' : '↑')
    partOf('arrow').setAttribute('aria-label', direction === 'in' ? 'from the server' : 'to the server')
    set(partOf('op'), op)
    set(partOf('gist'), entry.gist)
    partOf('replayed').hidden = !replayed
    set(partOf('json'), JSON.stringify(entry.frame, null, 2))
    return line
  }

  function drawRoom(device: Device): void {
    const joined = device.rooms().length > 0
    set(part('join'), joined ? 'Leave' : 'Join')
    part('typing-field').hidden = !joined
    find(part('room'), 'input').disabled = joined
    const there = device.present().map(({ userId, state }) => `${userId} is ${state}`)
    const typing = device.typists().map((userId) => `${userId} is typing …`)
    set(part('room-news'), [...there, ...typing].join(' · '))
  }

  return { pane, part, draw }
}

/** @throws Error where the page has none such: it and its scripts belong together. */
export function find(within: Pick<Element, 'querySelector'>, selector: string): Element {
  const found = within.querySelector(selector)
  if (found === null) throw new Error(`this page has no ${selector}`)
  return found
}

/** Not `disabled`, which would take the focus from whoever has just pressed it. */
function allow(button: Element, allowed: boolean): void {
  button.setAttribute('aria-disabled', String(!allowed))
}

export const isAllowed = (button: Element): boolean => button.getAttribute('aria-disabled') !== 'true'

export function onClick(button: Element, act: () => void): void {
  button.addEventListener('click', () => {
    if (isAllowed(button)) act()
  })
}

/** A screen reader is told of a text that is set, even to the same. */
function set(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

function drawRow(row: Element, notification: Notification): void {
  const partOf = (named: string) => find(row, `[data-part="${named}"]`)
  const isRead = notification.read_at !== null
  row.dataset['read'] = String(isRead)
  set(partOf('title'), notification.title)
  set(partOf('type'), notification.type)
  set(partOf('priority'), notification.priority)
  partOf('priority').dataset['priority'] = notification.priority
  set(partOf('body'), notification.body)
  partOf('body').hidden = notification.body === ''
  partOf('progress').hidden = notification.progress === null
  partOf('progress').value = String(notification.progress ?? 0)
  partOf('progress').setAttribute('aria-label', `${notification.progress ?? 0} %`)
  set(partOf('seq'), `#${notification.seq ?? ''}${isRead ? ', read' : ''}`)
  allow(partOf('read'), !isRead)
  for (const named of ['read', 'archive'])
    partOf(named).setAttribute('aria-label', `${named}: ${notification.title}`)
}

function wordsOf(state: ClientState): string {
  switch (state.kind) {
    case 'waiting':
      return `${state.why}: back in ${(state.delayMs / 1_000).toFixed(1)} s`
    case 'stopped':
      return state.why
    case 'connecting':
    case 'replaying':
    case 'live':
    case 'offline':
      return state.kind
  }
}
