import type { Ingest } from "./api";

/** A publishing address as encoders ask for it. */
export interface Address {
  protocol: string;
  url: string;
}

const ORDER = ["rtmp", "rtmps", "srt", "whip"];

/**
 * Addresses to paste, the usual ones first. The server writes `HOST` where it cannot know under which name it
 * is reached; the name in this page's own address is one that works.
 * @param hostname `location.hostname`, an IPv6 address in brackets
 */
export function addresses(ingest: Ingest, hostname: string): Address[] {
  const rank = (protocol: string) => (ORDER.indexOf(protocol) + ORDER.length + 1) % (ORDER.length + 1);
  return Object.entries(ingest)
    .flatMap(([protocol, url]) => (typeof url === "string" && url !== "" ? [{ protocol, url: place(url, hostname) }] : []))
    .sort((a, b) => rank(a.protocol) - rank(b.protocol));
}

function place(url: string, hostname: string): string {
  return url.replace(/^([a-z]+:\/\/)HOST(?=[:/?]|$)/, (_, scheme: string) => scheme + hostname);
}

/** A command line that publishes a file as live, in settings every rung can be made from without waste. */
export function ffmpegLine(server: string, key: string): string {
  const video = "-c:v libx264 -preset veryfast -b:v 4500k -maxrate 4500k -bufsize 4500k -pix_fmt yuv420p";
  // Keyframes each 2 s whatever the frame rate: one a segment.
  const keyframes = "-force_key_frames 'expr:gte(t,n_forced*2)'";
  const audio = "-c:a aac -b:a 128k -ar 48000 -ac 2";
  return `ffmpeg -re -stream_loop -1 -i input.mp4 ${video} ${keyframes} ${audio} -f flv ${quote(`${server}/${key}`)}`;
}

/** For a POSIX shell. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
