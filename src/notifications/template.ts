/**
 * One template: sentences with gaps, and what may fill them.
 *
 * `{{name}}` in a title or body is a variable's value, inserted once and as text: what a value says is never read as a
 * template again. Everything that a template needs is checked before anything is inserted.
 */
import { z } from 'zod'
import { text } from '../http/text.ts'
import { cutChars, oneLine } from './cut.ts'
import type { Channel, NotificationType, Priority } from './kinds.ts'

export interface Rendered {
  template: string
  type: NotificationType
  priority: Priority
  title: string
  body: string
  icon: string
  /** `#rrggbb`. */
  color: string
  channels: readonly Channel[]
  action: { type?: 'redirect'; label: string; url: string } | null
  data: Record<string, unknown>
  /** Percent; null: it says nothing about how far something is. */
  progress: number | null
}

export interface Template extends Omit<Rendered, 'template' | 'action' | 'data' | 'progress'> {
  name: string
  variables: z.ZodObject
  /** @returns zod's issues where the variables are not as they must be. */
  render(variables: unknown): { rendered: Rendered } | { issues: readonly z.core.$ZodIssue[] }
}

interface Definition<V extends z.ZodObject> extends Omit<Template, 'variables' | 'render'> {
  variables: V
  action?: (values: z.output<V>) => Rendered['action']
  data?: (values: z.output<V>) => Record<string, unknown>
  progress?: number
}

/** What a list shows without folding, and a lock screen at all. */
const titleCharsMax = 200
const bodyCharsMax = 2_000

export function defineTemplate<V extends z.ZodObject>(definition: Definition<V>): Template {
  const { action, data, progress = null, ...told } = definition
  const { name, variables, ...fixed } = told
  return {
    ...told,
    render(given) {
      const parsed = variables.safeParse(given)
      if (!parsed.success) return { issues: parsed.error.issues }
      const values = parsed.data
      return {
        rendered: {
          ...fixed,
          template: name,
          title: cutChars(oneLine(insert(fixed.title, values)), titleCharsMax),
          body: cutChars(insert(fixed.body, values), bodyCharsMax),
          action: action?.(values) ?? null,
          data: data?.(values) ?? {},
          progress,
        },
      }
    },
  }
}

const insert = (sentence: string, values: Record<string, unknown>) =>
  sentence.replace(/\{\{(\w+)\}\}/g, (_, name: string) => {
    const value = values[name]
    return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
  })

/** A variable: words, of so many characters at most. */
export const words = (charsMax: number, description: string) =>
  text(1, charsMax).meta({ description, minLength: 1, maxLength: charsMax })

/** A variable: the name of something, as its owner spells it. */
export const identifier = (description: string) => words(128, description)

const previewCharsMax = 100
/** What is looked at to make a preview: white space takes some of it. The whole may be a long answer. */
const previewedCharsMax = 400

/** A variable: a text of any length, of which the beginning is shown on one line. */
export const preview = (description: string) =>
  z
    .string()
    .meta({ description: `${description}; its first ${previewCharsMax} characters are shown.` })
    .transform((whole) => cutChars(oneLine(cutChars(whole.trimStart(), previewedCharsMax)), previewCharsMax))
    .pipe(text(1, previewCharsMax))

const urlCharsMax = 2_000

/** A variable: where a button leads. */
export const link = () =>
  text(1, urlCharsMax)
    .refine((url) => /^(https?:\/\/|\/(?![/\\]))/i.test(url), 'must be an http(s) URL, or a path')
    .meta({
      description: 'An http or https URL, or a path of the app.',
      minLength: 1,
      maxLength: urlCharsMax,
    })
