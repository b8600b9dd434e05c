import type Hls from "hls.js";

/** One of the stream's levels, as offered in the quality menu. */
export interface Choice {
  index: number;
  label: string;
  bitrate: number;
}

/** What an engine reports while it plays one session. */
export interface Listener {
  /** Levels, or the one playing, have changed. */
  levels(): void;
  /** The session is over and all of it was played. */
  finished(): void;
  /** The engine cannot go on. `status` is the HTTP status behind it, 0 if there was none. */
  failed(reason: string, status: number): void;
  /** The browser has a decoder for none of the variants. */
  foreign(): void;
  /** A playlist is gone: the session may have been replaced by another. */
  suspicious(): void;
}

/** Plays one session of a stream in a video element. Made for one session, thrown away after it. */
export interface Engine {
  readonly hls: Hls | null;
  /** The session's epoch, once known. */
  readonly epoch: string | null;
  /** Every variant in the playlist this engine loaded, playable or not, as resolved URLs; empty where the browser keeps them. */
  readonly variants: string[];
  readonly choices: Choice[];
  /** The level the viewer asked for, -1 for automatic. */
  readonly chosen: number;
  /** Index of the level in the picture, -1 when not known. */
  readonly level: number;
  choose(index: number): void;
  /** Seconds behind the broadcast: by the server's clock where known, else behind the playlist's end. */
  latency(): number | null;
  /** Seconds behind the playlist's live edge. */
  behind(): number | null;
  /** Seconds behind the edge that the server advises. */
  advised(): number;
  /** Seconds of one partial segment, or of a segment without parts. */
  part(): number;
  /** Seconds by which the playlist is late in advancing. */
  late(): number;
  /** Nothing will be added to the playlist any more. */
  over(): boolean;
  /** Where to seek to be `target` seconds behind the edge. */
  edge(target: number): number | null;
  /** Takes over the distance to hold, for the engine's own seeks. */
  hold(target: number): void;
  bandwidth(): number | null;
  destroy(): void;
}
