import { expect, it } from "vitest";
import { unfinished } from "../../src/player/first";

const head = `#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.75
#EXT-X-PART-INF:PART-TARGET=0.25
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:1
#EXT-X-MAP:URI="init.mp4"
`;
const part = '#EXT-X-PART:DURATION=0.25,URI="7.0.m4s",INDEPENDENT=YES\n';

it("names the segment that is still being made when no other is listed", () => {
  expect(unfinished(head + part)).toBe(7);
});

it("leaves alone what hls.js can play, and what has nothing to wait for", () => {
  expect(unfinished(`${head + part}#EXTINF:2,\n7.m4s\n`)).toBeNull();
  expect(unfinished(`${head}#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n${part}`)).toBeNull();
  expect(unfinished(`${head + part}#EXT-X-ENDLIST\n`)).toBeNull();
  expect(unfinished(head)).toBeNull();
  expect(unfinished((head + part).replace("CAN-BLOCK-RELOAD=YES,", ""))).toBeNull();
});
