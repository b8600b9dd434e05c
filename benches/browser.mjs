// Watches a stream in headless Chromium and prints what it saw as JSON.
// usage: node browser.mjs glass URL SECONDS   the delay of the demo's burnt clock, in milliseconds, picture by picture
//        node browser.mjs join URL            opens the page, says "open", and then when the first picture was shown
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = join(dirname(fileURLToPath(import.meta.url)), "..", "web", "package.json");
const { chromium } = createRequire(web)("playwright-core");
const [what, url, seconds] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: process.env.HEADWATER_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
    "--autoplay-policy=no-user-gesture-required"],
});
try {
  // Small: there is no graphics card, and every pixel shown is drawn by the processor that also encodes.
  const page = await (await browser.newContext({ viewport: { width: 640, height: 400 } })).newPage();
  await page.goto(url);
  if (what === "join") {
    console.log("open");
    console.log(JSON.stringify(await page.evaluate(firstPicture)));
  } else {
    console.log(JSON.stringify(await page.evaluate(readClock, Number(seconds))));
  }
} finally {
  await browser.close();
}

/** UTC in milliseconds when the first picture was shown. */
function firstPicture() {
  return new Promise((resolve) => {
    const { video } = window.headwater;
    video.requestVideoFrameCallback(() => resolve(Date.now()));
  });
}

/** Delays of the burnt clock once playback has settled, and how the player saw itself. */
function readClock(seconds) {
  const { video } = window.headwater;
  // Where the segments A to G of a digit of 4 by 7 units are lit, and which digit lights which: as the test source draws them.
  const places = [[2, 0.4], [3.6, 1.75], [3.6, 5.25], [2, 6.6], [0.4, 5.25], [0.4, 1.75], [2, 3.5]];
  const digits = [0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f];
  // Left edges of HH:MM:SS.mmm in units; a digit and its gap are 5, a colon or dot 2.
  const lefts = [0, 5, 12, 17, 24, 29, 36, 41, 46];
  const weights = [36e6, 36e5, 6e5, 6e4, 1e4, 1e3, 100, 10, 1];
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [640, 360];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const unit = 10;
  const [left, top] = [320 - 25 * unit, 120 - 3.5 * unit];

  const read = () => {
    context.drawImage(video, 0, 0, 640, 360);
    const { data } = context.getImageData(0, Math.floor(top) - unit, 640, 9 * unit);
    let millis = 0;
    for (const [n, weight] of weights.entries()) {
      let lit = 0;
      for (const [bit, [x, y]] of places.entries()) {
        const at = Math.round((y + 1) * unit) * 640 + Math.round(left + (lefts[n] + x) * unit);
        if (data[at * 4] > 128) lit |= 1 << bit;
      }
      const digit = digits.indexOf(lit);
      if (digit < 0) return null;
      millis += digit * weight;
    }
    return millis;
  };

  return new Promise((resolve) => {
    const found = { delays: [], unread: 0, levels: [], target: null, latency: [] };
    const began = performance.now();
    const settle = 12_000;
    const picture = () => {
      const now = Date.now();
      const elapsed = performance.now() - began;
      if (elapsed > settle) {
        const burnt = read();
        if (burnt === null) found.unread += 1;
        else found.delays.push((((now - burnt) % 864e5) + 864e5) % 864e5);
        const hls = window.headwater.hls;
        if (hls) found.latency.push(Math.round(hls.latency * 1000));
        if (!found.levels.includes(video.videoHeight)) found.levels.push(video.videoHeight);
      }
      if (elapsed > settle + seconds * 1000) resolve(found);
      else video.requestVideoFrameCallback(picture);
    };
    video.requestVideoFrameCallback(picture);
    setTimeout(() => resolve(found), settle + seconds * 1000 + 20_000);
  });
}
