# logpipe alone: compiled in the first stage, production dependencies only in the second, run by an ordinary user.
FROM node:24.12.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No package that is needed here has to run anything when it is installed.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY stack ./stack
COPY scripts/page.ts ./scripts/
RUN node node_modules/typescript/bin/tsc -p tsconfig.build.json && node dist/scripts/page.js && npm prune --omit=dev --ignore-scripts

FROM node:24.12.0-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
# Owned by root: the process can read its code, not change it.
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json LICENSE ./
COPY config ./config
# The page leads to them.
COPY docs/runbooks ./docs/runbooks
USER node
EXPOSE 8780
ENTRYPOINT ["node", "--max-semi-space-size=16", "--v8-pool-size=2", "/app/dist/src/main.js"]
CMD ["run"]
