/** The part of the DOM that the page uses, as types alone. The DOM's own types would be seen by all of the server's code. */

export interface Element {
  textContent: string | null
  hidden: boolean
  value: string
  disabled: boolean
  checked: boolean
  readonly dataset: Record<string, string | undefined>
  /** Of a template. */
  readonly content: Element
  readonly firstElementChild: Element | null
  readonly lastElementChild: Element | null
  readonly nextElementSibling: Element | null
  readonly childElementCount: number
  querySelector(selector: string): Element | null
  cloneNode(deep: true): Element
  append(...nodes: Element[]): void
  prepend(...nodes: Element[]): void
  before(...nodes: Element[]): void
  remove(): void
  getAttribute(name: string): string | null
  setAttribute(name: string, value: string): void
  addEventListener(type: string, listener: (event: { preventDefault(): void }) => void): void
}

export interface Page {
  readonly documentElement: Element
  querySelector(selector: string): Element | null
}
