/**
 * Holds the distance to the live edge by playing a little faster or slower.
 *
 * hls.js catches up only while more than a second is buffered, which at a hold-back of 0.75 s is never: it
 * would stay wherever the start left it. This does the same work with guards measured in parts.
 */
export interface Moment {
  /** Seconds between playhead and live edge. */
  latency: number;
  /** Seconds we want that to be. */
  target: number;
  /** Seconds buffered ahead of the playhead. */
  buffer: number;
  /** Seconds of one partial segment (or of a segment, without parts). */
  part: number;
}

export class Pace {
  static readonly FASTEST = 1.25;
  static readonly SLOWEST = 0.95;
  /** Seconds beyond the target at which playing faster would take too long to be worth it: seek. */
  static readonly SEEK = 3;
  private correcting = false;

  /** The playback rate for this moment, or "seek" to the edge. */
  step({ latency, target, buffer, part }: Moment): number | "seek" {
    const behind = latency - target;
    if (behind > Pace.SEEK) return "seek";
    // The edge itself is only seen part by part; closer than that there is nothing to correct. Once at it,
    // go on to the middle of the band, or the rate would flutter at its rim.
    const band = this.correcting ? 0.04 : Math.max(0.1, part / 2);
    this.correcting = Math.abs(behind) > band;
    if (!this.correcting) return 1;
    // Catching up eats the buffer: keep a part and a half for the network's jitter.
    if (behind > 0 && buffer < part * 1.5) return 1;
    const rate = Math.min(Pace.FASTEST, Math.max(Pace.SLOWEST, 1 + behind * 0.4));
    // Each change restarts the browser's time-stretching: few steps, not many.
    return Math.round(rate * 40) / 40;
  }
}

/** The distance to hold: what the server advises, plus what this viewer's stalls have taught. */
export class Target {
  static readonly STEP = 0.25;
  static readonly MOST = 3;
  /** Seconds without a stall after which one step is taken back. */
  static readonly CALM = 30;
  private extra = 0;
  private since = 0;

  stalled(now: number): void {
    this.extra = Math.min(Target.MOST, this.extra + Target.STEP);
    this.since = now;
  }

  /** @param advised seconds: PART-HOLD-BACK, or HOLD-BACK without parts; `now` in seconds */
  seconds(advised: number, now: number): number {
    while (this.extra > 0 && now - this.since >= Target.CALM) {
      this.extra = Math.max(0, this.extra - Target.STEP);
      this.since += Target.CALM;
    }
    return advised + this.extra;
  }
}
