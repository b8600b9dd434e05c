import type { Engine } from "./engine";
import { Mse } from "./mse";
import { Native } from "./native";
import { describe, type Facts, type Notice } from "./notice";
import { Pace, Target } from "./pace";
import { classify, delay, probe, type Probe } from "./probe";

const TICK_MS = 200;
/** Seconds between looks for rungs that came back, while all is well. */
const REFRESH = 30;
/** Seconds an engine may wait for media that the server has, or has not, before it is started anew. */
const PATIENCE = 6;
const PATIENCE_LATE = 30;
/** Seconds without a step of the playhead, after which playback is not called so. */
const FROZEN = 1;
/** Seconds of waiting after which the playlist is looked at. */
const DOUBT = 1;
const GUESS = "headwater.bandwidth";

export interface Stats {
  phase: Notice["phase"];
  epoch: string | null;
  currentTime: number;
  /** Seconds behind the broadcast, by the server's clock where that is known. */
  latency: number | null;
  /** Seconds behind the playlist's live edge, and what that is held to. */
  behind: number | null;
  target: number;
  buffer: number;
  playbackRate: number;
  level: number;
  levelName: string;
  levels: string[];
  switches: number;
  bandwidth: number | null;
  droppedFrames: number;
  totalFrames: number;
  stalls: number;
  stalledSeconds: number;
  /** Engines started since the first picture. */
  restarts: number;
  /** Milliseconds from navigation to the first picture; null before it. */
  firstFrame: number | null;
}

/**
 * Keeps one stream on one video element, for as long as the page is open: starts an engine for each session
 * that appears below the URL, holds its distance to the edge, and looks for the next session when it ends.
 */
export class Watch {
  engine: Engine | null = null;
  /** At the edge, or catching up with it; false while the viewer looks at the past. */
  following = true;
  /** The browser forbids to start without a click, even without sound. */
  blocked = false;
  private facts: Facts = { engine: "none", probe: null, played: false, ended: false, foreign: false, late: 0 };
  private pace = new Pace();
  /** Nothing of this engine's has been seen yet. */
  private fresh = true;
  private target = new Target();
  private wanted = true;
  private endedEpoch: string | null = null;
  private since = now();
  private nextLook = 0;
  private looks = 0;
  private looking = false;
  private doubt = false;
  private attempts = 0;
  private notBefore = 0;
  private started = 0;
  private lastLevel = -1;
  private lastTime = 0;
  private lastMove = 0;
  private stallStart: number | null = null;
  private counters = { stalls: 0, stalledSeconds: 0, restarts: 0, switches: 0, firstFrame: null as number | null };

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly url: string,
    private readonly changed: () => void,
  ) {
    video.addEventListener("playing", () => this.playing());
    video.addEventListener("waiting", () => this.waiting());
    video.addEventListener("play", () => (this.wanted = true));
    video.addEventListener("pause", () => {
      // Browsers pause by themselves: muted video in hidden pages, and what they fail to decode.
      if (document.hidden || video.ended || video.error || !this.engine) return;
      this.wanted = false;
      this.following = false;
    });
    // An engine that mends its media starts from nothing, and paused.
    video.addEventListener("emptied", () => {
      if (!this.engine || this.facts.engine === "starting") return;
      this.set("starting");
      if (this.wanted) this.play();
    });
    video.addEventListener("timeupdate", () => this.endStall());
    video.addEventListener("loadeddata", () => (this.counters.firstFrame ??= performance.now()), { once: true });
    const look = () => {
      this.nextLook = 0;
      this.looks = 0;
    };
    window.addEventListener("online", look);
    document.addEventListener("visibilitychange", () => document.hidden || look());
    window.setInterval(() => this.tick(), TICK_MS);
    if (Mse.supported()) this.start(null);
    else if (Native.supported(video)) void this.look();
    else this.set("unsupported");
  }

  get notice(): Notice {
    return describe(this.facts);
  }

  /** Near enough to the edge to be called live. */
  get live(): boolean {
    if (!this.following || this.facts.engine !== "playing") return false;
    const behind = this.engine?.behind() ?? null;
    // A browser's own HLS need not tell where it is.
    return behind === null || behind < this.aim() + 1.5;
  }

  toggle(): void {
    if (this.video.paused) this.play();
    else this.video.pause();
  }

  /** To the live edge, and on from there. */
  goLive(): void {
    this.following = true;
    const edge = this.engine?.edge(this.aim());
    // Near the edge, catching up is smoother than a jump.
    if (edge != null && Math.abs(edge - this.video.currentTime) > 1) this.video.currentTime = edge;
    this.play();
    this.changed();
  }

  seek(seconds: number): void {
    const { seekable, currentTime } = this.video;
    const edge = this.engine?.edge(this.aim());
    if (edge == null || seekable.length === 0) return;
    if (currentTime + seconds >= edge) {
      this.goLive();
      return;
    }
    this.following = false;
    this.video.playbackRate = 1;
    this.video.currentTime = Math.max(seekable.start(0), currentTime + seconds);
    this.changed();
  }

  choose(level: number): void {
    this.engine?.choose(level);
    this.changed();
  }

  stats(): Stats {
    const { engine, video } = this;
    const quality = video.getVideoPlaybackQuality();
    const { stalls, stalledSeconds, restarts, switches, firstFrame } = this.counters;
    return {
      phase: this.notice.phase,
      epoch: engine?.epoch ?? null,
      currentTime: video.currentTime,
      latency: engine?.latency() ?? null,
      behind: engine?.behind() ?? null,
      target: this.aim(),
      buffer: this.buffer(),
      playbackRate: video.playbackRate,
      level: engine?.level ?? -1,
      levelName: engine?.choices[engine.level]?.label ?? "",
      levels: engine?.choices.map((choice) => choice.label) ?? [],
      switches,
      bandwidth: engine?.bandwidth() ?? null,
      droppedFrames: quality.droppedVideoFrames,
      totalFrames: quality.totalVideoFrames,
      stalls,
      stalledSeconds: stalledSeconds + (this.stallStart === null ? 0 : now() - this.stallStart),
      restarts,
      firstFrame,
    };
  }

  private start(epoch: string | null): void {
    const { video, url } = this;
    const mse = Mse.supported();
    // Listeners outlive their engine by a turn of the event loop: only the present one is heard.
    const mine = (what: () => void) => () => void setTimeout(() => this.engine === engine && what());
    const on = {
      levels: mine(() => this.levels()),
      finished: mine(() => this.finish()),
      foreign: mine(() => this.finish(true)),
      suspicious: mine(() => (this.doubt = true)),
      failed: (_reason: string, status: number) => mine(() => this.fail(status))(),
    };
    const engine: Engine = mse ? new Mse(video, url, on, remembered()) : new Native(video, url, on, epoch);
    this.engine = engine;
    this.pace = new Pace();
    this.fresh = true;
    this.following = true;
    this.started = now();
    this.lastLevel = -1;
    if (this.facts.played) this.counters.restarts++;
    this.facts.ended = false;
    this.facts.foreign = false;
    this.facts.probe = null;
    this.set("starting");
    if (this.wanted) this.play();
  }

  private stop(): void {
    const bps = this.engine?.bandwidth();
    if (bps) remember(bps);
    this.engine?.destroy();
    this.engine = null;
    this.endStall();
    this.nextLook = 0;
    this.looks = 0;
    this.set("none");
  }

  private play(): void {
    this.blocked = false;
    this.video.play().catch((error: unknown) => {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      if (this.video.muted) this.blocked = true;
      else {
        this.video.muted = true;
        this.play();
      }
      this.changed();
    });
  }

  /** This session has no more to give; the next one may. */
  private finish(foreign = false): void {
    this.endedEpoch = this.engine?.epoch ?? null;
    this.facts.ended = true;
    this.facts.foreign = foreign;
    this.stop();
  }

  private fail(status: number): void {
    // Those that fail at once are started again ever more slowly.
    this.attempts = now() - this.started > 10 ? 1 : this.attempts + 1;
    this.notBefore = now() + Math.min(5, this.attempts - 1);
    this.stop();
    if (status > 0) {
      this.heed(classify(status, ""));
      this.schedule();
    }
  }

  private playing(): void {
    this.endStall();
    this.lastMove = now();
    this.facts.played = true;
    this.facts.probe = null;
    this.looks = 0;
    this.nextLook = now() + REFRESH;
    this.set("playing");
  }

  private waiting(): void {
    if (!this.engine || this.facts.engine !== "playing") return;
    if (!this.video.seeking) {
      this.counters.stalls++;
      this.stallStart = now();
      this.target.stalled(now());
    }
    this.set("waiting");
  }

  private endStall(): void {
    if (this.stallStart === null) return;
    this.counters.stalledSeconds += now() - this.stallStart;
    this.stallStart = null;
  }

  private levels(): void {
    const level = this.engine?.level ?? -1;
    if (level >= 0 && level !== this.lastLevel) {
      if (this.lastLevel >= 0) this.counters.switches++;
      this.lastLevel = level;
    }
    this.changed();
  }

  private tick(): void {
    const { engine, facts } = this;
    const before = this.notice;
    facts.late = engine?.late() ?? 0;
    this.watchTime();
    if (engine && facts.engine === "playing") this.keepPace(engine);
    if (this.notice.phase !== before.phase) this.changed();
    if (!this.looking && this.due()) void this.look();
  }

  /** Notices what the element's events do not tell. */
  private watchTime(): void {
    const { currentTime, paused, readyState, seeking } = this.video;
    const moved = currentTime !== this.lastTime;
    this.lastTime = currentTime;
    if (moved || paused || seeking) this.lastMove = now();
    const { engine } = this.facts;
    // hls.js does not always tell the end where audio and video end apart.
    if (engine === "waiting" && this.engine?.over() && now() - this.since > FROZEN) this.finish();
    // A paused video has no "playing" event to say that it could go on.
    else if ((engine === "waiting" || engine === "starting") && readyState >= 3 && (moved || paused)) this.playing();
    else if (engine === "playing" && now() - this.lastMove > FROZEN) this.waiting();
  }

  /** Whether it is time to look at the playlist. */
  private due(): boolean {
    if (this.doubt) return true;
    if (now() < this.nextLook) return false;
    switch (this.facts.engine) {
      case "none":
        return now() >= this.notBefore;
      case "playing":
        return true;
      case "unsupported":
        return false;
      default:
        return now() - this.since > DOUBT;
    }
  }

  private keepPace(engine: Engine): void {
    const { video } = this;
    const behind = engine.behind();
    const target = this.aim();
    engine.hold(target);
    if (behind === null || video.paused || video.seeking) return;
    if (!this.following) {
      this.following = behind - target < 3;
      if (video.playbackRate !== 1) video.playbackRate = 1;
      return;
    }
    // The browser's own HLS keeps its distance itself.
    if (!engine.hls) return;
    if (this.fresh) {
      // The time that starting took has not been seen by anyone: skip what is already loaded of it.
      this.fresh = false;
      const to = Math.min(engine.edge(target) ?? 0, video.currentTime + this.buffer() - 2 * engine.part());
      if (to > video.currentTime + 0.25) video.currentTime = to;
      return;
    }
    const step = this.pace.step({ latency: behind, target, buffer: this.buffer(), part: engine.part() });
    if (step === "seek") {
      const edge = engine.edge(target);
      if (edge !== null && edge > video.currentTime) video.currentTime = edge;
    } else if (video.playbackRate !== step) {
      video.playbackRate = step;
    }
  }

  private async look(): Promise<void> {
    this.looking = true;
    this.doubt = false;
    const found = await probe(this.url);
    this.looking = false;
    this.schedule();
    this.heed(found);
  }

  private schedule(): void {
    const wait = this.facts.engine === "playing" ? REFRESH * 1000 : delay(this.looks++, Math.random());
    this.nextLook = now() + wait / 1000;
  }

  private heed(found: Probe): void {
    const { engine, facts } = this;
    const playing = facts.engine === "playing";
    if (!playing) facts.probe = found.kind;
    if (found.kind === "live") {
      if (!engine) {
        if (found.epoch !== this.endedEpoch && now() >= this.notBefore) this.start(found.epoch);
      } else if (engine.epoch !== null && engine.epoch !== found.epoch) {
        // What has its end listed is played to it; what was cut off is left at once.
        if (!playing || engine.behind() !== null) this.restart(found.epoch);
      } else if (playing) {
        if (lacks(engine, found)) this.restart(found.epoch);
      } else if (now() - this.since > (facts.late > 2 ? PATIENCE_LATE : PATIENCE)) {
        this.restart(found.epoch);
      }
    } else if (engine && !playing && (found.kind === "offline" || found.kind === "refused")) {
      // Gone without a farewell: nothing that it waits for can come.
      facts.ended = found.kind === "offline";
      this.stop();
      this.schedule();
    }
    this.changed();
  }

  private restart(epoch: string): void {
    this.stop();
    this.start(epoch);
  }

  private set(engine: Facts["engine"]): void {
    if (this.facts.engine !== engine) this.since = now();
    this.facts.engine = engine;
    this.changed();
  }

  private aim(): number {
    return this.target.seconds(this.engine?.advised() ?? 1, now());
  }

  /** Seconds that can be played without anything more arriving. */
  private buffer(): number {
    const { buffered, currentTime } = this.video;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + 0.1 && buffered.end(i) > currentTime) return buffered.end(i) - currentTime;
    }
    return 0;
  }
}

/** Whether the same session now has a variant that the engine does not know. */
function lacks(engine: Engine, found: Probe & { kind: "live" }): boolean {
  if (engine.epoch !== found.epoch || engine.variants.length === 0) return false;
  return found.variants.some((uri) => !engine.variants.some((known) => known.endsWith(`/${uri}`)));
}

/** Seconds on the page's own clock, which nothing sets back. */
function now(): number {
  return performance.now() / 1000;
}

function remember(bps: number): void {
  try {
    localStorage.setItem(GUESS, String(Math.round(bps)));
  } catch {
    // Storage may be forbidden; then each visit starts without a guess.
  }
}

function remembered(): number | null {
  try {
    const bps = Number(localStorage.getItem(GUESS));
    return bps > 0 ? Math.min(8e6, Math.max(2e5, bps)) : null;
  } catch {
    return null;
  }
}
