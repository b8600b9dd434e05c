/** The control API as the dashboard uses it. Strings in answers may come from strangers (encoder names): text, never markup. */

export interface Server {
  version: string;
  /** Publishing addresses by protocol; null or absent where a protocol is off. */
  ingest: Ingest;
  started: string;
}

export type Ingest = Record<string, string | null>;

export interface Input {
  protocol: string;
  encoder: string | null;
  video: { codec: string; width: number; height: number; fps: number } | null;
  audio: { codec: string; sample_rate: number; channels: number } | null;
  bitrate: number;
}

export interface Rung {
  name: string;
  width: number;
  height: number;
  bitrate: number;
  passthrough: boolean;
  codec: string;
}

export interface Stream {
  id: string;
  state: "idle" | "live" | "reconnecting";
  session: string | null;
  started: string | null;
  input: Input | null;
  rungs: Rung[];
  viewers: number;
  warnings: { code: string; message: string }[];
}

export interface Created {
  id: string;
  key: string;
  ingest: Ingest;
}

interface Page {
  items: Stream[];
  next: string | null;
}

/** Why a call failed: the token, the way to the server, or the server's own words. */
export class ApiError extends Error {
  constructor(
    readonly kind: "token" | "away" | "problem",
    message: string,
  ) {
    super(message);
  }
}

const TIMEOUT_MS = 8000;
/** Pages of a list followed at most; a screen holds no more. */
const MOST_PAGES = 20;

export class Api {
  constructor(private readonly token: string) {}

  server(): Promise<Server> {
    return this.call("GET", "server");
  }

  async streams(): Promise<Stream[]> {
    const items: Stream[] = [];
    let next: string | null = null;
    for (let page = 0; page < MOST_PAGES; page++) {
      const query: string = next === null ? "" : `?after=${encodeURIComponent(next)}`;
      const answer: Page = await this.call("GET", `streams${query}`);
      if (!Array.isArray(answer.items)) throw new ApiError("problem", "The server's answer is not a list of streams.");
      items.push(...answer.items);
      next = answer.next ?? null;
      if (next === null) break;
    }
    return items;
  }

  create(id: string): Promise<Created> {
    return this.call("POST", "streams", { id });
  }

  async remove(id: string): Promise<void> {
    await this.call("DELETE", `streams/${encodeURIComponent(id)}`);
  }

  async kick(id: string): Promise<void> {
    await this.call("POST", `streams/${encodeURIComponent(id)}/kick`);
  }

  private async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), TIMEOUT_MS);
    try {
      const headers: Record<string, string> = { Authorization: `Bearer ${this.token}`, Accept: "application/json" };
      if (body !== undefined) headers["Content-Type"] = "application/json";
      const init: RequestInit = { method, headers, cache: "no-store", signal: abort.signal };
      if (body !== undefined) init.body = JSON.stringify(body);
      const answer = await fetch(`/api/v1/${path}`, init).catch(() => {
        throw new ApiError("away", "The server does not answer.");
      });
      const text = await answer.text().catch(() => {
        throw new ApiError("away", "The server broke off its answer.");
      });
      if (!answer.ok) throw problem(answer.status, text);
      return (text === "" ? undefined : parse(text)) as T;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The error that an answer other than 2xx means (RFC 9457 problem details, where it has any). */
export function problem(status: number, text: string): ApiError {
  if (status === 401 || status === 403) return new ApiError("token", "The server does not accept this token.");
  let said: unknown;
  try {
    const { title, detail } = JSON.parse(text) as { title?: unknown; detail?: unknown };
    said = detail ?? title;
  } catch {
    // Not JSON: a proxy's page, of no use to the reader.
  }
  if (typeof said === "string" && said !== "") return new ApiError("problem", said);
  // A proxy in front of a server that is gone.
  if (status === 502 || status === 503 || status === 504) return new ApiError("away", "The server does not answer.");
  return new ApiError("problem", `The server answered with status ${status}.`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError("problem", "The server's answer is not JSON.");
  }
}
