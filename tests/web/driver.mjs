// A browser with hls.js, driven by JSON lines on standard input, one answer on standard output for each:
//   {"id": 1, "do": "open", "url": "http://…/index.m3u8", "config": {…}}   a page of our own that plays the URL
//   {"id": 2, "do": "visit", "url": "http://…/watch/room"}                 a page of the server's
//   {"id": 3, "do": "stats"}                                               what the page of our own plays
//   {"id": 4, "do": "throttle", "bytes": 100000, "latency": 20}            bytes a second down; 0 is no limit
//   {"id": 5, "do": "eval", "script": "document.title"}                    any expression in the page
//   {"id": 6, "do": "shot", "path": "/…/page.png"}                         a picture of the page
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
  "--no-first-run",
  "--autoplay-policy=no-user-gesture-required",
];
const HLS = readFileSync(createRequire(import.meta.url).resolve("hls.js/dist/hls.min.js"));
const PAGE = `<!doctype html><title>player</title><script src="/hls.js"></script>
<video id="video" muted autoplay playsinline width="640"></video>`;

// The player page comes from an origin of its own, as a customer's page would: that asks for CORS.
const pages = createServer((request, response) => {
  const script = request.url === "/hls.js";
  response.setHeader("Content-Type", script ? "text/javascript" : "text/html");
  response.end(script ? HLS : PAGE);
});
await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${pages.address().port}/`;

const browser = await chromium.launch({
  executablePath: process.env.HEADWATER_CHROMIUM ?? "/usr/bin/chromium",
  args: ARGUMENTS,
});
const page = await browser.newPage();
const network = await page.context().newCDPSession(page);
await network.send("Network.enable");
const complaints = [];
page.on("pageerror", (error) => complaints.push(String(error)));

// Runs in the page: plays, and keeps what hls.js tells about it.
function play({ url, config }) {
  const video = document.getElementById("video");
  const hls = new Hls({ lowLatencyMode: true, backBufferLength: 10, ...config });
  const seen = { errors: [], fatal: [], switches: [], stalls: 0, stalledMs: 0, parts: 0, firstFrame: null };
  window.player = { hls, video, seen };
  const began = performance.now();
  hls.on(Hls.Events.ERROR, (_, data) => {
    seen.errors.push(data.details);
    if (data.fatal) seen.fatal.push(data.details);
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_, data) => seen.switches.push(data.level));
  hls.on(Hls.Events.FRAG_LOADED, (_, data) => {
    if (data.part) seen.parts += 1;
  });
  let waiting = null;
  const resumed = () => {
    if (waiting !== null) seen.stalledMs += performance.now() - waiting;
    waiting = null;
  };
  video.addEventListener("waiting", () => {
    // Before the first picture everyone waits.
    if (seen.firstFrame === null) return;
    seen.stalls += 1;
    waiting = performance.now();
  });
  video.addEventListener("playing", resumed);
  video.requestVideoFrameCallback(() => {
    seen.firstFrame = performance.now() - began;
  });
  hls.loadSource(url);
  hls.attachMedia(video);
}

// Runs in the page.
function stats() {
  const { hls, video, seen } = window.player;
  const quality = video.getVideoPlaybackQuality();
  const finite = (value) => (Number.isFinite(value) ? value : null);
  return {
    time: video.currentTime,
    paused: video.paused,
    latency: finite(hls.latency),
    targetLatency: finite(hls.targetLatency),
    level: hls.currentLevel,
    levels: hls.levels.map(({ width, height, bitrate }) => ({ width, height, bitrate })),
    width: video.videoWidth,
    height: video.videoHeight,
    decoded: quality.totalVideoFrames,
    dropped: quality.droppedVideoFrames,
    ...seen,
  };
}

const actions = {
  async open({ url, config }) {
    await page.goto(origin);
    await page.evaluate(play, { url, config: config ?? {} });
  },
  visit: ({ url }) => page.goto(url).then(() => undefined),
  async stats() {
    return { ...(await page.evaluate(stats)), complaints };
  },
  throttle: ({ bytes, latency }) =>
    network.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: latency ?? 0,
      downloadThroughput: bytes > 0 ? bytes : -1,
      uploadThroughput: -1,
    }),
  eval: ({ script }) => page.evaluate(script),
  shot: ({ path }) => page.screenshot({ path }).then(() => undefined),
};

const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
answer({ ready: true, browser: browser.version() });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    answer({ id: request.id, result: (await actions[request.do](request)) ?? null });
  } catch (error) {
    answer({ id: request.id, error: String(error) });
  }
}
await browser.close();
pages.close();
