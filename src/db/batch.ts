/**
 * A batch: statements that leave in one packet, with one Sync behind them. PostgreSQL runs them in order, each seeing
 * what those before it did, and skips the rest after the first that fails.
 *
 * The driver sends each statement with its own Describe and Sync, and makes an emitter, a result and a promise of it.
 * Here every statement is prepared once a connection, its columns are remembered, and the batch is answered as one.
 */
import pg from 'pg'
import type { Statement } from './sql.ts'

export interface Rows<T> {
  rows: T[]
  /** Rows returned or changed. */
  count: number
  /** What the server says that it did, such as SELECT. */
  command: string
}

export type Row = Record<string, unknown>

/** What the driver's connection offers to a query of one's own; its type declarations leave it out. */
interface Wire {
  parse(statement: { name: string; text: string }): void
  bind(statement: { statement: string; values: (string | null)[] }): void
  describe(portal: { type: 'P'; name: '' }): void
  execute(portal: Record<string, never>): void
  sync(): void
}

interface Field {
  name: string
  dataTypeID: number
}

interface Column {
  name: string
  read: (text: string) => unknown
}

/** A statement as one connection knows it. */
interface Prepared {
  /** Its first word and a number, such as `commit_2`. */
  name: string
  /** Undefined until it has been answered once. */
  columns: Column[] | undefined
}

/** What was prepared is gone (26000), or a migration has changed what it returns (0A000). */
const staleCodes: ReadonlySet<string> = new Set(['26000', '0A000'])

/** There are as many statements as the source has, give or take a filter. */
const preparedOn = new WeakMap<Wire, { byText: Map<string, Prepared>; names: number }>()

export type ReadColumn = (oid: number) => (text: string) => unknown

export class Batch extends pg.Query {
  readonly #statements: readonly Statement[]
  readonly #values: (string | null)[][]
  readonly #readColumn: ReadColumn
  readonly #settle: (error: Error | undefined, results: Rows<Row>[]) => void
  readonly #results: Rows<Row>[] = []
  readonly #prepared: Prepared[] = []
  #rows: Row[] = []
  #wire: Wire | undefined

  /** @throws where a parameter is nothing that can be sent: then nothing of the batch is. */
  constructor(
    statements: readonly Statement[],
    readColumn: ReadColumn,
    settle: (error: Error | undefined, results: Rows<Row>[]) => void,
  ) {
    super('')
    this.#statements = statements
    this.#values = statements.map(({ params }) => params.map(wireText))
    this.#readColumn = readColumn
    this.#settle = settle
  }

  override submit = (connection: unknown): void => {
    const wire = connection as Wire
    const known = preparedOn.get(wire) ?? { byText: new Map<string, Prepared>(), names: 0 }
    preparedOn.set(wire, known)
    this.#wire = wire
    for (const [index, { text }] of this.#statements.entries()) {
      let prepared = known.byText.get(text)
      if (prepared === undefined) {
        prepared = { name: `${/\w+/.exec(text)?.[0] ?? ''}_${known.names++}`, columns: undefined }
        known.byText.set(text, prepared)
        wire.parse({ name: prepared.name, text })
      }
      this.#prepared.push(prepared)
      wire.bind({ statement: prepared.name, values: this.#values[index] ?? [] })
      if (prepared.columns === undefined) wire.describe({ type: 'P', name: '' })
      wire.execute({})
    }
    wire.sync()
  }

  handleRowDescription({ fields }: { fields: Field[] }): void {
    const prepared = this.#prepared[this.#results.length]
    if (prepared !== undefined)
      prepared.columns = fields.map(({ name, dataTypeID }) => ({ name, read: this.#readColumn(dataTypeID) }))
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    const columns = this.#prepared[this.#results.length]?.columns ?? []
    const row: Row = {}
    for (let index = 0; index < columns.length; index++) {
      const column = columns[index] as Column
      const text = fields[index] ?? null
      row[column.name] = text === null ? null : column.read(text)
    }
    this.#rows.push(row)
  }

  handleCommandComplete({ text }: { text: string }): void {
    const prepared = this.#prepared[this.#results.length]
    // Nothing was described: it returns no rows.
    if (prepared !== undefined) prepared.columns ??= []
    const [command = '', ...numbers] = text.split(' ')
    this.#results.push({ rows: this.#rows, count: Number(numbers.at(-1)) || 0, command })
    this.#rows = []
  }

  handleEmptyQuery(): void {
    this.handleCommandComplete({ text: '' })
  }

  handleReadyForQuery(): void {
    this.#settle(undefined, this.#results)
  }

  handleError(error: Error): void {
    // What was not answered may or may not have been prepared: next time it gets another name.
    const known = this.#wire === undefined ? undefined : preparedOn.get(this.#wire)?.byText
    const stale = 'code' in error && typeof error.code === 'string' && staleCodes.has(error.code)
    for (const { text } of this.#statements.slice(this.#results.length))
      if (stale || known?.get(text)?.columns === undefined) known?.delete(text)
    this.#settle(error, [])
  }
}

/** A parameter in PostgreSQL's text form. JSON is passed as text, arrays hold what is no array. */
function wireText(value: unknown): string | null {
  switch (typeof value) {
    case 'string':
      return value
    case 'number':
    case 'bigint':
    case 'boolean':
      return String(value)
    default:
      if (value === null || value === undefined) return null
      if (Array.isArray(value)) return `{${value.map(arrayElement).join(',')}}`
      throw new TypeError('a parameter is text, a number, a boolean, null, or an array of these')
  }
}

function arrayElement(value: unknown): string {
  const text = wireText(value)
  return text === null ? 'NULL' : `"${text.replace(/["\\]/g, '\\$&')}"`
}
