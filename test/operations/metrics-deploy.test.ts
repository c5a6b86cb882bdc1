/** What deploy/ and the README say about the metrics, against a service that runs. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { scrape, type Scrape } from '../support/metrics.ts'
import { startService, type Service } from '../support/service.ts'

const text = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

/** Of the OpenAPI page, which can speak YAML: nothing of ours needs a parser of its own. */
const parserOf = createRequire(createRequire(import.meta.url).resolve('@fastify/swagger'))
const { parse } = parserOf('yaml') as { parse: (yaml: string) => unknown }

const annotated = z.strictObject({ summary: z.string().min(10), runbook: z.string().min(20) })
const alert = z.strictObject({
  alert: z.string().regex(/^Rivulet\w+$/),
  expr: z.string(),
  for: z
    .string()
    .regex(/^\d+[smh]$/)
    .optional(),
  labels: z.strictObject({ severity: z.enum(['warning', 'critical']) }),
  annotations: annotated,
})
const rules = z.strictObject({
  groups: z.array(z.strictObject({ name: z.string(), rules: z.array(alert).min(1) })).min(1),
})
const panel = z.looseObject({
  id: z.int(),
  type: z.enum(['row', 'stat', 'timeseries']),
  title: z.string().min(1),
  gridPos: z.strictObject({ x: z.int(), y: z.int(), w: z.int(), h: z.int() }),
  targets: z.array(z.looseObject({ expr: z.string().min(1) })).default([]),
})
const dashboard = z.looseObject({ uid: z.string(), title: z.string(), panels: z.array(panel).min(10) })

const { groups } = rules.parse(parse(text('deploy/prometheus/alerts.yml')))
const alerts = groups.flatMap((group) => group.rules)
const { panels } = dashboard.parse(JSON.parse(text('deploy/grafana/rivulet.json')))

let service: Service
let scraped: Scrape

beforeAll(async () => {
  // A broker that is configured and away: what is known of it has its place all the same.
  service = await startService({ env: { RABBITMQ_URL: 'amqp://127.0.0.1:1' } })
  // Some of it is counted in the background, after the first look.
  scraped = await vi.waitFor(async () => {
    const seen = await scrape(service.origin)
    for (const name of ['conversations_active_total', 'rivulet_database_up'])
      expect(seen.value(name)).toBeDefined()
    return seen
  }, 12_000)
})
afterAll(() => service.close())

describe('every alert', () => {
  it('has a name of its own', () => {
    expect(new Set(alerts.map((rule) => rule.alert)).size).toBe(alerts.length)
  })

  it.each(alerts.map((rule) => [rule.alert, rule.expr] as const))(
    '%s looks at what is exported',
    (_, expr) => {
      // `up` is Prometheus's own.
      const used = metricsOf(expr).filter((name) => name !== 'up')
      expect(used.length + Number(expr.startsWith('up'))).toBeGreaterThan(0)
      expect(used.filter((name) => !scraped.names.has(name))).toEqual([])
    },
  )

  it.each(alerts.map((rule) => [rule.alert, rule.expr] as const))(
    '%s asks for labels that are there',
    (_, expr) => {
      for (const [name, label, value] of equalities(expr)) {
        const told = [...scraped.series.keys()].filter((key) => key.startsWith(`${name}{`))
        expect(told.some((key) => key.includes(`${label}="${value}"`))).toBe(true)
      }
    },
  )
})

describe('every panel', () => {
  const full = panels.filter(({ type }) => type !== 'row')

  it.each(full.map(({ id, title, targets }) => [id, title, targets] as const))(
    '%i, "%s", shows what is exported',
    (_id, _title, targets) => {
      expect(targets.length).toBeGreaterThan(0)
      for (const { expr } of targets) {
        const used = metricsOf(expr)
        expect(used.length).toBeGreaterThan(0)
        expect(used.filter((name) => !scraped.names.has(name))).toEqual([])
      }
    },
  )

  it('has an id and a place of its own', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const taken = new Set<string>()
    for (const { gridPos, title } of panels)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(taken.has(`${x} ${y}`), `${title} lies over another`).toBe(false)
          taken.add(`${x} ${y}`)
        }
  })
})

describe('the scrape example', () => {
  it('shows a key from a file at the route that there is, and loads the alerts', () => {
    expect(parse(text('deploy/prometheus/prometheus.yml'))).toMatchObject({
      rule_files: ['alerts.yml'],
      scrape_configs: [
        {
          job_name: 'rivulet',
          metrics_path: '/metrics',
          authorization: { type: 'Bearer', credentials_file: expect.stringMatching(/^\//) as string },
        },
      ],
    })
  })
})

describe("the README's table", () => {
  it('has every metric with its labels, and no other', () => {
    const section = /## Metrics\n([^]*?)\n## /.exec(text('README.md'))?.[1] ?? ''
    const listed = [...section.matchAll(/^\| `(.+?)` \|/gm)].flatMap(([, names = '']) => names.split('`, `'))
    const exported = [...scraped.text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name)
    const own = exported.filter((name) => !/^(process|nodejs)_/.test(name)).map(withLabels)
    expect(listed.toSorted()).toEqual(own.toSorted())
  })

  function withLabels(name: string): string {
    const key = [...scraped.series.keys()].find((line) => new RegExp(`^${name}(_count)?(\\{|$)`).test(line))
    const labels = [...(key ?? '').matchAll(/[{,](\w+)="/g)].map(([, label]) => label)
    return labels.length === 0 ? name : `${name}{${labels.join(',')}}`
  }
})

/** What is left of an expression without its strings, ranges, labels, functions and words. */
function metricsOf(expr: string): string[] {
  const bare = expr
    .replaceAll(/"(?:[^"\\]|\\.)*"/g, '')
    .replaceAll(/\{[^}]*\}|\[[^\]]*\]/g, ' ')
    .replaceAll(/\b(by|without|on|ignoring|group_left)\s*\([^)]*\)/g, ' ')
    .replaceAll(/\b[a-z_]+\s*\(/g, ' ')
  return [...new Set(bare.match(/\b[a-z_][a-z0-9_:]*\b/gi) ?? [])].filter(
    (word) => !/^(and|or|unless)$/.test(word),
  )
}

/** `name{label="value"}`, as triples. */
function equalities(expr: string): [name: string, label: string, value: string][] {
  return [...expr.matchAll(/\b(\w+)\{([^}]*)\}/g)]
    .filter(([, name]) => name !== 'up')
    .flatMap(([, name = '', inside = '']) =>
      [...inside.matchAll(/(\w+)="([^"]*)"/g)].map(
        ([, label = '', value = '']) => [name, label, value] as [string, string, string],
      ),
    )
}
