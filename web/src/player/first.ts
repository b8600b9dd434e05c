import Hls from "hls.js";
import type { HlsConfig, LoaderCallbacks, LoaderConfiguration, LoaderContext } from "hls.js";

/**
 * The number of the segment that a media playlist lists parts of, where it lists no whole one; else null.
 *
 * hls.js begins with a whole segment. A playlist without one is empty to it, and it comes back ever more slowly.
 */
export function unfinished(playlist: string): number | null {
  if (/^#(?:EXTINF|EXT-X-SKIP|EXT-X-ENDLIST)/m.test(playlist) || !/^#EXT-X-PART:/m.test(playlist)) return null;
  if (!/^#EXT-X-SERVER-CONTROL:.*CAN-BLOCK-RELOAD=YES/m.test(playlist)) return null;
  return Number(/^#EXT-X-MEDIA-SEQUENCE:(\d+)/m.exec(playlist)?.[1] ?? 0);
}

/** Loads playlists, and at the start of a broadcast holds on until the first segment is whole. */
export class PlaylistLoader extends Hls.DefaultConfig.loader {
  private held: PlaylistLoader | null = null;

  constructor(private readonly told: HlsConfig) {
    super(told);
  }

  override load(context: LoaderContext, config: LoaderConfiguration, callbacks: LoaderCallbacks<LoaderContext>): void {
    super.load(context, config, {
      ...callbacks,
      onSuccess: (response, ...rest) => {
        const number = typeof response.data === "string" ? unfinished(response.data) : null;
        if (number === null) {
          callbacks.onSuccess(response, ...rest);
          return;
        }
        const { url } = context;
        const held = { ...context, url: `${url}${url.includes("?") ? "&" : "?"}_HLS_msn=${number}` };
        this.held = new PlaylistLoader(this.told);
        this.held.load(held, config, {
          ...callbacks,
          // Where the playlist lies has not changed.
          onSuccess: (whole, ...rest) => callbacks.onSuccess({ ...whole, url: response.url }, ...rest),
        });
      },
    });
  }

  override abort(): void {
    this.held?.abort();
    super.abort();
  }

  override destroy(): void {
    this.held?.destroy();
    super.destroy();
  }
}
