import { byId, make, setText } from "../dom";
import { bitrate, latency } from "../format";
import { action } from "./keys";
import type { Watch } from "./watch";

const STEP_SECONDS = 5;
const STEP_VOLUME = 0.1;
const IDLE_MS = 3000;
const SOUND = "headwater.sound";

/** The player's buttons, keys and messages. Shows what `Watch` knows; decides nothing about playback. */
export class Controls {
  private readonly root = byId("player");
  private readonly video = byId<HTMLVideoElement>("video");
  private readonly menu = byId("menu");
  private readonly quality = byId<HTMLButtonElement>("quality");
  private readonly keys = byId<HTMLDialogElement>("keys");
  private idleTimer = 0;
  private listed = "";

  constructor(private readonly watch: Watch) {
    const { video } = this;
    byId("play").addEventListener("click", () => watch.toggle());
    byId("start").addEventListener("click", () => watch.goLive());
    byId("mute").addEventListener("click", () => this.sound(video.muted));
    byId("unmute").addEventListener("click", () => this.sound(true));
    byId<HTMLInputElement>("volume").addEventListener("input", (event) => {
      this.setVolume((event.target as HTMLInputElement).valueAsNumber);
    });
    byId("live").addEventListener("click", () => watch.goLive());
    byId("captions").addEventListener("click", () => this.captions());
    byId("help").addEventListener("click", () => this.keys.showModal());
    byId("full").addEventListener("click", () => this.fullscreen());
    this.quality.addEventListener("click", () => this.openMenu(this.menu.hidden));
    this.menu.addEventListener("keydown", (event) => this.menuKey(event));

    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("pointerdown", (event) => {
      if (!this.menu.hidden && !(event.target as Element).closest(".menu-holder")) this.openMenu(false);
    });
    document.addEventListener("fullscreenchange", () => this.update());
    for (const event of ["pointermove", "pointerdown", "keydown", "focusin"]) {
      this.root.addEventListener(event, () => this.wake());
    }
    // A mouse on the picture pauses; a finger asks for the controls.
    video.addEventListener("click", (event) => {
      if ((event as PointerEvent).pointerType !== "touch") watch.toggle();
    });
    video.addEventListener("dblclick", () => this.fullscreen());
    for (const event of ["play", "pause", "volumechange", "resize"]) {
      video.addEventListener(event, () => this.update());
    }
    for (const event of ["addtrack", "removetrack", "change"]) {
      video.textTracks.addEventListener(event, () => this.update());
    }
    window.setInterval(() => this.meter(), 500);
    this.update();
    this.wake();
  }

  /** Shows everything that may have changed. */
  update(): void {
    const { video, watch } = this;
    const { phase, title, detail, busy } = watch.notice;
    this.root.dataset["phase"] = phase;
    setText(byId("title"), title);
    setText(byId("detail"), detail);
    byId("title").hidden = title === "";
    byId("detail").hidden = detail === "";
    byId("spinner").hidden = !busy || watch.blocked;

    const shown = phase === "playing" || phase === "buffering" || phase === "interrupted";
    byId("start").hidden = !watch.blocked;
    byId("unmute").hidden = !(shown && video.muted && !video.paused);
    icon("play", video.paused ? "play" : "pause", video.paused ? "Play" : "Pause");
    icon("mute", video.muted ? "muted" : "sound", video.muted ? "Turn on sound" : "Mute");
    byId<HTMLInputElement>("volume").value = String(video.muted ? 0 : video.volume);
    const full = document.fullscreenElement !== null;
    icon("full", full ? "unfull" : "full", full ? "Leave full screen" : "Full screen");

    const tracks = this.captionTracks();
    byId("captions").hidden = tracks.length === 0;
    byId("captions").setAttribute("aria-pressed", String(tracks.some((track) => track.mode === "showing")));
    this.levels();
    this.meter();
  }

  /** Sound on or off; on also brings back a volume that was turned down to nothing. */
  private sound(on: boolean): void {
    if (on && this.video.volume === 0) this.video.volume = 0.5;
    this.video.muted = !on;
    this.remember();
  }

  private setVolume(volume: number): void {
    this.video.volume = volume;
    this.video.muted = volume === 0;
    this.remember();
  }

  /** What the viewer chose; not what a browser's rules made of it. */
  private remember(): void {
    try {
      const { muted, volume } = this.video;
      localStorage.setItem(SOUND, JSON.stringify({ on: !muted, volume }));
    } catch {
      // Storage may be forbidden; then each visit starts muted.
    }
  }

  private meter(): void {
    const { engine, live } = this.watch;
    const seconds = engine?.latency() ?? null;
    const badge = byId("live");
    badge.classList.toggle("at-edge", live);
    label(badge, live ? "Live: at the live edge" : "Behind live: go to the live edge");
    const text = latency(seconds);
    setText(byId("latency"), text);
    label(byId("latency"), text && `${text} behind the broadcast`);
  }

  private levels(): void {
    const { engine } = this.watch;
    const choices = engine?.choices ?? [];
    const chosen = engine?.chosen ?? -1;
    const playing = choices[engine?.level ?? -1]?.label ?? (this.video.videoHeight ? `${this.video.videoHeight}p` : "");
    setText(byId("quality-label"), chosen === -1 && !playing ? "Auto" : playing);
    label(this.quality, `Quality: ${chosen === -1 ? "automatic, " : ""}${playing || "not known yet"}`);
    this.quality.hidden = choices.length === 0 && !playing;
    this.quality.disabled = choices.length < 2;

    const list = [{ index: -1, label: "Auto", bitrate: 0 }, ...[...choices].reverse()];
    const signature = JSON.stringify([list, chosen, playing]);
    if (signature === this.listed) return;
    this.listed = signature;
    const focused = document.activeElement?.getAttribute("data-level");
    this.menu.replaceChildren(
      ...list.map((choice) => {
        const item = make("button");
        item.type = "button";
        item.setAttribute("role", "menuitemradio");
        item.setAttribute("aria-checked", String(choice.index === chosen));
        item.dataset["level"] = String(choice.index);
        item.tabIndex = -1;
        item.append(make("span", "", choice.label));
        item.append(make("span", "rate", choice.index === -1 ? playing : bitrate(choice.bitrate)));
        item.addEventListener("click", () => {
          this.watch.choose(choice.index);
          this.openMenu(false);
          this.quality.focus();
        });
        return item;
      }),
    );
    if (focused != null) this.menu.querySelector<HTMLElement>(`[data-level="${CSS.escape(focused)}"]`)?.focus();
  }

  private openMenu(open: boolean): void {
    this.menu.hidden = !open;
    this.quality.setAttribute("aria-expanded", String(open));
    if (open) this.menu.querySelector<HTMLElement>('[aria-checked="true"]')?.focus();
  }

  private menuKey(event: KeyboardEvent): void {
    const items = [...this.menu.querySelectorAll<HTMLElement>("button")];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1 + items.length, Home: 0, End: items.length - 1 }[event.key];
    if (next !== undefined) items[next % items.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      this.openMenu(false);
      this.quality.focus();
    } else return;
    if (event.key !== "Tab") event.preventDefault();
  }

  private key(event: KeyboardEvent): void {
    const focus = this.keys.open ? "dialog" : focusKind(document.activeElement);
    const what = action(event, focus);
    if (what === null) return;
    event.preventDefault();
    const { video, watch } = this;
    // prettier-ignore
    switch (what) {
      case "play": if (!event.repeat) watch.toggle(); break;
      case "mute": if (!event.repeat) this.sound(video.muted); break;
      case "fullscreen": if (!event.repeat) this.fullscreen(); break;
      case "live": watch.goLive(); break;
      case "captions": this.captions(); break;
      case "help": this.keys.showModal(); break;
      case "back": watch.seek(-STEP_SECONDS); break;
      case "forward": watch.seek(STEP_SECONDS); break;
      case "louder": this.volume(STEP_VOLUME); break;
      case "quieter": this.volume(-STEP_VOLUME); break;
    }
  }

  private volume(step: number): void {
    const { video } = this;
    const from = video.muted ? 0 : video.volume;
    this.setVolume(Math.min(1, Math.max(0, Math.round((from + step) * 100) / 100)));
  }

  private captionTracks(): TextTrack[] {
    return [...this.video.textTracks].filter(({ kind }) => kind === "captions" || kind === "subtitles");
  }

  private captions(): void {
    const tracks = this.captionTracks();
    const on = tracks.some((track) => track.mode === "showing");
    tracks.forEach((track, index) => (track.mode = !on && index === 0 ? "showing" : "hidden"));
    this.update();
  }

  private fullscreen(): void {
    // iPhones know full screen for the video element alone.
    const video = this.video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
    if (document.fullscreenElement) void document.exitFullscreen();
    else if (this.root.requestFullscreen) this.root.requestFullscreen().catch(() => {});
    else video.webkitEnterFullscreen?.();
  }

  private wake(): void {
    this.root.classList.remove("idle");
    window.clearTimeout(this.idleTimer);
    this.idleTimer = window.setTimeout(() => {
      const busy = this.video.paused || !this.menu.hidden || this.keys.open || this.watch.notice.phase !== "playing";
      // Whoever moves by keyboard must see where the focus is.
      if (busy || this.root.querySelector(".bar :focus-visible")) this.wake();
      else this.root.classList.add("idle");
    }, IDLE_MS);
  }
}

/** The sound of an earlier visit; muted where there was none, as browsers demand of a first one. */
export function recallSound(video: HTMLVideoElement): void {
  try {
    const { on, volume } = JSON.parse(localStorage.getItem(SOUND) ?? "{}") as { on?: unknown; volume?: unknown };
    video.muted = on !== true;
    if (typeof volume === "number" && volume >= 0 && volume <= 1) video.volume = volume;
  } catch {
    video.muted = true;
  }
}

function focusKind(element: Element | null): string {
  if (element instanceof HTMLInputElement) return element.type;
  return element?.getAttribute("role") ?? element?.tagName.toLowerCase() ?? "";
}

function icon(id: string, name: string, text: string): void {
  const button = byId(id);
  const use = button.querySelector("use");
  if (use?.getAttribute("href") !== `#i-${name}`) use?.setAttribute("href", `#i-${name}`);
  label(button, text);
}

function label(element: Element, text: string): void {
  if (element.getAttribute("aria-label") !== text) element.setAttribute("aria-label", text);
}
