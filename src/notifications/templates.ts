/**
 * Door of notifications: what notifications say, by name. They are rendered once, when they are made, and stored.
 */
import { z } from 'zod'
import { AppError, type ErrorOptions } from '../errors.ts'
import type { Channel, NotificationType, Priority } from './kinds.ts'
import type { Rendered } from './template.ts'
import { templates } from './template-texts.ts'

export type { Rendered } from './template.ts'

/**
 * @param at where the variables stand in the request, for the error: `path` begins with it.
 * @throws AppError unknown_template, invalid_variables.
 */
export function renderTemplate(name: string, variables: unknown, at = 'variables'): Rendered {
  const template = byName.get(name)
  if (template === undefined)
    throw new AppError('unknown_template', {
      detail: 'There is no template of this name; GET …/notifications/templates lists them.',
      errors: [{ path: at.replace(/variables$/, 'template'), message: 'is not the name of a template' }],
    })
  const result = template.render(variables)
  if ('rendered' in result) return result.rendered
  throw new AppError('invalid_variables', {
    detail: `The variables are not those of the template ${template.name}.`,
    errors: result.issues.flatMap((issue) => errorsOf(issue, variables, at)).slice(0, errorsMax),
  })
}

/** What GET …/notifications/templates answers: everything that a sender has to know. */
export interface ListedTemplate {
  name: string
  type: NotificationType
  priority: Priority
  channels: readonly Channel[]
  title: string
  body: string
  /** JSON Schema. */
  variables: Record<string, unknown>
}

export const listTemplates = (): ListedTemplate[] =>
  templates.map(({ name, type, priority, channels, title, body, variables }) => {
    // What is given, not what becomes of it: a preview is cut by us.
    const {
      type: kind,
      properties,
      required,
      additionalProperties,
    } = z.toJSONSchema(variables, { io: 'input' })
    const schema = { type: kind, properties, required, additionalProperties }
    return { name, type, priority, channels, title, body, variables: schema }
  })

const byName = new Map(templates.map((template) => [template.name, template]))

/** Of an answer; a sender who has more of them wrong has the wrong template. */
const errorsMax = 20

function errorsOf(
  issue: z.core.$ZodIssue,
  variables: unknown,
  at: string,
): NonNullable<ErrorOptions['errors']> {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({ path: `${at}.${key}`, message: 'is no variable of this template' }))
  const [key] = issue.path
  const isObject = typeof variables === 'object' && variables !== null
  const missing = isObject && key !== undefined && !(key in variables)
  return [{ path: [at, ...issue.path].join('.'), message: missing ? 'is missing' : issue.message }]
}
