import { describe, expect, it } from 'vitest'
import { print, sql } from '../../src/db/sql.ts'

describe('a statement', () => {
  it.each([
    ['nothing interpolated', sql`select 1`, 'select 1', []],
    ['parameters in the order of their coming', sql`select ${'a'}, ${2}`, 'select $1, $2', ['a', 2]],
    ['a parameter at each end', sql`${1}${null}`, '$1$2', [1, null]],
    ['SQL inside of SQL', sql`a ${sql`b ${1} ${sql`c ${2}`}`} d ${3}`, 'a b $1 c $2 d $3', [1, 2, 3]],
    ['an array as one parameter', sql`any(${['a', 'b']}::text[])`, 'any($1::text[])', [['a', 'b']]],
    ['nothing', sql`a${sql.empty()}b`, 'ab', []],
    ['text that stands as it is', sql`a ${sql.raw(`'x'`)} b`, "a 'x' b", []],
    ['parts joined', sql`(${sql.join([sql`${1}`, sql`b`, sql`${3}`], sql`, `)})`, '($1, b, $2)', [1, 3]],
    ['one part joined', sql`(${sql.join([sql`${1}`], sql`, `)})`, '($1)', [1]],
    ['no part joined', sql`(${sql.join([], sql`, `)})`, '()', []],
  ])('prints %s', (_what, query, text, params) => {
    expect(print(query)).toEqual({ text, params })
  })

  it('never prints what was interpolated: it is a parameter, whatever it says', () => {
    expect(print(sql`select ${`'; drop table chat.messages; --`}`)).toEqual({
      text: 'select $1',
      params: [`'; drop table chat.messages; --`],
    })
  })
})
