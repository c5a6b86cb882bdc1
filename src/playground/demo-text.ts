/** How the demo looks in a terminal. Plain where stdout is none, or NO_COLOR is set. */
import { styleText } from 'node:util'

export const style = (format: 'bold' | 'cyan' | 'green' | 'dim', text: string) =>
  styleText(format, text, { stream: process.stdout })

export const dim = (text: string) => style('dim', text)

export function heading(text: string): void {
  console.log(`\n${style('bold', text)}\n`)
}

/** @param since of `performance.now()`, which counts from the process's start. */
export const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`

/** One place for every 5 %: the four steps of an assessment are told apart at a glance. */
const barPlaces = 20

export function bar(percent: number): string {
  const full = Math.round((percent / 100) * barPlaces)
  return `${style('green', '█'.repeat(full))}${dim('░'.repeat(barPlaces - full))} ${String(percent).padStart(3)} %`
}
