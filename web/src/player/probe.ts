/** What `GET /live/ID/index.m3u8` says about a stream. */
export type Probe =
  /** Playable. The epoch names the session: another epoch, another broadcast on the same URL. */
  | { kind: "live"; epoch: string; variants: string[] }
  /** The server answers and has nothing to play. */
  | { kind: "offline" }
  /** The server does not answer, or not sensibly. */
  | { kind: "away" }
  /** The server will not show this stream to this viewer. */
  | { kind: "refused" };

/** Reads a multivariant playlist: the epoch its renditions lie below, and their URIs. */
export function classify(status: number, body: string): Probe {
  if (status === 401 || status === 403) return { kind: "refused" };
  if (status >= 400 && status < 500 && status !== 408 && status !== 429) return { kind: "offline" };
  if (status !== 200) return { kind: "away" };
  if (!body.startsWith("#EXTM3U")) return { kind: "away" };
  const variants = body
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  const first = variants[0];
  return first === undefined ? { kind: "offline" } : { kind: "live", epoch: epochOf(first), variants };
}

/** `EPOCH/RENDITION/index.m3u8`, relative or resolved: the segment before the last two. */
export function epochOf(uri: string): string {
  const path = uri.replace(/[?#].*$/s, "").split("/");
  return path[path.length - 3] ?? uri;
}

export async function probe(url: string, timeoutMs = 5000): Promise<Probe> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), timeoutMs);
  try {
    const answer = await fetch(url, { cache: "no-store", signal: abort.signal });
    return classify(answer.status, await answer.text());
  } catch {
    return { kind: "away" };
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Milliseconds until the next look, the n-th (from 0) since the stream was last seen: about a second in the
 * first minute, when a broadcaster is most likely to return, then slower, so that a page left open over
 * night costs the server little. Spread by `random` (0..1) so that an audience does not knock as one.
 */
export function delay(n: number, random: number): number {
  const base = n < 60 ? 1000 : Math.min(5000, 1000 * 1.05 ** (n - 60));
  return base * (0.8 + 0.4 * random);
}
