/** One run's figures, as ratios: below 1 this service takes less. */
import type { Row } from '../report.ts'
import { row } from './stage.ts'
import { rivulet, socketio, socketioReplaying } from './subjects.ts'

export function ratios(
  bytesPerSocket: ReadonlyMap<string, number>,
  cpuUsPerEvent: ReadonlyMap<string, number>,
  missing: ReadonlyMap<string, number>,
): Row[] {
  const by = (figures: ReadonlyMap<string, number>, prefix = '') =>
    ((figures.get(prefix + rivulet.name) ?? NaN) / (figures.get(prefix + socketio.name) ?? NaN)).toFixed(2)
  const hows = [...new Set([...cpuUsPerEvent.keys()].map((key) => key.replace(/ · [^·]*$/, '')))]
  return [
    row('rivulet / socket.io', 'ratios', {
      'memory per idle socket': by(bytesPerSocket),
      ...Object.fromEntries(
        hows.map((how) => [`server CPU per delivered event, ${how}`, by(cpuUsPerEvent, `${how} · `)]),
      ),
      'lost over kill -9': [rivulet, socketio, socketioReplaying]
        .map(({ name }) => `${missing.get(name) ?? NaN} (${name})`)
        .join(' · '),
    }),
  ]
}
