import { byId, make } from "../dom";
import type { Api, Created } from "./api";
import { ApiError } from "./api";
import { copyable } from "./copy";
import { addresses, ffmpegLine } from "./ingest";

/** Asks for a name, makes the stream, shows its key: the only time that anyone sees it. */
export function askNew(api: Api, made: () => void): void {
  const dialog = byId<HTMLDialogElement>("new");
  const form = byId<HTMLFormElement>("new-form");
  const field = byId<HTMLInputElement>("new-id");
  const error = byId("new-error");
  const result = byId("new-result");
  const submit = byId<HTMLButtonElement>("new-submit");
  form.hidden = false;
  result.hidden = true;
  form.reset();
  fault("");
  dialog.showModal();
  field.focus();

  function fault(text: string): void {
    error.textContent = text;
    error.hidden = text === "";
    field.setAttribute("aria-invalid", String(text !== ""));
  }

  form.onsubmit = async (event) => {
    event.preventDefault();
    const id = field.value.trim();
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
      fault("1 to 64 letters, digits, - and _; no spaces.");
      return;
    }
    submit.disabled = true;
    try {
      const created = await api.create(id);
      form.hidden = true;
      result.hidden = false;
      showKey(created);
      byId("new-done").focus();
      made();
    } catch (reason) {
      fault(reason instanceof ApiError ? reason.message : String(reason));
    } finally {
      submit.disabled = false;
    }
  };
  // What was shown once is not left behind in the page.
  dialog.onclose = () => byId("new-fields").replaceChildren();
}

function showKey({ id, key, ingest }: Created): void {
  byId("new-name").textContent = id;
  const fields = byId("new-fields");
  fields.replaceChildren(copyable("Stream key", key));
  for (const { protocol, url } of addresses(ingest, location.hostname)) {
    const name = protocol.toUpperCase();
    fields.append(copyable(`${name} server`, url));
    if (protocol === "rtmp") fields.append(copyable("ffmpeg command", ffmpegLine(url, key)));
  }
  fields.append(copyable("Player page", `${location.origin}/watch/${encodeURIComponent(id)}`));
}

/** Resolves to true if the operator means it. */
export function confirmDelete(id: string): Promise<boolean> {
  const dialog = byId<HTMLDialogElement>("confirm");
  const name = make("b", "", id);
  byId("confirm-text").replaceChildren(
    "Delete ",
    name,
    "? Its key stops working at once, a running broadcast ends, and encoders that use it are refused.",
  );
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}
