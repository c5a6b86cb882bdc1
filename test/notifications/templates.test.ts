/** Templates: what they say, with what, and what is wrong with variables that are not theirs. */
import { describe, expect, it } from 'vitest'
import { AppError } from '../../src/errors.ts'
import { channels, notificationTypes, priorities } from '../../src/notifications/kinds.ts'
import { listTemplates, renderTemplate } from '../../src/notifications/templates.ts'

const listed = listTemplates()

interface Schema {
  properties: Record<string, { description?: string }>
  required?: string[]
  additionalProperties: boolean
}
const schemaOf = (name: string) =>
  listed.find((template) => template.name === name)?.variables as unknown as Schema

/** A value for each variable that a template must have. */
const enough = (name: string) =>
  Object.fromEntries((schemaOf(name).required ?? []).map((variable) => [variable, `<${variable}>`]))

const message = { conversation_id: 'c 1', message_id: 'm1', sender_name: 'Ben', message_preview: 'Hello' }

function errorOf(name: string, variables: unknown, at?: string): AppError {
  try {
    renderTemplate(name, variables, at)
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  }
  throw new Error('it was rendered')
}

describe('the registry', () => {
  it('has something to say for every type, and each name once', () => {
    expect(new Set(listed.map(({ type }) => type))).toEqual(new Set(notificationTypes))
    expect(new Set(listed.map(({ name }) => name)).size).toBe(listed.length)
  })

  it.each(listed.map((template) => [template.name, template] as const))(
    '%s is complete, and inserts nothing that may be missing',
    (name, { priority, channels: ways, title, body }) => {
      expect(priorities).toContain(priority)
      expect(ways[0]).toBe('in_app')
      expect(channels).toEqual(expect.arrayContaining([...ways]))
      const { required = [], properties, additionalProperties } = schemaOf(name)
      const gaps = [...`${title} ${body}`.matchAll(/\{\{(.*?)\}\}/g)].map(([, gap]) => gap)
      expect(required).toEqual(expect.arrayContaining(gaps))
      expect(additionalProperties).toBe(false)
      for (const { description } of Object.values(properties)) expect(description).toMatch(/\.$/)
      const rendered = renderTemplate(name, enough(name))
      expect(rendered).toMatchObject({ template: name, priority, channels: ways })
      expect(rendered.title + rendered.body).not.toMatch(/\{\{|\}\}|undefined/)
      expect(rendered.color).toMatch(/^#[0-9a-f]{6}$/)
      expect(rendered.icon).toMatch(/^[a-z]+$/)
    },
  )

  it('is JSON, with variables as JSON Schema', () => {
    expect(JSON.parse(JSON.stringify(listed))).toEqual(listed)
    expect(listed.find(({ name }) => name === 'reminder')).toEqual({
      name: 'reminder',
      type: 'reminder',
      priority: 'medium',
      channels: ['in_app', 'web_push', 'email'],
      title: 'A reminder: {{subject}}',
      body: '{{note}}',
      variables: {
        type: 'object',
        properties: {
          subject: { type: 'string', description: 'What not to forget.', minLength: 1, maxLength: 120 },
          note: {
            type: 'string',
            description: 'What there is to know about it.',
            minLength: 1,
            maxLength: 1_000,
          },
          url: {
            type: 'string',
            description: 'An http or https URL, or a path of the app.',
            minLength: 1,
            maxLength: 2_000,
          },
        },
        required: ['subject', 'note'],
        additionalProperties: false,
      },
    })
  })
})

describe('rendering', () => {
  it('gives everything that is stored', () => {
    expect(renderTemplate('chat_message', message)).toEqual({
      template: 'chat_message',
      type: 'chat_message',
      priority: 'high',
      title: 'Ben wrote to you',
      body: 'Hello',
      icon: 'chat',
      color: '#3b6ef5',
      channels: ['in_app', 'web_push', 'webhook'],
      action: { label: 'Read and reply', url: '/conversations/c%201' },
      data: message,
      progress: null,
    })
  })

  it('moves an assessment forward: each step says how far it is', () => {
    const steps = ['assessment_submitted', 'analysis_started', 'analysis_complete', 'chatbot_ready']
    const rendered = steps.map((name) => renderTemplate(name, { assessment_id: 'a1' }))
    expect(rendered.map(({ progress }) => progress)).toEqual([25, 50, 75, 100])
    expect(rendered.map(({ data }) => data)).toEqual(
      steps.map((stage, nth) => ({ stage, progress: 25 * (nth + 1), assessment_id: 'a1' })),
    )
    expect(rendered.at(-1)?.action?.url).toBe('/assessment/a1/results')
  })

  it('does not move an assessment that failed', () => {
    const { progress, data } = renderTemplate('analysis_failed', { assessment_id: 'a1' })
    expect(progress).toBeNull()
    expect(data).toEqual({ stage: 'analysis_failed', assessment_id: 'a1' })
  })

  it('inserts values as text, once: what they say is no template', () => {
    const values = { sender_name: '{{message_preview}} $& $1', message_preview: '{{sender_name}}' }
    expect(renderTemplate('chat_message', { ...message, ...values })).toMatchObject({
      title: '{{message_preview}} $& $1 wrote to you',
      body: '{{sender_name}}',
    })
  })

  it.each([
    ['x'.repeat(100), 'x'.repeat(100)],
    ['x'.repeat(101), `${'x'.repeat(99)}…`],
    ['🎉'.repeat(100), '🎉'.repeat(100)],
    ['🎉'.repeat(4_000_000 / 40), `${'🎉'.repeat(99)}…`],
    ['  two\r\n\r\nlines\t', 'two lines'],
  ])('previews a message in 100 characters on one line', (given, expected) => {
    const { body, data } = renderTemplate('chat_message', { ...message, message_preview: given })
    expect(body).toBe(expected)
    expect(data['message_preview']).toBe(expected)
  })

  it('keeps a title on one line', () => {
    const { title } = renderTemplate('announcement', { headline: 'One\r\nBcc: two', text: 'One\ntwo' })
    expect(title).toBe('One Bcc: two')
  })

  it.each(['https://example.com/a', 'http://example.com', '/assessment/1'])('leads to %s', (url) => {
    const { action } = renderTemplate('reminder', { subject: 's', note: 'n', url })
    expect(action).toEqual({ label: 'Open', url })
  })
})

describe('what is not as it must be', () => {
  it('is 422: a name that no template has', () => {
    for (const name of ['', 'nothing', 'constructor', '__proto__'])
      expect(errorOf(name, {})).toMatchObject({
        code: 'unknown_template',
        status: 422,
        errors: [{ path: 'template', message: 'is not the name of a template' }],
      })
  })

  it('is 422: each variable that is missing, wrong or too much, by its path', () => {
    const variables = { conversation_id: 7, sender_name: '', message_preview: 'x', extra: 1 }
    const error = errorOf('chat_message', variables)
    expect(error).toMatchObject({ code: 'invalid_variables', status: 422, retryable: false })
    expect(error.errors?.toSorted((a, b) => (a.path < b.path ? -1 : 1))).toEqual([
      { path: 'variables.conversation_id', message: 'Invalid input: expected string, received number' },
      { path: 'variables.extra', message: 'is no variable of this template' },
      { path: 'variables.message_id', message: 'is missing' },
      { path: 'variables.sender_name', message: 'must have 1 to 100 characters' },
    ])
  })

  it.each([null, undefined, 7, 'x', []])('is 422: variables that are %j', (variables) => {
    expect(errorOf('chat_message', variables)).toMatchObject({
      code: 'invalid_variables',
      errors: [{ path: 'variables' }],
    })
  })

  it('is named where it stands in the request', () => {
    expect(errorOf('reminder', {}, 'notifications.3.variables').errors?.[0]?.path).toBe(
      'notifications.3.variables.subject',
    )
    expect(errorOf('nothing', {}, 'notifications.3.variables').errors?.[0]?.path).toBe(
      'notifications.3.template',
    )
  })

  it('is at most twenty things', () => {
    const many = Object.fromEntries(Array.from({ length: 1_000 }, (_, nth) => [`v${nth}`, nth]))
    expect(errorOf('reminder', many).errors).toHaveLength(20)
  })

  it.each([
    'javascript:alert(1)',
    'data:text/html,x',
    '//elsewhere.example',
    '/\\elsewhere.example',
    'x',
    '',
  ])('is a link to %j', (url) => {
    const error = errorOf('reminder', { subject: 's', note: 'n', url })
    expect(error.errors?.[0]?.path).toBe('variables.url')
  })

  it.each(['\0', '\ud800', ' ', 'x'.repeat(121)])('is what cannot be stored or read: %j', (subject) => {
    expect(errorOf('reminder', { subject, note: 'n' }).errors?.[0]?.path).toBe('variables.subject')
  })
})
