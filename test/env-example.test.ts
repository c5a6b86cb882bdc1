/** .env.example shows every setting there is, no other, and each default as it is. */
import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { expect, test } from 'vitest'
import { loadConfig } from '../src/config.ts'

const source = readFileSync(new URL('../src/config.ts', import.meta.url), 'utf8')
const example = readFileSync(new URL('../.env.example', import.meta.url), 'utf8')
/** A default is a commented `NAME=value`; other comments are sentences, which no name begins. */
const uncommented = parseEnv(example.replaceAll(/^# (?=[A-Z_]+=)/gm, ''))

test('the names are those that config.ts reads', () => {
  const inSchema = names(/^ {4}([A-Z_]+):/gm)
  const older = names(/env\['([A-Z_]+)'\]/g)
  expect(inSchema.length).toBeGreaterThan(0)
  expect(Object.keys(uncommented).toSorted()).toEqual([...new Set([...inSchema, ...older])].toSorted())
})

test('every name stands there once', () => {
  const lines = [...example.matchAll(/^(?:# )?([A-Z_]+)=/gm)].map(([, name]) => name)
  expect(lines).toEqual([...new Set(lines)])
})

test('with every default spelled out it is the configuration of an empty environment', () => {
  expect(loadConfig(uncommented)).toEqual(loadConfig({}))
})

test('copied as it is, it is the configuration of an empty environment', () => {
  expect(loadConfig(parseEnv(example))).toEqual(loadConfig({}))
})

const names = (pattern: RegExp) => [...source.matchAll(pattern)].map(([, name]) => name)
