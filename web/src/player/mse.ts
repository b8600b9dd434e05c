import Hls, { ErrorDetails, ErrorTypes, Events } from "hls.js";
import type { ErrorData, HlsConfig, LoaderStats, PlaylistLoaderConstructor } from "hls.js";
import workerPath from "hls.js/dist/hls.worker.js?url";
import { rung } from "../format";
import { PartAbr } from "./abr";
import { ServerClock } from "./clock";
import type { Choice, Engine, Listener } from "./engine";
import { PlaylistLoader } from "./first";
import { epochOf } from "./probe";

const retries = (maxNumRetry: number, retryDelayMs: number) => ({ maxNumRetry, retryDelayMs, maxRetryDelayMs: 2000 });

const CONFIG: Partial<HlsConfig> = {
  lowLatencyMode: true,
  workerPath,
  abrController: PartAbr,
  pLoader: PlaylistLoader as unknown as PlaylistLoaderConstructor,
  // A test download before the first picture costs more than a level too high for a second.
  testBandwidth: false,
  // Distance to the edge is kept by `Pace` and `Target`, which work below one second of buffer.
  maxLiveSyncPlaybackRate: 1,
  liveSyncOnStallIncrease: 0,
  liveDurationInfinity: true,
  // The way back for the arrow keys; the rest is fetched again.
  backBufferLength: 30,
  maxBufferLength: 15,
  maxMaxBufferLength: 30,
  // A stall is half the distance we hold: act before it is heard twice.
  detectStallWithCurrentTimeMs: 400,
  highBufferWatchdogPeriod: 1,
  // A rung dropped under load comes back; try it again.
  errorPenaltyExpireMs: 15_000,
  manifestLoadPolicy: {
    default: { maxTimeToFirstByteMs: 8000, maxLoadTimeMs: 10_000, timeoutRetry: null, errorRetry: null },
  },
  // The server holds a reload for up to three target durations.
  playlistLoadPolicy: {
    default: {
      maxTimeToFirstByteMs: 10_000,
      maxLoadTimeMs: 20_000,
      timeoutRetry: retries(2, 0),
      errorRetry: retries(5, 250),
    },
  },
  fragLoadPolicy: {
    default: {
      maxTimeToFirstByteMs: 8000,
      maxLoadTimeMs: 30_000,
      timeoutRetry: retries(2, 0),
      errorRetry: retries(5, 250),
    },
  },
};

/** hls.js over Media Source Extensions. */
export class Mse implements Engine {
  readonly hls: Hls;
  epoch: string | null = null;
  variants: string[] = [];
  private readonly clock = new ServerClock();
  private started = false;
  private recoveries: number[] = [];

  static supported(): boolean {
    return Hls.isSupported();
  }

  /** @param guess bits per second that an earlier visit saw, if any */
  constructor(
    private readonly video: HTMLVideoElement,
    url: string,
    private readonly on: Listener,
    guess: number | null,
  ) {
    const hls = (this.hls = new Hls(guess ? { ...CONFIG, abrEwmaDefaultEstimate: guess } : CONFIG));
    hls.on(Events.MANIFEST_LOADED, (_, { levels }) => {
      this.variants = levels.map((level) => level.url);
      this.epoch = this.variants[0] === undefined ? null : epochOf(this.variants[0]);
    });
    hls.on(Events.MANIFEST_PARSED, () => on.levels());
    hls.on(Events.LEVELS_UPDATED, () => on.levels());
    hls.on(Events.LEVEL_SWITCHED, () => on.levels());
    hls.on(Events.LEVEL_LOADED, (_, { details, stats, networkDetails }) => {
      this.observe(stats, networkDetails);
      // A session already over when the page opens is not a broadcast: do not replay it from its start.
      if (!details.live && !this.started) on.finished();
      this.started = true;
    });
    hls.on(Events.FRAG_LOADED, (_, { frag, part, networkDetails }) => this.observe((part ?? frag).stats, networkDetails));
    hls.on(Events.MEDIA_ENDED, () => on.finished());
    hls.on(Events.ERROR, (_, data) => this.error(data));
    hls.attachMedia(video);
    hls.loadSource(url);
  }

  get choices(): Choice[] {
    return this.hls.levels.map((level, index) => ({ index, label: rung(level), bitrate: level.bitrate }));
  }

  get chosen(): number {
    return this.hls.manualLevel;
  }

  get level(): number {
    return this.hls.currentLevel;
  }

  choose(index: number): void {
    this.hls.nextLevel = index;
  }

  latency(): number | null {
    const behind = this.behind();
    const playing = this.hls.playingDate?.getTime();
    const now = this.clock.at(performance.now());
    if (behind === null || playing === undefined || now === null) return behind;
    const seconds = (now - playing) / 1000;
    // A broadcast is never seen before its playlist shows it, nor much longer after: else the dates are wrong.
    return seconds > behind - 0.5 && seconds < behind + 30 ? seconds : behind;
  }

  behind(): number | null {
    // hls.js keeps its own figure only while the playhead moves.
    const details = this.hls.latestLevelDetails;
    return details?.live && this.started ? details.edge + details.age - this.video.currentTime : null;
  }

  advised(): number {
    const details = this.hls.latestLevelDetails;
    return details ? details.partHoldBack || details.holdBack || 3 * details.targetduration : 3;
  }

  part(): number {
    const details = this.hls.latestLevelDetails;
    return details ? details.partTarget || details.targetduration : 1;
  }

  late(): number {
    const details = this.hls.latestLevelDetails;
    return details?.live ? Math.max(0, details.age - (details.partTarget || details.targetduration * 1.5)) : 0;
  }

  over(): boolean {
    return this.hls.latestLevelDetails?.live === false;
  }

  edge(target: number): number | null {
    const details = this.hls.latestLevelDetails;
    return details ? Math.max(details.fragmentStart, details.edge + Math.min(details.age, target) - target) : null;
  }

  hold(target: number): void {
    if (Math.abs((this.hls.targetLatency ?? 0) - target) > 0.01) this.hls.targetLatency = target;
  }

  bandwidth(): number | null {
    const bps = this.hls.bandwidthEstimate;
    return Number.isFinite(bps) ? bps : null;
  }

  destroy(): void {
    this.hls.destroy();
  }

  private observe(stats: LoaderStats, details: unknown): void {
    if (!(details instanceof XMLHttpRequest)) return;
    // A stored answer is dated when it was first given.
    const date = details.getResponseHeader("Date");
    if (date && !details.getResponseHeader("Age")) this.clock.observe(Date.parse(date), stats.loading.start, stats.loading.first);
  }

  private error(data: ErrorData): void {
    const status = data.response?.code ?? 0;
    if (!data.fatal) {
      const playlist =
        data.details === ErrorDetails.LEVEL_LOAD_ERROR || data.details === ErrorDetails.AUDIO_TRACK_LOAD_ERROR;
      if (playlist && (status === 404 || status === 410)) this.on.suspicious();
      return;
    }
    if (data.details === ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) {
      this.on.foreign();
      return;
    }
    if (data.type === ErrorTypes.MEDIA_ERROR) {
      const now = performance.now();
      this.recoveries = this.recoveries.filter((at) => now - at < 10_000);
      if (this.recoveries.length < 2) {
        this.recoveries.push(now);
        this.hls.recoverMediaError();
        return;
      }
    }
    this.on.failed(data.details, data.details === ErrorDetails.MANIFEST_LOAD_ERROR ? status : 0);
  }
}
