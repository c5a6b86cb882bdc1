/** The URLs that answers point to, under the base path that a gateway proxies. */
export interface Links {
  conversation(conversationId: string): string
  message(conversationId: string, messageId: string): string
  /** Where a message's generation is watched and resumed. */
  stream(conversationId: string, messageId: string): string
  /** Where the inbox is followed: as a WebSocket, and as events. */
  socket: string
  inboxStream: string
}

export function createLinks(basePath: string): Links {
  const conversation = (conversationId: string) => `${basePath}/conversations/${conversationId}`
  const message = (conversationId: string, messageId: string) =>
    `${conversation(conversationId)}/messages/${messageId}`
  return {
    conversation,
    message,
    stream: (conversationId, messageId) => `${message(conversationId, messageId)}/stream`,
    socket: `${basePath}/ws`,
    inboxStream: `${basePath}/notifications/stream`,
  }
}
