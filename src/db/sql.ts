/**
 * Door of db, for queries: SQL as a template. What is interpolated is a parameter, or a part of the statement where
 * it is SQL itself.
 *
 * Drizzle's own template does more (identifiers, columns, encoders), and took 13 % of a turn's CPU to print what these
 * few lines print; measured with `npm run bench -- --only burst --profile`.
 */

/** A part of a statement, or all of it. */
export class SQL {
  readonly strings: readonly string[]
  readonly values: readonly unknown[]

  constructor(strings: readonly string[], values: readonly unknown[]) {
    this.strings = strings
    this.values = values
  }
}

/** Parameters are text, numbers, booleans, null, and arrays of these: an array is one parameter. */
export function sql(strings: TemplateStringsArray, ...values: unknown[]): SQL {
  return new SQL(strings, values)
}

const nothing = new SQL([''], [])

sql.empty = (): SQL => nothing

/** Text that is SQL as it stands: never anything that came from outside. */
sql.raw = (text: string): SQL => new SQL([text], [])

sql.join = (parts: readonly SQL[], separator: SQL): SQL =>
  new SQL(
    ['', ...Array.from({ length: Math.max(parts.length * 2 - 1, 0) }, () => '')],
    parts.flatMap((part, index) => (index === 0 ? [part] : [separator, part])),
  )

export interface Statement {
  text: string
  params: readonly unknown[]
}

/** The statement as the wire has it: parameters numbered in the order of their coming. */
export function print(query: SQL): Statement {
  const params: unknown[] = []
  return { text: printPart(query, params), params }
}

function printPart({ strings, values }: SQL, params: unknown[]): string {
  let text = strings[0] ?? ''
  for (let index = 0; index < values.length; index++) {
    const value = values[index]
    text += value instanceof SQL ? printPart(value, params) : `$${params.push(value)}`
    text += strings[index + 1] ?? ''
  }
  return text
}
