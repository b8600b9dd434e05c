import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { defineConfig } from "vitest/config";

const here = (path: string) => new URL(path, import.meta.url);

export default defineConfig({
  build: {
    // Browsers that play low-latency HLS at all: each has ES2020 and <dialog>.
    target: ["chrome100", "edge100", "firefox100", "safari15.4"],
    rollupOptions: { input: { index: "index.html", watch: "watch.html" } },
    // The content security policy knows no inline scripts and no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // hls.js alone is 590 kB before compression.
    chunkSizeWarningLimit: 700,
  },
  plugins: [
    {
      // The server sends what it has: compressed once, here, and not for each viewer.
      name: "gzip",
      generateBundle: {
        order: "post",
        handler(_, bundle) {
          for (const [name, file] of Object.entries(bundle)) {
            if (!/\.(js|css)$/.test(name)) continue;
            const text = file.type === "chunk" ? file.code : file.source;
            this.emitFile({ type: "asset", fileName: `${name}.gz`, source: gzipSync(text, { level: 9 }) });
          }
        },
      },
    },
    {
      // The pages carry hls.js, whose licence (Apache-2.0, section 4) travels with every copy.
      name: "licences",
      generateBundle() {
        const source = readFileSync(here("node_modules/hls.js/LICENSE"), "utf8");
        this.emitFile({ type: "asset", name: "hls.js-LICENSE.txt", source });
      },
    },
  ],
  test: {
    include: ["test/**/*.test.ts"],
    // A browser decodes pictures in software: two at once on two cores would judge the machine, not the player.
    maxWorkers: 1,
    minWorkers: 1,
    testTimeout: 30_000,
    hookTimeout: 30_000,
  },
});
