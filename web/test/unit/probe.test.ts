import { expect, test } from "vitest";
import { classify, delay, epochOf } from "../../src/player/probe";

const PLAYLIST = `#EXTM3U
#EXT-X-VERSION:6
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="20261121T080000Z-ab12cd/audio/index.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=2900000,AUDIO="a"
20261121T080000Z-ab12cd/1080p/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=290000,AUDIO="a"\r
20261121T080000Z-ab12cd/240p/index.m3u8\r
`;

test("a playlist names its session and its variants", () => {
  expect(classify(200, PLAYLIST)).toEqual({
    kind: "live",
    epoch: "20261121T080000Z-ab12cd",
    variants: ["20261121T080000Z-ab12cd/1080p/index.m3u8", "20261121T080000Z-ab12cd/240p/index.m3u8"],
  });
});

test.each([
  [404, "", "offline"],
  [410, "", "offline"],
  [400, "", "offline"],
  [401, "", "refused"],
  [403, "", "refused"],
  [408, "", "away"],
  [429, "", "away"],
  [500, "", "away"],
  [503, "", "away"],
  [302, "", "away"],
  [200, "<html>", "away"],
  [200, "", "away"],
  [200, "#EXTM3U\n#EXT-X-VERSION:6\n", "offline"],
] as const)("status %d with body %j is %s", (status, body, kind) => {
  expect(classify(status, body).kind).toBe(kind);
});

test.each([
  ["e1/720p/index.m3u8", "e1"],
  ["http://host:8080/live/room/e1/720p/index.m3u8?token=a/b/c#d/e", "e1"],
  ["index.m3u8", "index.m3u8"],
  ["", ""],
])("the epoch of %j is %j", (uri, epoch) => {
  expect(epochOf(uri)).toBe(epoch);
});

test("looks are a second apart at first, five in the end, never in step", () => {
  expect(delay(0, 0.5)).toBe(1000);
  expect(delay(59, 0.5)).toBe(1000);
  expect(delay(10_000, 0.5)).toBe(5000);
  expect(delay(0, 0)).toBeCloseTo(800);
  expect(delay(0, 1)).toBeCloseTo(1200);
  for (let n = 1; n < 200; n++) expect(delay(n, 0.5)).toBeGreaterThanOrEqual(delay(n - 1, 0.5));
});
