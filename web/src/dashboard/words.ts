import { bitrate, fps, span } from "../format";
import type { Input, Stream } from "./api";

// Maps: a name from the network looked up in an object may be one that every object has.
const CODECS = new Map(Object.entries({
  h264: "H.264",
  h265: "H.265",
  hevc: "H.265",
  av1: "AV1",
  aac: "AAC",
  opus: "Opus",
}));

const STATES = new Map(Object.entries({ idle: "Idle", live: "Live", reconnecting: "Reconnecting" }));

export function state(name: string): string {
  return STATES.get(name) ?? name;
}

export function codec(name: string): string {
  return CODECS.get(name.toLowerCase()) ?? name;
}

/** `H.264 1920×1080, 30 fps` */
export function video(input: Input): string {
  const { video } = input;
  return video ? `${codec(video.codec)} ${video.width}×${video.height}, ${fps(video.fps)} fps` : "No video";
}

/** `AAC 48 kHz stereo` */
export function audio(input: Input): string {
  const { audio } = input;
  return audio ? `${codec(audio.codec)} ${Number((audio.sample_rate / 1000).toFixed(2))} kHz ${channels(audio.channels)}` : "No audio";
}

function channels(count: number): string {
  return { 1: "mono", 2: "stereo", 6: "5.1", 8: "7.1" }[count] ?? `${count} channels`;
}

/** `RTMP · 5.9 Mbit/s` */
export function arrival(input: Input): string {
  return `${input.protocol.toUpperCase()} · ${bitrate(input.bitrate)}`;
}

export function count(n: number, one: string, many: string): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** For how long a session runs. */
export function running(stream: Stream, now: number): string {
  if (stream.state === "idle" || stream.started === null) return "";
  const since = Date.parse(stream.started);
  return Number.isNaN(since) ? "" : span((now - since) / 1000);
}

/** On air first; then by name, numbers in their order (`room-2` before `room-10`). */
export function ordered(streams: Stream[]): Stream[] {
  const byName = new Intl.Collator("en", { numeric: true });
  const rank = (stream: Stream) => (stream.state === "idle" ? 1 : 0);
  return [...streams].sort((a, b) => rank(a) - rank(b) || byName.compare(a.id, b.id));
}

/** One line over all streams: `3 live · 12 viewers · 17.7 Mbit/s in`. */
export function summary(streams: Stream[]): string {
  const live = streams.filter((stream) => stream.state !== "idle").length;
  const viewers = streams.reduce((sum, stream) => sum + stream.viewers, 0);
  const rate = streams.reduce((sum, stream) => sum + (stream.input?.bitrate ?? 0), 0);
  const parts = [`${live} of ${count(streams.length, "stream", "streams")} live`, count(viewers, "viewer", "viewers")];
  if (rate > 0) parts.push(`${bitrate(rate)} in`);
  return parts.join(" · ");
}
