/** `npm run token -- <user> [--tier premium] [--hours 24]`: prints a token for this installation. */
import { parseArgs } from 'node:util'
import { ConfigError, loadConfig } from '../config.ts'
import { loadSecret } from '../embedded/secret.ts'
import { mintToken } from './tokens.ts'

const usage = 'usage: npm run token -- <user> [--tier free|premium] [--hours 24]'

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { tier: { type: 'string' }, hours: { type: 'string', default: '24' } },
  })
  const [user] = positionals
  const hours = Number(values.hours)
  if (
    user === undefined ||
    positionals.length > 1 ||
    !(hours > 0) ||
    !['free', 'premium', undefined].includes(values.tier)
  )
    throw new Error(usage)
  const config = loadConfig()
  if (config.JWT_PUBLIC_KEY !== undefined || config.JWKS_URL !== undefined)
    throw new Error(
      'This installation verifies tokens by public keys: only the holder of the private key can mint them.',
    )
  const secret = config.JWT_SECRET?.[0] ?? (await loadSecret(config.DATA_DIR, 'jwt-secret'))
  console.log(
    await mintToken(secret, {
      sub: user,
      tier: values.tier,
      hours,
      issuer: config.JWT_ISSUER,
      audience: config.JWT_AUDIENCE,
    }),
  )
}

await main().catch((error: unknown) => {
  console.error(
    error instanceof Error && (error instanceof ConfigError || error.stack !== undefined)
      ? error.message
      : error,
  )
  process.exitCode = 1
})
