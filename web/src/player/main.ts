import { byId, setText } from "../dom";
import { Controls, recallSound } from "./controls";
import { Watch, type Stats } from "./watch";
import type Hls from "hls.js";

declare global {
  interface Window {
    /** For tests and for the curious: the player's parts and how it is doing. */
    headwater: { video: HTMLVideoElement; readonly hls: Hls | null; stats(): Stats };
  }
}

/** `/watch/ID` → `ID`; anything else is no stream's address and finds nothing. */
function streamId(path: string): string {
  const last = path.replace(/\/+$/, "").split("/").pop() ?? "";
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}

const id = streamId(location.pathname);
document.title = `${id} · Headwater`;
setText(byId("name"), id);

const video = byId<HTMLVideoElement>("video");
recallSound(video);
let controls: Controls | null = null;
const watch = new Watch(video, `/live/${encodeURIComponent(id)}/index.m3u8`, () => controls?.update());
controls = new Controls(watch);

window.headwater = {
  video,
  get hls() {
    return watch.engine?.hls ?? null;
  },
  stats: () => watch.stats(),
};
