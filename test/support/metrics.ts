/** A scrape, as Prometheus would read it. */
import { expect } from 'vitest'
import { serviceKey } from './service.ts'

export interface Scrape {
  text: string
  tookMs: number
  /** All series, as `name{labels}` → value. */
  series: ReadonlyMap<string, number>
  /** The value of the one series with this name and at least these labels; undefined: there is none. */
  value: (name: string, labels?: Record<string, string>) => number | undefined
  /** Every name: of a histogram also those of its parts. */
  names: ReadonlySet<string>
}

export async function scrape(origin: string, key = serviceKey): Promise<Scrape> {
  const startedAtMs = performance.now()
  const response = await fetch(`${origin}/metrics`, { headers: { authorization: `Bearer ${key}` } })
  const text = await response.text()
  const tookMs = performance.now() - startedAtMs
  expect({ status: response.status, text }).toMatchObject({ status: 200 })
  return { ...readExposition(text), tookMs }
}

export function readExposition(text: string): Omit<Scrape, 'tookMs'> {
  const series = new Map<string, number>()
  const names = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name))
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const [, name = '', value] = /^(.+) (\S+)$/.exec(line) ?? []
    expect(series.has(name), `${name} is told twice`).toBe(false)
    series.set(name, Number(value))
    names.add(name.replace(/\{.*/s, ''))
  }
  return {
    text,
    series,
    names,
    value(name, labels = {}) {
      const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
      const found = [...series].filter(
        ([key]) => key.replace(/\{.*/s, '') === name && wanted.every((label) => key.includes(label)),
      )
      expect(found.length, `series of ${name}`).toBeLessThan(2)
      return found[0]?.[1]
    },
  }
}
