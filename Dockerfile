# syntax=docker/dockerfile:1

# Node runs the TypeScript sources as they are: there is nothing to build, only packages to install.
# Left out: dev tools, and the optional packages (an embedded PostgreSQL, a Node of our own).
FROM node:24-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional

FROM node:24-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3006
WORKDIR /app
# Owned by root, run by node: the process cannot change its own code.
COPY --from=packages /app/node_modules node_modules
COPY package.json LICENSE ./
COPY drizzle drizzle
COPY src src
USER node
EXPOSE 3006
# Alive, not ready: restarting it does not bring a database back.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health/live`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# No shell and no npm in between: SIGTERM reaches the process, which needs up to 28 s to stop
# (docker stop --timeout 30).
CMD ["node", "--max-semi-space-size=16", "src/main.ts"]
