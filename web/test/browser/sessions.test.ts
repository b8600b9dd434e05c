import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, player, playing, reach, stats } from "../fixture/browser";
import { Fixture } from "../fixture/server";

/** The player on broadcasts that begin, break off, end and are replaced. */

let fixture: Fixture;
let browser: Browser;

beforeAll(async () => {
  [fixture, browser] = await Promise.all([Fixture.start(), launch()]);
});

afterAll(async () => {
  await browser.close();
  await fixture.close();
});

test("waits for a stream, plays it, follows it into its next session", () =>
  player(browser, `${fixture.url}/watch/lecture`, async (page) => {
    await reach(page, "offline", (s) => s.phase === "offline");
    expect(await page.locator("#title").textContent()).toBe("This stream is not live now");
    const first = await fixture.publish("lecture");
    await reach(page, "playing", (s) => s.phase === "playing" && s.epoch === first.epoch);
    first.stop();
    await reach(page, "ended", (s) => s.phase === "ended");
    expect(await page.locator("#title").textContent()).toBe("The stream has ended");
    const second = await fixture.publish("lecture");
    const s = await reach(page, "playing the second session", (s) => s.phase === "playing" && s.epoch === second.epoch);
    expect(s.restarts).toBe(1);
    second.kill();
  }));

test("says that a broadcast is interrupted, and goes on with it", async () => {
  const live = await fixture.publish("fragile");
  await player(browser, `${fixture.url}/watch/fragile`, async (page) => {
    await playing(page);
    live.pause();
    await reach(page, "interrupted", (s) => s.phase === "interrupted");
    expect(await page.locator("#title").textContent()).toBe("The broadcast is interrupted");
    live.resume();
    await reach(page, "playing on", (s) => s.phase === "playing");
    const s = await reach(page, "back at the edge", (s) => (s.behind ?? 9) < s.target + 0.5);
    expect(s.restarts).toBe(0);
  });
});

test("leaves a session that was cut off for the one in its place", async () => {
  const first = await fixture.publish("replaced");
  await player(browser, `${fixture.url}/watch/replaced`, async (page) => {
    await playing(page);
    first.kill();
    const second = await fixture.publish("replaced");
    await reach(page, "playing the other session", (s) => s.phase === "playing" && s.epoch === second.epoch);
  });
});

test("a session that is over when the page opens is not shown as live", async () => {
  const live = await fixture.publish("over");
  live.stop();
  await expect.poll(() => live.ended).toBe(true);
  await player(browser, `${fixture.url}/watch/over`, async (page) => {
    await reach(page, "offline", (s) => s.phase === "offline");
    expect(await page.locator("#title").textContent()).toBe("This stream is not live now");
    expect((await stats(page)).firstFrame).toBeNull();
  });
});

test("a rung that comes back is played", async () => {
  const source = await fixture.publish("ladder");
  source.dropped.add("240p");
  await player(browser, `${fixture.url}/watch/ladder`, async (page) => {
    expect((await playing(page)).levels).toEqual(["120p"]);
    source.dropped.clear();
    // Looked for twice a minute, and at once when the network is back.
    await page.evaluate(() => window.dispatchEvent(new Event("online")));
    await reach(page, "playing both", (s) => s.phase === "playing" && s.levels.length === 2);
  });
  source.kill();
});

test("says when the browser has no decoder, and plays the next session if it has", async () => {
  const source = await fixture.publish("foreign");
  source.codecs = "dvh1.05.06,ac-4.02.01.00";
  await player(browser, `${fixture.url}/watch/foreign`, async (page) => {
    await reach(page, "unsupported", (s) => s.phase === "unsupported");
    expect(await page.locator("#detail").textContent()).toContain("has no decoder");
    await fixture.publish("foreign");
    await playing(page);
  });
});

test("a browser without Media Source plays by itself, and is followed the same", async () => {
  const first = await fixture.publish("native");
  await player(
    browser,
    `${fixture.url}/watch/native`,
    async (page) => {
      await reach(page, "playing", (s) => s.phase === "playing" && s.currentTime > 0.5);
      expect(await page.evaluate(() => window.headwater.hls)).toBeNull();
      await expect.poll(() => page.locator("#live").getAttribute("class")).toContain("at-edge");
      first.stop();
      await reach(page, "ended", (s) => s.phase === "ended");
      const second = await fixture.publish("native");
      await reach(page, "playing on", (s) => s.phase === "playing" && s.epoch === second.epoch && s.currentTime > 0.5);
    },
    { noMediaSource: true },
  );
});
