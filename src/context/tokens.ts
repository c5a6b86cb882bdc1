/** How many tokens a text has, about: one for four bytes of UTF-8, the usual rule of thumb. An estimate, and called so. */
export const bytesPerToken = 4

export const estimateTokens = (text: string): number => Math.ceil(Buffer.byteLength(text) / bytesPerToken)
