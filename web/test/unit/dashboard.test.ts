import { expect, test } from "vitest";
import { problem, type Input, type Stream } from "../../src/dashboard/api";
import { addresses, ffmpegLine } from "../../src/dashboard/ingest";
import { arrival, audio, ordered, running, summary, video } from "../../src/dashboard/words";

const INPUT: Input = {
  protocol: "rtmp",
  encoder: "obs-output",
  video: { codec: "h264", width: 1920, height: 1080, fps: 29.97 },
  audio: { codec: "aac", sample_rate: 44_100, channels: 2 },
  bitrate: 5_900_000,
};

const stream = (id: string, over: Partial<Stream> = {}): Stream => ({
  id,
  state: "idle",
  session: null,
  started: null,
  input: null,
  rungs: [],
  viewers: 0,
  warnings: [],
  ...over,
});

test("addresses name a host that works, the usual protocols first", () => {
  const ingest = { srt: "srt://HOST:8890?streamid=KEY", rtmps: null, zzz: "zzz://HOST", rtmp: "rtmp://HOST:1935/live" };
  expect(addresses(ingest, "media.example")).toEqual([
    { protocol: "rtmp", url: "rtmp://media.example:1935/live" },
    { protocol: "srt", url: "srt://media.example:8890?streamid=KEY" },
    { protocol: "zzz", url: "zzz://media.example" },
  ]);
  expect(addresses({ rtmp: "rtmp://HOST:1935/live" }, "[::1]")[0]?.url).toBe("rtmp://[::1]:1935/live");
  expect(addresses({ rtmp: "rtmp://HOSTILE.example/live" }, "me")[0]?.url).toBe("rtmp://HOSTILE.example/live");
  expect(addresses({ rtmp: "rtmp://a.example/HOST" }, "$&")[0]?.url).toBe("rtmp://a.example/HOST");
  expect(addresses({}, "me")).toEqual([]);
});

test("the ffmpeg line publishes, and quotes what a shell would read otherwise", () => {
  const line = ffmpegLine("rtmp://h/live", "k3y");
  expect(line).toMatch(/^ffmpeg -re .* -f flv 'rtmp:\/\/h\/live\/k3y'$/);
  expect(ffmpegLine("rtmp://h/a'$(x)", "k")).toMatch(/'rtmp:\/\/h\/a'\\''\$\(x\)\/k'$/);
});

test.each([
  [401, "", "token", "The server does not accept this token."],
  [403, "{}", "token", "The server does not accept this token."],
  [409, '{"title":"Conflict","detail":"room-1 exists"}', "problem", "room-1 exists"],
  [400, '{"title":"Bad id"}', "problem", "Bad id"],
  [400, '{"detail":{"a":1}}', "problem", "The server answered with status 400."],
  [400, "null", "problem", "The server answered with status 400."],
  [502, "<html>", "away", "The server does not answer."],
  [503, '{"detail":"draining"}', "problem", "draining"],
  [500, "oops", "problem", "The server answered with status 500."],
] as const)("status %d %j: %s", (status, text, kind, message) => {
  const error = problem(status, text);
  expect([error.kind, error.message]).toEqual([kind, message]);
});

test("an input in words", () => {
  expect(arrival(INPUT)).toBe("RTMP · 5.9 Mbit/s");
  expect(video(INPUT)).toBe("H.264 1920×1080, 29.97 fps");
  expect(audio(INPUT)).toBe("AAC 44.1 kHz stereo");
  const bare = { ...INPUT, video: null, audio: { codec: "opus", sample_rate: 48_000, channels: 3 } };
  expect(video(bare)).toBe("No video");
  expect(audio(bare)).toBe("Opus 48 kHz 3 channels");
  expect(audio({ ...INPUT, audio: null })).toBe("No audio");
});

test("on air first, numbers in their order", () => {
  const list = [stream("room-10"), stream("room-2"), stream("z", { state: "live" }), stream("a", { state: "reconnecting" })];
  expect(ordered(list).map(({ id }) => id)).toEqual(["a", "z", "room-2", "room-10"]);
});

test("all streams in one line", () => {
  expect(summary([])).toBe("0 of 0 streams live · 0 viewers");
  const live = stream("a", { state: "live", viewers: 1, input: INPUT });
  expect(summary([live, stream("b")])).toBe("1 of 2 streams live · 1 viewer · 5.9 Mbit/s in");
});

test("for how long a session runs", () => {
  const now = Date.parse("2026-11-21T09:00:00Z");
  expect(running(stream("a", { state: "live", started: "2026-11-21T08:00:00Z" }), now)).toBe("1 h 00 min");
  expect(running(stream("a", { state: "live", started: "soon" }), now)).toBe("");
  expect(running(stream("a", { started: "2026-11-21T08:00:00Z" }), now)).toBe("");
});
