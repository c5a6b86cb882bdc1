import { defineConfig } from 'vitest/config'

/** What measures time in an own process, and must not share the machine with other tests. */
const measuring = 'test/*/speed.test.ts'

const shared = {
  globalSetup: ['test/support/global-setup.ts'],
  pool: 'forks' as const,
  testTimeout: 20_000,
  hookTimeout: 60_000,
}

export default defineConfig({
  test: {
    reporters: ['default'],
    projects: [
      { test: { ...shared, name: 'tests', include: ['test/**/*.test.ts'], exclude: [measuring] } },
      {
        test: {
          ...shared,
          name: 'speed',
          include: [measuring],
          // Alone: never beside another file.
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
