import { expect, test } from "vitest";
import { Pace, Target } from "../../src/player/pace";

const PART = 0.25;

/** Plays `seconds` at the pace's word; media arrive up to a part behind the edge. The distances over time. */
function play(start: number, target: number, seconds: number, arriving = PART): (number | "seek")[] {
  const pace = new Pace();
  const seen: (number | "seek")[] = [];
  let latency = start;
  for (let t = 0; t < seconds; t += 0.2) {
    const rate = pace.step({ latency, target, buffer: latency - arriving, part: PART });
    seen.push(rate);
    if (rate === "seek") return seen;
    latency -= (rate - 1) * 0.2;
    seen[seen.length - 1] = latency;
  }
  return seen;
}

const end = (distances: (number | "seek")[]) => distances[distances.length - 1];

test("at the target nothing is done", () => {
  const pace = new Pace();
  for (const latency of [0.75, 0.8, 0.7, 0.85]) {
    expect(pace.step({ latency, target: 0.75, buffer: 0.5, part: PART })).toBe(1);
  }
});

test("behind the target it catches up, and stays", () => {
  const distances = play(1.4, 0.75, 10);
  expect(end(distances)).toBeGreaterThan(0.7);
  expect(end(distances)).toBeLessThan(0.85);
});

test("too near the edge it falls back", () => {
  expect(end(play(0.4, 0.75, 20))).toBeGreaterThan(0.65);
});

test("far behind it jumps", () => {
  expect(play(4, 0.75, 1)).toEqual(["seek"]);
  expect(end(play(3.5, 0.75, 30))).toBeLessThan(0.85);
});

test("with little in the buffer it does not hurry", () => {
  expect(new Pace().step({ latency: 2, target: 0.75, buffer: 0.3, part: PART })).toBe(1);
});

test("the rate stays within what can be listened to, in few steps", () => {
  const pace = new Pace();
  for (let latency = 0; latency < 3.7; latency += 0.01) {
    const rate = pace.step({ latency, target: 0.75, buffer: 2, part: PART });
    expect(rate).toBeGreaterThanOrEqual(Pace.SLOWEST);
    expect(rate).toBeLessThanOrEqual(Pace.FASTEST);
    expect(((rate as number) * 40) % 1).toBeCloseTo(0);
  }
});

test("each stall adds a step, calm takes it back", () => {
  const target = new Target();
  expect(target.seconds(0.75, 0)).toBe(0.75);
  target.stalled(10);
  target.stalled(11);
  expect(target.seconds(0.75, 12)).toBe(1.25);
  expect(target.seconds(0.75, 42)).toBe(1);
  expect(target.seconds(0.75, 71)).toBe(0.75);
  for (let i = 0; i < 100; i++) target.stalled(100);
  expect(target.seconds(0.75, 100)).toBe(0.75 + Target.MOST);
  expect(target.seconds(0.75, 1e6)).toBe(0.75);
});
