import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { live, many, MockApi, stream, three, TOKEN } from "../fixture/api";
import { launch, open } from "../fixture/browser";
import { Fixture } from "../fixture/server";

let fixture: Fixture;
let browser: Browser;
let api: MockApi;

beforeAll(async () => {
  [fixture, browser] = await Promise.all([Fixture.start(), launch()]);
});

beforeEach(() => {
  api = new MockApi();
  fixture.api = api.handle;
  fixture.down = false;
});

afterAll(async () => {
  await browser.close();
  await fixture.close();
});

/** The dashboard, signed in; the test fails if the page breaks its security policy or throws. */
async function dashboard(run: (page: Page) => Promise<void>, options: BrowserContextOptions = {}): Promise<void> {
  const { page, errors } = await open(browser, `${fixture.url}/#token=${TOKEN}`, options);
  try {
    await run(page);
    expect(errors).toEqual([]);
  } finally {
    await page.context().close();
  }
}

const view = (page: Page, name: string) => page.waitForSelector(`body[data-view="${name}"]`);
const card = (page: Page, id: string) => page.locator("article", { has: page.getByRole("heading", { name: id, exact: true }) });

test("asks for the token, says when it is wrong, keeps the right one for the session", async () => {
  const { page, errors } = await open(browser, `${fixture.url}/`);
  await view(page, "sign-in");
  await page.fill("#token", "wrong");
  await page.keyboard.press("Enter");
  await page.getByText("The server does not accept this token.").waitFor();
  await page.fill("#token", TOKEN);
  await page.keyboard.press("Enter");
  await view(page, "empty");
  await page.reload();
  await view(page, "empty");
  await page.click("#sign-out");
  await page.reload();
  await view(page, "sign-in");
  expect(errors).toEqual([]);
  await page.context().close();
});

test("takes the token from the address and out of it", () =>
  dashboard(async (page) => {
    await view(page, "empty");
    expect(page.url()).toBe(`${fixture.url}/`);
    expect(await page.locator("#ingest .value").textContent()).toBe("rtmp://127.0.0.1:1935/live");
  }));

test("shows what is known of each stream, strangers' words as text", async () => {
  api.streams = three();
  await dashboard(async (page) => {
    await view(page, "list");
    const hall = await card(page, "lecture-hall").innerText();
    for (const words of ["LIVE", "214 viewers", "3 h 07 min", "RTMP · 5.9 Mbit/s", "H.264 1920×1080, 30 fps", "AAC 48 kHz stereo"]) {
      expect(hall).toContain(words);
    }
    expect(hall).toContain("obs-output module (libobs version 30.2.3)");
    expect(hall).toMatch(/1080p\s+1920×1080\s+2.5 Mbit\/s\s+passthrough\s+720p/);
    expect(hall).toContain("Keyframes every 10 s: set the keyframe interval to 2 s in your encoder.");
    const hostile = card(page, "<img src=x onerror=alert(1)>");
    expect(await hostile.innerText()).toContain("<script>alert(1)</script>");
    expect(await hostile.getByRole("link").first().getAttribute("href")).toBe("/watch/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E");
    expect(await page.locator("article img, article script").count()).toBe(0);
    expect(await card(page, "room-1").innerText()).toContain("IDLE");
    expect(await page.locator("#summary").textContent()).toBe("2 of 3 streams live · 215 viewers · 6.7 Mbit/s in");
  });
});

test("refreshes in place, in all pages of the list", async () => {
  api.streams = many(26);
  api.page = 10;
  await dashboard(async (page) => {
    await view(page, "list");
    expect(await page.locator("article").count()).toBe(26);
    await card(page, "room-3").getByRole("button", { name: "Kick" }).focus();
    api.streams[2] = live("room-3", 1, { viewers: 4711 });
    await card(page, "room-3").getByText("4711 viewers").waitFor();
    expect(await page.evaluate(() => document.activeElement?.getAttribute("aria-label"))).toBe("Kick the publisher of room-3");
    await page.fill("#filter", "ROOM-2");
    expect(await page.locator("article").count()).toBe(8);
    await page.fill("#filter", "nothing");
    await page.getByText("No stream has that in its name.").waitFor();
  });
});

test("makes a stream and shows its key once", () =>
  dashboard(async (page) => {
    await page.getByRole("button", { name: "Make the first stream" }).click();
    await page.fill("#new-id", "room 1");
    await page.keyboard.press("Enter");
    await page.getByText("1 to 64 letters, digits").waitFor();
    expect(api.calls).not.toContain("POST streams");
    await page.fill("#new-id", "room-1");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Copy Stream key" }).click();
    await page.getByText("Copied").waitFor();
    const values = await page.locator("#new-fields .value").allTextContents();
    expect(values[0]).toBe("k-S3cret_0123456789abcdef");
    expect(values[1]).toBe("rtmp://127.0.0.1:1935/live");
    expect(values[2]).toMatch(/^ffmpeg .* 'rtmp:\/\/127\.0\.0\.1:1935\/live\/k-S3cret_0123456789abcdef'$/);
    expect(values[3]).toBe(`${fixture.url}/watch/room-1`);
    await page.getByRole("button", { name: "Done" }).click();
    await card(page, "room-1").waitFor();
    expect(await page.content()).not.toContain("S3cret");
    await page.locator(".head [data-new]").click();
    await page.fill("#new-id", "room-1");
    await page.keyboard.press("Enter");
    await page.getByText("A stream room-1 exists already.").waitFor();
  }));

test("kicks at once, deletes when meant", async () => {
  api.streams = [live("a", 1), stream("b")];
  await dashboard(async (page) => {
    await view(page, "list");
    expect(await card(page, "b").getByRole("button", { name: "Kick" }).isDisabled()).toBe(true);
    await card(page, "a").getByRole("button", { name: "Kick" }).click();
    await page.getByText("a: publisher disconnected").waitFor();
    expect(api.calls).toContain("POST streams/a/kick");
    await card(page, "a").getByRole("button", { name: "Delete" }).click();
    await page.keyboard.press("Escape");
    await card(page, "a").getByRole("button", { name: "Delete" }).click();
    await page.getByRole("button", { name: "Keep" }).click();
    expect(api.calls).not.toContain("DELETE streams/a");
    await card(page, "a").getByRole("button", { name: "Delete" }).click();
    await page.locator("#confirm").getByRole("button", { name: "Delete" }).click();
    await card(page, "a").waitFor({ state: "detached" });
    expect(api.calls).toContain("DELETE streams/a");
  });
});

test("a server that goes leaves the list, marked as old; one that comes is shown", async () => {
  fixture.api = (_, response) => {
    response.writeHead(502).end();
    return true;
  };
  await dashboard(async (page) => {
    await view(page, "away");
    api.streams = three();
    fixture.api = api.handle;
    await page.click("#retry");
    await view(page, "list");
    fixture.down = true;
    await page.locator("#stale").getByText("The server does not answer.").waitFor();
    expect(await page.locator("article").count()).toBe(3);
    fixture.down = false;
    await page.locator("#stale").waitFor({ state: "hidden" });
  });
});

test("a hidden page asks nothing", async () => {
  await dashboard(async (page) => {
    await view(page, "empty");
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    // One more may be under way.
    await page.waitForTimeout(500);
    const before = api.calls.length;
    await page.waitForTimeout(2500);
    expect(api.calls.length).toBe(before);
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => false });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await expect.poll(() => api.calls.length).toBeGreaterThan(before);
  });
});

test.each([320, 768, 1920])("fits a screen of %d px", async (width) => {
  api.streams = [...three(), ...many(20)];
  await dashboard(
    async (page) => {
      await view(page, "list");
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
      await page.locator(".head [data-new]").click();
      expect(await page.locator("#new").evaluate((dialog) => dialog.getBoundingClientRect().right <= innerWidth)).toBe(true);
    },
    { viewport: { width, height: 640 } },
  );
});
