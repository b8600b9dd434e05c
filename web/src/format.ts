/** Numbers as people read them. All pure; a value that is not known is a dash. */

export const DASH = "–";

/** Bits per second, three significant digits: `2.5 Mbit/s`, `128 kbit/s`. */
export function bitrate(bps: number | null | undefined): string {
  if (bps === null || bps === undefined || !Number.isFinite(bps) || bps < 0) return DASH;
  if (bps >= 999_500_000) return `${digits(bps / 1e9)} Gbit/s`;
  if (bps >= 999_500) return `${digits(bps / 1e6)} Mbit/s`;
  return `${digits(bps / 1e3)} kbit/s`;
}

function digits(value: number): string {
  const places = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return String(Number(value.toFixed(places)));
}

/** Frames per second: `30`, `29.97`. */
export function fps(rate: number | null | undefined): string {
  return rate && Number.isFinite(rate) ? String(Number(rate.toFixed(2))) : DASH;
}

/** Seconds as a span of time: `42 s`, `5 min`, `3 h 07 min`, `2 d 4 h`. */
export function span(seconds: number): string {
  if (!Number.isFinite(seconds)) return DASH;
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Seconds behind live: tenths while they matter. */
export function latency(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return "";
  const s = Math.max(0, seconds);
  return s < 9.95 ? `${s.toFixed(1)} s` : span(Math.round(s));
}

export interface Picture {
  width: number;
  height: number;
  frameRate?: number;
}

/** A rung's everyday name, by its shorter side so that portrait reads like landscape: `720p`, `1080p60`. */
export function rung({ width, height, frameRate = 0 }: Picture): string {
  const side = Math.min(width || height, height || width);
  if (!side) return "Audio";
  return `${side}p${frameRate > 31 ? Math.round(frameRate) : ""}`;
}
