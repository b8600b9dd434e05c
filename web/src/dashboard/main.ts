import { byId, make, setText } from "../dom";
import { span } from "../format";
import { Api, ApiError, type Server, type Stream } from "./api";
import { Card } from "./card";
import { copyable, say } from "./copy";
import { askNew, confirmDelete } from "./dialogs";
import { addresses } from "./ingest";
import { ordered, summary } from "./words";

const REFRESH_MS = 2000;
const TOKEN = "headwater.token";
/** Streams from which on they are shown in short, with a field to find one. */
const MANY = 9;

/** What the whole page shows: one of these at a time (see dashboard.css). */
type View = "sign-in" | "loading" | "list" | "empty" | "away";

const cards = new Map<string, Card>();
let api: Api | null = null;
let server: Server | null = null;
let streams: Stream[] | null = null;
let timer = 0;
/** Answers to an older sign-in are not shown. */
let generation = 0;

function show(view: View): void {
  document.body.dataset["view"] = view;
}

function tokenFromAddress(): string | null {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  // Out of the address bar, the history and whatever is copied from them.
  if (token !== null) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

function signIn(token: string): void {
  sessionStorage.setItem(TOKEN, token);
  api = new Api(token);
  generation++;
  server = null;
  streams = null;
  show("loading");
  void refresh();
}

function signOut(reason = ""): void {
  sessionStorage.removeItem(TOKEN);
  api = null;
  generation++;
  window.clearTimeout(timer);
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  byId("token-error").textContent = reason;
  byId("token-error").hidden = reason === "";
  const field = byId<HTMLInputElement>("token");
  field.value = "";
  show("sign-in");
  field.focus();
}

async function refresh(): Promise<void> {
  window.clearTimeout(timer);
  const mine = generation;
  if (!api || document.hidden) return;
  try {
    server ??= await api.server();
    const found = await api.streams();
    if (mine !== generation) return;
    streams = ordered(found);
    fresh();
    render();
  } catch (reason) {
    if (mine !== generation) return;
    const error = reason instanceof ApiError ? reason : new ApiError("problem", String(reason));
    if (error.kind === "token") {
      signOut(error.message);
      return;
    }
    stale(error);
  }
  window.clearTimeout(timer);
  timer = window.setTimeout(() => void refresh(), REFRESH_MS);
}

let seen = 0;

function fresh(): void {
  seen = Date.now();
  byId("stale").hidden = true;
  document.body.classList.remove("stale");
}

/** The list stays, marked as old: what was true a minute ago is better than nothing. */
function stale({ kind, message }: ApiError): void {
  // Versions and addresses may differ when it is back.
  server = null;
  if (streams === null) {
    setText(byId("away-title"), kind === "away" ? "The server is away" : "The server has a problem");
    setText(byId("away-reason"), message);
    show("away");
    return;
  }
  document.body.classList.add("stale");
  byId("stale").hidden = false;
  setText(byId("stale"), `${message} Trying again. Below is what was so at ${new Date(seen).toLocaleTimeString()}.`);
}

function render(): void {
  if (!streams || !server) return;
  setText(byId("version"), `${server.version} · up ${span((Date.now() - Date.parse(server.started)) / 1000)}`);
  setText(byId("summary"), summary(streams));
  renderIngest(server);
  const filter = byId<HTMLInputElement>("filter");
  byId("filter-block").hidden = streams.length < MANY;
  const wanted = streams.length < MANY ? "" : filter.value.trim().toLowerCase();
  const shown = streams.filter((stream) => stream.id.toLowerCase().includes(wanted));
  byId("none").hidden = shown.length > 0 || streams.length === 0;
  byId("streams").classList.toggle("many", streams.length >= MANY);
  renderCards(shown);
  show(streams.length === 0 ? "empty" : "list");
}

function renderCards(shown: Stream[]): void {
  const list = byId("streams");
  const keep = new Set(shown.map((stream) => stream.id));
  for (const [id, card] of cards) {
    if (keep.has(id)) continue;
    card.element.remove();
    cards.delete(id);
  }
  shown.forEach((stream, index) => {
    let card = cards.get(stream.id);
    if (!card) cards.set(stream.id, (card = new Card(stream.id, { kick, remove })));
    card.update(stream, Date.now());
    // Moved only if out of place: moving an element takes the focus from it.
    if (list.children[index] !== card.element) list.insertBefore(card.element, list.children[index] ?? null);
  });
}

let listedIngest = "";

function renderIngest({ ingest }: Server): void {
  const list = addresses(ingest, location.hostname);
  const signature = JSON.stringify(list);
  if (signature === listedIngest) return;
  listedIngest = signature;
  const rows = list.map(({ protocol, url }) => copyable(`${protocol.toUpperCase()} server`, url));
  byId("ingest").replaceChildren(...(rows.length > 0 ? rows : [make("p", "quiet", "No publishing port is open.")]));
}

/** Runs what a button asks; a failure is told, a wrong token asks for another. */
async function act(run: (api: Api) => Promise<void>, done: string): Promise<void> {
  if (!api) return;
  try {
    await run(api);
    say(done);
  } catch (reason) {
    if (reason instanceof ApiError && reason.kind === "token") signOut(reason.message);
    else say(reason instanceof Error ? reason.message : String(reason));
  }
  void refresh();
}

function kick(id: string): void {
  void act((api) => api.kick(id), `${id}: publisher disconnected. Its encoder may connect again by itself.`);
}

async function remove(id: string): Promise<void> {
  if (await confirmDelete(id)) await act((api) => api.remove(id), `${id} deleted`);
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId<HTMLInputElement>("token").value.trim();
  if (token !== "") signIn(token);
});
byId("sign-out").addEventListener("click", () => signOut());
for (const button of document.querySelectorAll("[data-new]")) {
  button.addEventListener("click", () => api && askNew(api, () => void refresh()));
}
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}
byId("filter").addEventListener("input", render);
byId("retry").addEventListener("click", () => void refresh());
document.addEventListener("visibilitychange", () => void refresh());
window.addEventListener("hashchange", () => {
  const token = tokenFromAddress();
  if (token) signIn(token);
});

const token = tokenFromAddress() ?? sessionStorage.getItem(TOKEN);
if (token) signIn(token);
else signOut();
