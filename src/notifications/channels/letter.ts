/** What an e-mail says: a notification as plain text, and as HTML in which nothing of it is markup. */
import { cutChars, oneLine } from '../cut.ts'
import type { Outgoing } from './channel.ts'

export interface Letter {
  subject: string
  text: string
  html: string
}

export interface LetterLinks {
  /** Where the app is: links that are paths lead into it, and without it nowhere. */
  baseUrl?: string | undefined
  /** Where people say what they want to be sent. */
  preferencesUrl?: string | undefined
}

/** Characters of a subject: mail programs show fewer. */
const subjectCharsMax = 150
const defaultAccent = '#3b6ef5'

export function letterOf({ title, body, color, action }: Outgoing, links: LetterLinks): Letter {
  // These two begin an encoded word, which a mail program would show decoded.
  const subject = cutChars(oneLine(title).replaceAll('=?', '= ?'), subjectCharsMax)
  const url = action === null ? undefined : linkOf(action.url, links.baseUrl)
  const label = oneLine(action?.label ?? 'Open')
  const accent = color !== null && /^#[0-9a-f]{6}$/i.test(color) ? color : defaultAccent
  const footer = 'You get this e-mail because your notifications go to this address.'
  const preferences = linkOf(links.preferencesUrl ?? '', undefined)

  const text = [
    subject,
    body.trim(),
    ...(url === undefined ? [] : [`${label}: ${url}`]),
    `-- \n${footer}${preferences === undefined ? '' : `\nChoose what you are sent: ${preferences}`}`,
  ]
  const html = [
    `<h1 style="font-size:20px;margin:0 0 16px;border-left:4px solid ${accent};padding-left:12px">${escape(subject)}</h1>`,
    ...paragraphsOf(body).map((paragraph) => `<p style="margin:0 0 16px">${paragraph}</p>`),
    ...(url === undefined
      ? []
      : [
          `<p style="margin:24px 0"><a href="${escape(url)}" style="background:${accent};color:#fff;padding:10px 18px;border-radius:6px;text-decoration:none">${escape(label)}</a></p>`,
        ]),
    `<p style="margin:32px 0 0;color:#667;font-size:12px">${footer}${
      preferences === undefined ? '' : ` <a href="${escape(preferences)}">Choose what you are sent</a>`
    }</p>`,
  ]
  return { subject, text: `${text.join('\n\n')}\n`, html: page(subject, html.join('\n')) }
}

/** @returns undefined for what is not http or https, or a path that leads out of the app. */
export function linkOf(url: string, baseUrl: string | undefined): string | undefined {
  const isPath = url.startsWith('/')
  const parsed = isPath ? URL.parse(url, baseUrl) : URL.parse(url)
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) return undefined
  if (isPath && parsed.origin !== URL.parse(baseUrl ?? '')?.origin) return undefined
  return parsed.href
}

/** A blank line ends a paragraph; other line breaks stay. */
const paragraphsOf = (body: string) =>
  body
    .trim()
    .split(/\r?\n(?:[ \t]*\r?\n)+/)
    .map((paragraph) => escape(paragraph).replace(/\r\n|\r|\n/g, '<br>\n'))

const page = (title: string, content: string) => `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${escape(title)}</title></head>
<body style="margin:0;padding:24px;background:#f5f6f8">
<div dir="auto" style="max-width:560px;margin:0 auto;padding:24px;background:#fff;border-radius:8px;font-family:sans-serif;line-height:1.5;color:#223">
${content}
</div>
</body>
</html>
`

const entities: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escape = (text: string) => text.replace(/[&<>"']/g, (char) => entities[char] ?? '')
