import { expect, test } from "vitest";
import { ServerClock } from "../../src/player/clock";

/** Answers every `step` ms from a server whose clock is `offset` ms ahead, each `trip` ms there and back. */
function observe(clock: ServerClock, offset: number, from: number, to: number, step: number, trip: number): void {
  for (let sent = from; sent < to; sent += step) {
    const date = Math.floor((sent + trip / 2 + offset) / 1000) * 1000;
    clock.observe(date, sent, sent + trip);
  }
}

test("nothing is known before the answers narrow it down", () => {
  const clock = new ServerClock();
  expect(clock.at(0)).toBeNull();
  clock.observe(5000, 100, 120);
  expect(clock.at(0)).toBeNull();
});

test.each([0, 12_345, -7_777, 1_794_000_000_123])("an offset of %d ms is found to a tenth of a second", (offset) => {
  const clock = new ServerClock();
  observe(clock, offset, 0, 3000, 90, 20);
  expect(Math.abs((clock.at(5000) ?? 0) - (5000 + offset))).toBeLessThan(100);
});

test("held answers narrow it as well", () => {
  const clock = new ServerClock();
  observe(clock, 2500, 0, 20_000, 251, 250);
  expect(Math.abs((clock.at(0) ?? 0) - 2500)).toBeLessThan(200);
});

test("a clock that is set anew is followed", () => {
  const clock = new ServerClock();
  observe(clock, 0, 0, 3000, 90, 20);
  observe(clock, 60_000, 3000, 6000, 90, 20);
  expect(Math.abs((clock.at(0) ?? 0) - 60_000)).toBeLessThan(100);
});

test("a header that is no date is ignored", () => {
  const clock = new ServerClock();
  observe(clock, 0, 0, 3000, 90, 20);
  clock.observe(NaN, 3000, 3020);
  clock.observe(99_999, 3020, 3000);
  expect(Math.abs(clock.at(0) ?? 999)).toBeLessThan(100);
});
