import { byId, make, setText } from "../dom";
import { bitrate } from "../format";
import type { Rung, Stream } from "./api";
import { arrival, audio, count, running, state as stateName, video } from "./words";

export interface Actions {
  kick(id: string): void;
  remove(id: string): void;
}

/** One stream in the list. Updated in place, so that focus and selections outlive the refresh. */
export class Card {
  readonly element: HTMLElement;
  private stream: Stream | null = null;

  constructor(id: string, actions: Actions) {
    const template = byId<HTMLTemplateElement>("card");
    this.element = (template.content.cloneNode(true) as DocumentFragment).firstElementChild as HTMLElement;
    const path = `/watch/${encodeURIComponent(id)}`;
    this.part("id").textContent = id;
    for (const link of this.element.querySelectorAll<HTMLAnchorElement>("a")) link.href = path;
    for (const [name, what, run] of [
      ["watch", "Watch", null],
      ["kick", "Kick the publisher of", actions.kick],
      ["delete", "Delete", actions.remove],
    ] as const) {
      this.part(name).setAttribute("aria-label", `${what} ${id}`);
      if (run) this.part(name).addEventListener("click", () => run(id));
    }
  }

  update(stream: Stream, now: number): void {
    const { input, state } = stream;
    this.element.dataset["state"] = state;
    setText(this.part("state"), stateName(state));
    const time = running(stream, now);
    const facts = state === "idle" ? [] : [count(stream.viewers, "viewer", "viewers"), time && `for ${time}`];
    setText(this.part("facts"), facts.filter(Boolean).join(" · "));
    this.part<HTMLButtonElement>("kick").disabled = state !== "live";

    this.part("input").hidden = input === null;
    if (input) {
      setText(this.part("arrival"), arrival(input));
      setText(this.part("video"), video(input));
      setText(this.part("audio"), audio(input));
      setText(this.part("encoder"), input.encoder ?? "");
      this.part("input").title = input.encoder ?? "";
    }
    this.part("rungs-block").hidden = stream.rungs.length === 0;
    if (differs(this.stream?.rungs, stream.rungs)) this.part("rungs").replaceChildren(...stream.rungs.map(rung));
    this.part("warnings").hidden = stream.warnings.length === 0;
    if (differs(this.stream?.warnings, stream.warnings)) {
      this.part("warnings").replaceChildren(...stream.warnings.map(({ message }) => make("li", "", message)));
    }
    this.stream = stream;
  }

  private part<T extends HTMLElement = HTMLElement>(name: string): T {
    return this.element.querySelector<T>(`[data-part="${name}"]`) as T;
  }
}

function rung({ name, width, height, bitrate: bps, passthrough }: Rung): HTMLElement {
  const item = make("li", passthrough ? "rung passthrough" : "rung");
  item.title = `${width}×${height}${passthrough ? ", the publisher's own picture, not encoded again" : ""}`;
  item.append(make("b", "", name), make("span", "size", `${width}×${height}`), make("span", "", bitrate(bps)));
  if (passthrough) item.append(make("span", "mark", "passthrough"));
  return item;
}

function differs(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) !== JSON.stringify(b);
}
