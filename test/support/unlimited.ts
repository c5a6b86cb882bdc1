/** Tests ask more often than people do: no limit unless a test is about one. */
export const unlimited = {
  RATE_LIMIT_MESSAGES_PER_HOUR: '0',
  RATE_LIMIT_CONVERSATIONS_PER_DAY: '0',
  RATE_LIMIT_FREE_GENERATIONS_PER_MINUTE: '0',
  RATE_LIMIT_TICKETS_PER_MINUTE: '0',
  RATE_LIMIT_BAD_TOKENS_PER_MINUTE: '0',
}
