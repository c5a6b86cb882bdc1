/**
 * 405 with `Allow`, for a URL that has other methods. Every URL gets one route more, for the methods that it lacks:
 * the router itself decides, whatever its parameters.
 */
import type { FastifyInstance } from 'fastify'
import { AppError } from '../errors.ts'

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

/** Call before any route is registered; call what it returns when all of them are. */
export function collectMethods(app: FastifyInstance): () => void {
  const byUrl = new Map<string, Set<string>>()
  app.addHook('onRoute', ({ url, method }) => {
    const known = byUrl.get(url) ?? new Set()
    for (const name of [method].flat()) known.add(name)
    byUrl.set(url, known)
  })
  return () => {
    // With trailing slashes ignored, "/docs" and "/docs/" are one URL to the router.
    const urls = new Map<string, Set<string>>()
    for (const [url, known] of byUrl) {
      const canonical = url.length > 1 ? url.replace(/\/$/, '') : url
      urls.set(canonical, new Set([...(urls.get(canonical) ?? []), ...known]))
    }
    for (const [url, known] of urls) {
      const lacking = methods.filter((method) => !known.has(method))
      if (lacking.length === 0 || url.includes('*')) continue
      const allow = [...known].filter((method) => methods.includes(method)).join(', ')
      app.route({
        method: lacking,
        url,
        schema: { hide: true },
        exposeHeadRoute: false,
        // Before the body is read: a refusal needs none.
        onRequest: async () => {
          throw new AppError('method_not_allowed', { detail: `This URL takes ${allow}.`, headers: { allow } })
        },
        handler: async () => undefined,
      })
    }
  }
}
