import { expect, test } from "vitest";
import { describe, type Facts } from "../../src/player/notice";

const facts = (over: Partial<Facts>): Facts => ({ engine: "none", probe: null, played: false, ended: false, foreign: false, late: 0, ...over });

test.each([
  [{}, "joining", "Joining…"],
  [{ engine: "starting" }, "joining", "Joining…"],
  [{ engine: "playing", probe: "away" }, "playing", ""],
  [{ engine: "waiting" }, "buffering", ""],
  [{ engine: "waiting", late: 3 }, "interrupted", "The broadcast is interrupted"],
  [{ engine: "waiting", late: 3, probe: "away" }, "reconnecting", "Reconnecting…"],
  [{ probe: "offline" }, "offline", "This stream is not live now"],
  [{ probe: "live", ended: true }, "offline", "This stream is not live now"],
  [{ probe: "offline", played: true }, "ended", "The stream has ended"],
  [{ probe: null, played: true, ended: true }, "ended", "The stream has ended"],
  [{ probe: "away" }, "reconnecting", "Reconnecting…"],
  [{ probe: "away", played: true, ended: true }, "reconnecting", "Reconnecting…"],
  [{ probe: null, played: true }, "reconnecting", "Reconnecting…"],
  [{ probe: "refused" }, "refused", "You may not watch this stream"],
  [{ probe: "live", ended: true, foreign: true }, "unsupported", "This browser cannot play the stream"],
  [{ engine: "unsupported" }, "unsupported", "This browser cannot play the stream"],
] as [Partial<Facts>, string, string][])("%j: %s", (over, phase, title) => {
  const notice = describe(facts(over));
  expect([notice.phase, notice.title]).toEqual([phase, title]);
});

test("only what is waited for turns", () => {
  expect(describe(facts({ engine: "waiting" })).busy).toBe(true);
  expect(describe(facts({ probe: "offline" })).busy).toBe(false);
});
