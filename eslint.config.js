import { defineConfig } from 'eslint/config'
import tseslint from 'typescript-eslint'

export default defineConfig(
  { ignores: ['node_modules/', '.rivulet/', 'drizzle/'] },
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // Fastify's plugins and handlers are async by signature, whether or not they wait.
      '@typescript-eslint/require-await': 'off',
      // The shape of a query's rows is named by whoever wrote the query.
      '@typescript-eslint/no-unnecessary-type-parameters': 'off',
      // Characters are code points here, as PostgreSQL counts them.
      '@typescript-eslint/no-misused-spread': 'off',
      'no-console': 'error',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
    },
  },
  {
    // Other OpenAI-compatible servers know only the older names of some fields.
    files: ['src/upstream/openrouter.ts'],
    rules: { '@typescript-eslint/no-deprecated': 'off' },
  },
  {
    // Programs that talk to a person in a terminal.
    files: ['.ci/**', 'src/playground/**', 'src/auth/mint.ts', 'src/embedded/banner.ts', 'bench/**'],
    rules: { 'no-console': 'off' },
  },
)
