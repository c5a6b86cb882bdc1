/** Tokens that tell when they were written: `#` and 8 digits of base 36, µs of the machine's monotonic clock. */
const digits = 8
const wrap = 36 ** digits

export const tokenAt = (us: number): string =>
  `#${Math.floor(us % wrap)
    .toString(36)
    .padStart(digits, '0')}`

/** Finds tokens in a text that arrives in pieces, whatever stands around them. @param onToken gets its µs. */
export function createTokenReader(onToken: (us: number) => void): (text: string) => void {
  let rest = ''
  return (piece) => {
    const text = rest + piece
    let at = text.indexOf('#')
    while (at !== -1 && at + digits < text.length) {
      onToken(Number.parseInt(text.slice(at + 1, at + 1 + digits), 36))
      at = text.indexOf('#', at + 1 + digits)
    }
    rest = at === -1 ? '' : text.slice(at)
  }
}
