/**
 * What the link carries, learnt from partial segments.
 *
 * hls.js weighs each download by how long it took. With parts of a quarter of a second that fails both
 * ways: on a fast link a part takes milliseconds and counts for nothing, so after a slow spell the level
 * stays down for minutes; and one fast burst, averaged as a rate, hides the slow parts beside it.
 * Here the mean is over *time per bit*, in which slow downloads dominate by nature (quick to go down),
 * and each part has a least weight (sure to come back up).
 */
export class Bandwidth {
  /** Seconds of download after which what was known before counts half. */
  static readonly HALF_LIFE = 1.2;
  /** Least weight of one download, in seconds. Four parts a second, so three seconds a half-life. */
  static readonly LEAST_WEIGHT = 0.1;
  /** Weight of everything remembered, once there is much of it. */
  static readonly SETTLED = Bandwidth.HALF_LIFE / Math.LN2;

  readonly defaultEstimate: number;
  /** While set, samples are ignored. */
  paused = false;
  private weighted: number;
  private weight: number;
  private sampled = false;
  private ttfbMs = 100;

  /** @param prior bits per second believed before the first download, worth `trust` seconds of downloads. */
  constructor(prior: number, trust: number) {
    this.defaultEstimate = prior;
    this.weight = trust;
    this.weighted = trust / prior;
  }

  sample(durationMs: number, bytes: number): void {
    if (this.paused || !(bytes > 0) || !Number.isFinite(durationMs)) return;
    // No clock in a browser is finer than a tenth of a millisecond.
    const seconds = Math.max(durationMs, 0.1) / 1000;
    const weight = Math.max(seconds, Bandwidth.LEAST_WEIGHT);
    const keep = 0.5 ** (weight / Bandwidth.HALF_LIFE);
    this.weighted = this.weighted * keep + (weight * seconds) / (bytes * 8);
    this.weight = this.weight * keep + weight;
    this.sampled = true;
  }

  sampleTTFB(ms: number): void {
    if (!(ms >= 0)) return;
    this.ttfbMs += (Math.max(ms, 5) - this.ttfbMs) * 0.2;
  }

  canEstimate(): boolean {
    return this.sampled;
  }

  /** Bits per second. */
  getEstimate(): number {
    return this.weight / this.weighted;
  }

  /** Milliseconds from request to first byte. */
  getEstimateTTFB(): number {
    return this.ttfbMs;
  }

  /** hls.js sets half-lives for live and on-demand streams here; ours are the same for both. */
  update(): void {}

  destroy(): void {}
}
