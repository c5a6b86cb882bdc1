/** A service with a free model, another one behind it, and one that costs; begun when its prices are known. */
import { expect } from 'vitest'
import type { Client } from './client.ts'
import { startService, type Service } from './service.ts'

export const first = 'maker/first:free'
export const second = 'maker/second:free'
export const paid = 'maker/paid'

export async function startPriced(
  env: Record<string, string> = {},
  upstreamModel = first,
): Promise<{ service: Service; ann: Client }> {
  const service = await startService({
    env: { FALLBACK_MODEL: second, EMERGENCY_FALLBACK_MODEL: paid, ...env },
    upstreamModel,
  })
  const ann = await service.as('ann')
  // Until the catalogue is read nobody knows that a model of this upstream costs anything; then it is called by its name.
  const priced = async () => {
    const { body } = await ann.get<{ models: { id: string; name: string }[] }>('/api/chat/models')
    return body.models.some(({ id, name }) => id !== name)
  }
  await expect.poll(priced, { timeout: 5_000 }).toBe(true)
  return { service, ann }
}
