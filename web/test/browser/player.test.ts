import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { launch, open, player, playing, reach, settled } from "../fixture/browser";
import { Fixture } from "../fixture/server";

/** The player on a broadcast that runs through all these tests. */

let fixture: Fixture;
let browser: Browser;

beforeAll(async () => {
  [fixture, browser] = await Promise.all([Fixture.start(), launch()]);
  await fixture.publish("steady");
});

afterEach(() => {
  fixture.limit = 0;
  fixture.down = false;
  fixture.spoil = false;
});

afterAll(async () => {
  await browser.close();
  await fixture.close();
});

test("holds the advised distance to the edge, and shows it", () =>
  player(browser, `${fixture.url}/watch/steady`, async (page) => {
    const first = await settled(page);
    expect(first.target).toBeGreaterThanOrEqual(0.75);
    await reach(page, "three seconds on", (s) => s.currentTime > first.currentTime + 3);
    // As after a stall: the viewer did not ask to be behind.
    await page.evaluate(() => (window.headwater.video.currentTime -= 1));
    await reach(page, "catching up", (s) => s.playbackRate > 1);
    const s = await settled(page);
    expect(Math.abs((s.latency ?? 0) - (s.behind ?? 9))).toBeLessThan(0.6);
    await expect.poll(() => page.locator("#live").getAttribute("class")).toContain("at-edge");
    expect(await page.locator("#latency").textContent()).toMatch(/^\d\.\d s$/);
    expect(await page.locator("#quality-label").textContent()).toBe(s.levelName);
  }));

test("steps down on a link that becomes slow, and up again after", () =>
  player(browser, `${fixture.url}/watch/steady`, async (page) => {
    await playing(page);
    fixture.limit = 500_000;
    const slow = await reach(page, "on the lower level", (s) => s.levelName === "120p", 8000);
    await reach(page, "playing on it", (s) => s.phase === "playing" && s.currentTime > slow.currentTime + 1);
    fixture.limit = 0;
    const s = await reach(page, "back on the higher level", (s) => s.levelName === "240p", 25_000);
    expect(s.restarts).toBe(0);
  }));

test("reconnects to a server that was away", () =>
  player(browser, `${fixture.url}/watch/steady`, async (page) => {
    await playing(page);
    fixture.down = true;
    await reach(page, "reconnecting", (s) => s.phase === "reconnecting");
    expect(await page.locator("#title").textContent()).toBe("Reconnecting…");
    fixture.down = false;
    await reach(page, "playing again", (s) => s.phase === "playing");
  }));

test("gets over a broken part", () =>
  player(browser, `${fixture.url}/watch/steady`, async (page) => {
    const before = await playing(page);
    fixture.spoil = true;
    await expect.poll(() => fixture.spoil).toBe(false);
    const s = await reach(page, "playing past it", (s) => s.phase === "playing" && s.currentTime > before.currentTime + 3);
    expect(s.restarts).toBe(0);
    expect(await page.evaluate(() => window.headwater.video.paused)).toBe(false);
  }));

test("obeys its buttons and keys", () =>
  player(browser, `${fixture.url}/watch/steady`, async (page) => {
    await playing(page);
    const video = <T>(get: (video: HTMLVideoElement) => T) => page.evaluate(`(${get})(window.headwater.video)`) as Promise<T>;
    expect(await video((v) => v.muted)).toBe(true);
    await page.click("#unmute");
    expect(await video((v) => v.muted)).toBe(false);
    await page.evaluate(() => (document.activeElement as HTMLElement).blur());
    await page.keyboard.press("m");
    expect(await video((v) => v.muted)).toBe(true);
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("ArrowUp");
    expect(await video((v) => [v.muted, v.volume])).toEqual([false, 0.2]);
    await page.keyboard.press("k");
    expect(await video((v) => v.paused)).toBe(true);
    await page.keyboard.press(" ");
    expect(await video((v) => v.paused)).toBe(false);
    await page.keyboard.press("ArrowLeft");
    await expect.poll(() => page.locator("#live").getAttribute("class")).not.toContain("at-edge");
    const back = await reach(page, "in the past", (s) => s.phase === "playing" && (s.behind ?? 0) > 3.5);
    expect(back.playbackRate).toBe(1);
    await page.keyboard.press("l");
    await settled(page);
    await expect.poll(() => page.locator("#live").getAttribute("class")).toContain("at-edge");

    await page.click("#quality");
    await page.keyboard.press("End");
    await page.keyboard.press("Enter");
    await reach(page, "on the chosen level", (s) => s.levelName === "120p");
    expect(await page.locator("#menu").isVisible()).toBe(false);
    await page.keyboard.press("f");
    await expect.poll(() => page.evaluate(() => document.fullscreenElement?.id)).toBe("player");
    await page.keyboard.press("f");
    await page.keyboard.press("?");
    expect(await page.locator("#keys").isVisible()).toBe(true);
    await page.keyboard.press("Escape");
    expect(await page.locator("#captions").isVisible()).toBe(false);
    await page.evaluate(() => void window.headwater.video.addTextTrack("captions", "English", "en"));
    await page.locator("#captions").waitFor();
    expect(await video((v) => v.textTracks[0]?.mode)).not.toBe("showing");
    await page.keyboard.press("c");
    expect(await video((v) => v.textTracks[0]?.mode)).toBe("showing");
  }));

test("a browser that forbids to start waits for a click", async () => {
  const strict = await launch(["--autoplay-policy=document-user-activation-required"]);
  const { page } = await open(strict, `${fixture.url}/watch/steady`);
  // Sound on from an earlier visit: not allowed before a click, so it starts without.
  await page.evaluate(() => localStorage.setItem("headwater.sound", JSON.stringify({ on: true, volume: 0.5 })));
  await page.reload();
  await reach(page, "playing or waiting for a click", (s) => s.phase === "playing");
  const state = await page.evaluate(() => ({ muted: window.headwater.video.muted, paused: window.headwater.video.paused }));
  expect(state).toEqual({ muted: true, paused: false });
  await page.click("#unmute");
  expect(await page.evaluate(() => window.headwater.video.muted)).toBe(false);
  await strict.close();
});

test("fits a phone", async () => {
  await player(
    browser,
    `${fixture.url}/watch/steady`,
    async (page) => {
      await playing(page);
      await page.touchscreen.tap(160, 100);
      const outside = await page.locator("#bar > *:visible, #bar .control:visible").evaluateAll((all) =>
        all.filter((e) => e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().left < 0).map((e) => e.id),
      );
      expect(outside).toEqual([]);
      expect(await page.evaluate(() => window.headwater.video.paused)).toBe(false);
    },
    { viewport: { width: 320, height: 640 }, hasTouch: true, isMobile: true },
  );
});
