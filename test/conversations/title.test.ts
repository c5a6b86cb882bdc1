import { expect, it } from 'vitest'
import { titleFrom } from '../../src/conversations/title.ts'

it.each([
  [
    'the first sentence of the question',
    'What could I become? I like trees.',
    'Many things.',
    'What could I become?',
  ],
  ['without Markdown', '## **Bold** plans for `me`\n\nmore', 'ok', 'Bold plans for me'],
  [
    'the answer, where the question says little',
    'Hi',
    'Hello Ann, how can I help you today? Ask away.',
    'Hello Ann, how can I help you today?',
  ],
  [
    'past a greeting',
    'Hi! Which jobs suit somebody who likes maps?',
    'x',
    'Hi! Which jobs suit somebody who likes maps?',
  ],
  ['the question, where there is no answer', 'Hi', '', 'Hi'],
  ['the default, where there is no text at all', '***', '', 'New Conversation'],
  [
    'cut at a word',
    'I would like to understand which careers could possibly fit somebody like me',
    '',
    'I would like to understand which careers could possibly fit…',
  ],
  ['cut between characters, never inside one', '😀'.repeat(100), '', `${'😀'.repeat(59)}…`],
  ['without a final full stop', 'Tell me about forestry.', '', 'Tell me about forestry'],
  ['on one line', 'first line\nsecond line', '', 'first line'],
])('is %s', (_, question, answer, title) => {
  expect(titleFrom(question, answer)).toBe(title)
})
