/**
 * `/docs`: an OpenAPI 3.1 document made from the routes' own zod schemas, and a page to read and try it; beside it the
 * AsyncAPI document of what is no request.
 */
import swagger from '@fastify/swagger'
import scalar from '@scalar/fastify-api-reference'
import type { FastifyInstance } from 'fastify'
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod'
import { errorCatalogue } from '../errors.ts'

export async function registerOpenapi(app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Rivulet', version: '1', description },
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
      security: [{ bearer: [] }],
    },
    transform: jsonSchemaTransform,
    transformObject: jsonSchemaTransformObject,
  })
}

/**
 * After the routes. The page brings its own script and styles: they are let through here and nowhere else.
 *
 * @param options.asyncapi the document of the socket.
 */
export async function registerOpenapiPage(
  app: FastifyInstance,
  { asyncapi }: { asyncapi?: object } = {},
): Promise<void> {
  app.get('/docs/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  if (asyncapi !== undefined) app.get('/docs/asyncapi.json', { schema: { hide: true } }, async () => asyncapi)
  await app.register(async (docs) => {
    docs.addHook('onSend', async (_request, reply) => {
      void reply.header(
        'content-security-policy',
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'",
      )
    })
    await docs.register(scalar, {
      routePrefix: '/docs',
      configuration: {
        pageTitle: 'Rivulet API',
        url: '/docs/openapi.json',
        telemetry: false,
        showDeveloperTools: 'never',
        withDefaultFonts: false,
        agent: { disabled: true },
        mcp: { disabled: true },
      },
    })
  })
}

const description = [
  'A streaming-first chat backend. Ids are UUIDs, times RFC 3339 UTC, money decimal strings in credits.',
  '',
  'The inbox over a socket or an event stream is described in [AsyncAPI](/docs/asyncapi.json).',
  '',
  'Every error is `application/problem+json` with a stable `code`:',
  '',
  '| code | status | title |',
  '| --- | --- | --- |',
  ...errorCatalogue.map(({ code, status, title }) => `| \`${code}\` | ${status} | ${title} |`),
].join('\n')
