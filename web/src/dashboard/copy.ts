import { byId, make } from "../dom";

const SHOWN_MS = 4000;
let said = 0;

/** A short message that goes by itself, read out by screen readers. */
export function say(text: string): void {
  const toast = byId("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  window.clearTimeout(said);
  said = window.setTimeout(() => toast.classList.remove("shown"), SHOWN_MS);
}

/** A labelled value, whole however long it is, with a button that copies it. */
export function copyable(label: string, value: string): HTMLElement {
  const row = make("div", "copyable");
  const field = make("code", "value", value);
  const button = make("button", "button small", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", `Copy ${label}`);
  let shown = 0;
  button.addEventListener("click", async () => {
    // On the button itself: a message elsewhere would lie behind a dialog.
    button.textContent = (await copy(field)) ? "Copied" : "Selected";
    button.setAttribute("aria-live", "polite");
    window.clearTimeout(shown);
    shown = window.setTimeout(() => (button.textContent = "Copy"), SHOWN_MS);
  });
  row.append(make("span", "copyable-label", label), field, button);
  return row;
}

async function copy(field: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(field.textContent ?? "");
    return true;
  } catch {
    // The clipboard is for pages over TLS or on localhost; a server on the local network is often neither.
    getSelection()?.selectAllChildren(field);
    return document.execCommand("copy");
  }
}
