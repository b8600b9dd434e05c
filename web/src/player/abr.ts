import Hls, { AbrController, Events } from "hls.js";
import type { BufferAppendedData, FragBufferedData, FragLoadedData } from "hls.js";
import { Bandwidth } from "./bandwidth";
import { rescue } from "./rescue";

/** Seconds of downloads that a guess is worth: it gives way to the first part. */
const GUESS_TRUST = 0.1;

/**
 * hls.js's own choice of level, told of every part. By itself it looks at a segment's last part only, and
 * watches over its first only: on a link that becomes slow it stalls for segments before it steps down.
 */
export class PartAbr extends AbrController {
  private segment = { sn: -1, level: -1, bits: 0, seconds: 0 };
  private estimator!: Bandwidth;

  constructor(hls: Hls) {
    super(hls);
    this.estimate(GUESS_TRUST);
  }

  /** Called with the first level's rate before anything is known, later where a level turns out too much. */
  override resetEstimator(bps?: number): void {
    const known = this.bwEstimator.canEstimate();
    super.resetEstimator(bps);
    this.estimate(known ? Bandwidth.SETTLED : GUESS_TRUST);
  }

  protected override onFragLoaded(event: Events.FRAG_LOADED, data: FragLoadedData): void {
    super.onFragLoaded(event, data);
    const { frag, part } = data;
    if (frag.type !== "main" || frag.sn === "initSegment") return;
    const { loading, loaded } = (part ?? frag).stats;
    const waited = Math.min(loading.first - loading.start, this.estimator.getEstimateTTFB());
    this.estimator.sample(loading.end - loading.start - waited, loaded);
    if (!part) return;
    if (this.segment.sn !== frag.sn || this.segment.level !== frag.level) {
      this.segment = { sn: frag.sn, level: frag.level, bits: 0, seconds: 0 };
    }
    this.segment.bits += loaded * 8;
    this.segment.seconds += part.duration;
  }

  protected override registerListeners(): void {
    super.registerListeners();
    this.hls.on(Events.BUFFER_APPENDED, this.onAppended, this);
  }

  protected override unregisterListeners(): void {
    super.unregisterListeners();
    this.hls?.off(Events.BUFFER_APPENDED, this.onAppended, this);
  }

  /** hls.js samples here as well, over times that hold the wait for parts that did not exist yet. */
  protected override onFragBuffered(event: Events.FRAG_BUFFERED, data: FragBufferedData): void {
    this.estimator.paused = true;
    super.onFragBuffered(event, data);
    this.estimator.paused = false;
  }

  /**
   * A part is in the buffer and the next one on its way: the moment at which hls.js can be interrupted. While
   * a part is still being parsed it cannot: its result would put the loader back into a state nobody ends.
   */
  private onAppended(_: Events.BUFFER_APPENDED, { frag, part, type }: BufferAppendedData): void {
    const { hls } = this;
    const { sn, level, bits, seconds } = this.segment;
    if (type === "audio" || !part || frag.type !== "main" || frag.sn !== sn || frag.level !== level) return;
    const details = hls.latestLevelDetails;
    if (!hls.autoLevelEnabled || hls.loadLevel !== level || !details || frag.loader === null) return;
    // Before the first picture nothing can run dry.
    if (!hls.media || hls.media.paused || hls.media.readyState === 0) return;
    const next = rescue({
      bandwidth: this.estimator.getEstimate(),
      delay: this.estimator.getEstimateTTFB() / 1000,
      buffer: hls.mainForwardBufferInfo?.len ?? 0,
      loaded: part.end - frag.start,
      left: details.targetduration - (part.end - frag.start),
      rate: bits / seconds,
      lower: hls.levels.slice(hls.minAutoLevel, level).map(({ maxBitrate }) => maxBitrate),
    });
    if (next === null) return;
    hls.nextAutoLevel = hls.minAutoLevel + next;
    hls.nextLoadLevel = hls.nextAutoLevel;
    frag.abortRequests();
    hls.trigger(Events.FRAG_LOAD_EMERGENCY_ABORTED, { frag, part, stats: part.stats });
  }

  private estimate(trust: number): void {
    this.estimator = new Bandwidth(this.hls.config.abrEwmaDefaultEstimate, trust);
    // The declared class has private fields, which no other class can have; its public face is all that is used.
    this.bwEstimator = this.estimator as unknown as typeof this.bwEstimator;
  }
}
