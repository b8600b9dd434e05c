import { expect, test } from "vitest";
import { bitrate, fps, latency, rung, span } from "../../src/format";

test.each([
  [0, "0 kbit/s"],
  [128_000, "128 kbit/s"],
  [999_499, "999 kbit/s"],
  [999_500, "1 Mbit/s"],
  [2_500_000, "2.5 Mbit/s"],
  [5_912_345, "5.91 Mbit/s"],
  [45_678_000, "45.7 Mbit/s"],
  [999_499_999, "999 Mbit/s"],
  [1_234_000_000, "1.23 Gbit/s"],
  [-1, "–"],
  [NaN, "–"],
  [null, "–"],
])("bitrate %s: %s", (bps, text) => expect(bitrate(bps)).toBe(text));

test.each([
  [30, "30"],
  [29.97002997, "29.97"],
  [0, "–"],
  [Infinity, "–"],
  [null, "–"],
])("fps %s: %s", (rate, text) => expect(fps(rate)).toBe(text));

test.each([
  [-5, "0 s"],
  [59.9, "59 s"],
  [60, "1 min"],
  [3599, "59 min"],
  [3600, "1 h 00 min"],
  [11_220, "3 h 07 min"],
  [172_800, "2 d 0 h"],
  [NaN, "–"],
])("span %s: %s", (seconds, text) => expect(span(seconds)).toBe(text));

test.each([
  [null, ""],
  [NaN, ""],
  [-0.2, "0.0 s"],
  [1.04, "1.0 s"],
  [9.94, "9.9 s"],
  [9.96, "10 s"],
  [75, "1 min"],
])("latency %s: %j", (seconds, text) => expect(latency(seconds)).toBe(text));

test.each([
  [{ width: 1920, height: 1080 }, "1080p"],
  [{ width: 1080, height: 1920 }, "1080p"],
  [{ width: 1280, height: 720, frameRate: 59.94 }, "720p60"],
  [{ width: 1280, height: 720, frameRate: 30 }, "720p"],
  [{ width: 0, height: 720 }, "720p"],
  [{ width: 0, height: 0 }, "Audio"],
])("rung %j: %s", (picture, text) => expect(rung(picture)).toBe(text));
