import { expect, test } from "vitest";
import { Bandwidth } from "../../src/player/bandwidth";

/** A part of `kbit` kilobits over a link of `mbps`, with 3 ms of overhead. */
function part(link: Bandwidth, kbit: number, mbps: number): void {
  link.sample(3 + kbit / mbps, (kbit * 1000) / 8);
}

/** Parts of a quarter of a second until `done`; the seconds of playback they stand for. */
function until(link: Bandwidth, kbit: number, mbps: number, done: (bps: number) => boolean): number {
  let parts = 0;
  while (!done(link.getEstimate()) && parts < 1000) {
    part(link, kbit, mbps);
    parts++;
  }
  return parts / 4;
}

test("a guess holds until the first part, and gives way to a few", () => {
  const link = new Bandwidth(500_000, 0.1);
  expect(link.canEstimate()).toBe(false);
  expect(link.getEstimate()).toBeCloseTo(500_000);
  for (let i = 0; i < 4; i++) part(link, 600, 20);
  expect(link.canEstimate()).toBe(true);
  expect(link.getEstimate()).toBeGreaterThan(2e6);
});

test("a link that becomes slow is seen in two parts", () => {
  const link = new Bandwidth(5e6, 0.1);
  for (let i = 0; i < 100; i++) part(link, 600, 50);
  expect(until(link, 600, 0.8, (bps) => bps < 1.5e6)).toBeLessThanOrEqual(0.5);
});

test("a link that recovers is believed again within twenty seconds of small parts", () => {
  const link = new Bandwidth(5e6, 0.1);
  for (let i = 0; i < 100; i++) part(link, 40, 0.5);
  const seconds = until(link, 40, 50, (bps) => bps > 4e6);
  expect(seconds).toBeGreaterThan(2);
  expect(seconds).toBeLessThan(20);
});

test("one fast burst does not hide slow parts", () => {
  const link = new Bandwidth(5e6, 0.1);
  for (let i = 0; i < 20; i++) part(link, 300, i % 4 === 0 ? 1000 : 0.6);
  expect(link.getEstimate()).toBeLessThan(1e6);
});

test("nonsense is not counted", () => {
  const link = new Bandwidth(1e6, 0.1);
  for (const [ms, bytes] of [[10, 0], [10, -5], [NaN, 100], [Infinity, 100], [10, NaN]] as const) link.sample(ms, bytes);
  expect(link.canEstimate()).toBe(false);
  link.sampleTTFB(NaN);
  link.sampleTTFB(-1);
  expect(link.getEstimateTTFB()).toBe(100);
  link.sample(0, 10_000);
  link.sample(-5, 10_000);
  expect(link.getEstimate()).toBeGreaterThan(0);
  expect(Number.isFinite(link.getEstimate())).toBe(true);
});
