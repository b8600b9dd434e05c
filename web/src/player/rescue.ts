/** A segment half loaded, part by part, and the means to load the rest. */
export interface Plight {
  /** Bits per second the link carries. */
  bandwidth: number;
  /** Seconds from a request to its first byte. */
  delay: number;
  /** Seconds buffered ahead of the playhead. */
  buffer: number;
  /** Seconds of the segment loaded, and still to come. */
  loaded: number;
  left: number;
  /** Bits per second that the loaded parts really had. */
  rate: number;
  /** Declared bits per second of the levels below this one, lowest first. */
  lower: number[];
}

/** What is left in the buffer when a lower level's picture is in place, at the least. */
const RESERVE = 0.1;

/**
 * Whether to give up a segment on a link that has become too slow for it, and for which lower level; null to
 * go on. A new level can only begin at a segment's start, so a switch pays for what was loaded once more:
 * done too late it costs more than it saves, and done at the end it comes for nothing.
 */
export function rescue({ bandwidth, delay, buffer, loaded, left, rate, lower }: Plight): number | null {
  if (lower.length === 0 || left <= 0) return null;
  const going = (left * rate) / bandwidth;
  // Played while it loads: what counts is by how much loading falls behind.
  if (buffer + left - going > RESERVE) return null;
  let level = lower.length - 1;
  while (level > 0 && (lower[level] as number) > bandwidth * 0.8) level--;
  // The level's playlist, its initialisation section, then its parts up to here.
  const switching = 3 * delay + (loaded * (lower[level] as number)) / bandwidth;
  return switching < going ? level : null;
}
