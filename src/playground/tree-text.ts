/** A conversation's tree as lines of text. */
import type { Message } from '../messages/schemas.ts'

export interface TreeEntry {
  parent_id: string | null
  message: Message
}

/** Characters of a message that are shown. */
const shownCharsMax = 50

/** @param headId the current leaf, marked ●. */
export function printTree(title: string, entries: readonly TreeEntry[], headId: string | null): string {
  const below = Map.groupBy(entries, ({ parent_id }) => parent_id)

  function linesBelow(parentId: string | null, indent: string): string[] {
    const children = below.get(parentId) ?? []
    return children.flatMap(({ message }, index) => {
      const last = index === children.length - 1
      const mark = message.id === headId ? ' ●' : ''
      return [
        `${indent}${last ? '└─' : '├─'} ${message.sender_type}: ${beginning(message.content)} [${message.status}]${mark}`,
        ...linesBelow(message.id, `${indent}${last ? '   ' : '│  '}`),
      ]
    })
  }
  return [title, ...linesBelow(null, '')].join('\n')
}

function beginning(content: string): string {
  const characters = [...content.replaceAll(/\s+/g, ' ').trim()]
  return characters.slice(0, shownCharsMax).join('') + (characters.length > shownCharsMax ? '…' : '')
}
