/**
 * Text that can always be stored and sent: no NUL, no half of a surrogate pair.
 *
 * A pair may arrive as two pieces; the first half waits for the second. Half a pair that stays alone becomes
 * U+FFFD, as PostgreSQL and every browser would make it.
 */
export function createTextCleaner(emit: (text: string) => void): { push(piece: string): void; end(): void } {
  let held = ''
  return {
    push(piece) {
      let text = held === '' ? piece : held + piece
      held = ''
      const last = text.charCodeAt(text.length - 1)
      if (last >= 0xd800 && last <= 0xdbff) {
        held = text.slice(-1)
        text = text.slice(0, -1)
      }
      text = cleanText(text)
      if (text !== '') emit(text)
    },
    end() {
      if (held !== '') emit('\ufffd')
      held = ''
    },
  }
}

export function cleanText(text: string): string {
  const whole = text.isWellFormed() ? text : text.toWellFormed()
  return whole.includes('\0') ? whole.replaceAll('\0', '') : whole
}
