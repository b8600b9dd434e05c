import { expect, test } from "vitest";
import { rescue, type Plight } from "../../src/player/rescue";

const LADDER = [280_000, 550_000, 900_000, 1_400_000];
/** Half a second into a two-second segment of the top rung. */
const plight = (over: Partial<Plight>): Plight => ({
  bandwidth: 50e6,
  delay: 0.03,
  buffer: 0.5,
  loaded: 0.5,
  left: 1.5,
  rate: 2_600_000,
  lower: LADDER,
  ...over,
});

test.each([
  ["a fast link", {}, null],
  ["just fast enough", { bandwidth: 2_700_000 }, null],
  ["slower, with enough in the buffer to bridge it", { bandwidth: 2_000_000, buffer: 2 }, null],
  ["too slow: the highest level that fits in four fifths", { bandwidth: 1_250_000 }, 2],
  ["slower still", { bandwidth: 800_000 }, 1],
  ["too slow for any: the lowest", { bandwidth: 100_000 }, 0],
  ["already the lowest level", { bandwidth: 100_000, lower: [] }, null],
  ["the segment is complete", { bandwidth: 100_000, loaded: 2, left: 0 }, null],
  ["nearly complete: finishing costs less than starting over", { bandwidth: 1_250_000, loaded: 1.75, left: 0.25, buffer: 0 }, null],
  ["far away: the round trips alone cost more", { bandwidth: 2_000_000, delay: 0.8, buffer: 0.3 }, null],
] as [string, Partial<Plight>, number | null][])("%s", (_, over, expected) => {
  expect(rescue(plight(over))).toBe(expected);
});
