import type { Choice, Engine, Listener } from "./engine";

const TYPE = "application/vnd.apple.mpegurl";
/** Seconds between the end of what a browser lists as seekable and what it advises to play. */
const EDGE = 1;

/** WebKit: the date of media time 0, as the playlist's EXT-X-PROGRAM-DATE-TIME maps it. */
type Dated = HTMLVideoElement & { getStartDate?: () => Date };

/** The browser's own HLS, where there is no Media Source (iPhones before iOS 17.1). It keeps level and edge itself. */
export class Native implements Engine {
  readonly hls = null;
  readonly variants: string[] = [];
  readonly chosen = -1;
  readonly level = -1;
  readonly choices: Choice[] = [];
  private readonly abort = new AbortController();

  static supported(video: HTMLVideoElement): boolean {
    return video.canPlayType(TYPE) !== "";
  }

  constructor(
    private readonly video: Dated,
    url: string,
    on: Listener,
    readonly epoch: string | null,
  ) {
    const { signal } = this.abort;
    video.addEventListener("ended", () => on.finished(), { signal });
    video.addEventListener("error", () => on.failed(`media error ${video.error?.code ?? 0}`, 0), { signal });
    video.addEventListener("resize", () => on.levels(), { signal });
    // A session already over has a length; a broadcast has none.
    video.addEventListener(
      "loadedmetadata",
      () => {
        if (Number.isFinite(video.duration)) on.finished();
      },
      { signal },
    );
    video.src = url;
  }

  choose(): void {}

  latency(): number | null {
    const start = this.video.getStartDate?.().getTime();
    if (start === undefined || Number.isNaN(start)) return this.behind();
    const seconds = (Date.now() - start) / 1000 - this.video.currentTime;
    return seconds > 0 ? seconds : this.behind();
  }

  behind(): number | null {
    const end = this.end();
    return end === null ? null : Math.max(0, end - this.video.currentTime);
  }

  advised(): number {
    return EDGE;
  }

  part(): number {
    return 1;
  }

  late(): number {
    return 0;
  }

  over(): boolean {
    return this.video.ended;
  }

  edge(target: number): number | null {
    const end = this.end();
    return end === null ? null : Math.max(0, end - target);
  }

  hold(): void {}

  bandwidth(): null {
    return null;
  }

  destroy(): void {
    this.abort.abort();
    this.video.removeAttribute("src");
    this.video.load();
  }

  private end(): number | null {
    const { seekable } = this.video;
    return seekable.length > 0 ? seekable.end(seekable.length - 1) : null;
  }
}
