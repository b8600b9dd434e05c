/** What a key asks of the player. */
export type Action =
  | "play"
  | "mute"
  | "fullscreen"
  | "live"
  | "captions"
  | "help"
  | "back"
  | "forward"
  | "louder"
  | "quieter";

// A Map: a name looked up in an object may also be one that every object has.
const KEYS = new Map<string, Action>(Object.entries({
  " ": "play",
  k: "play",
  m: "mute",
  f: "fullscreen",
  l: "live",
  c: "captions",
  "?": "help",
  ArrowLeft: "back",
  ArrowRight: "forward",
  ArrowUp: "louder",
  ArrowDown: "quieter",
}));

/** The part of a KeyboardEvent that decides. */
export interface Press {
  key: string;
  ctrlKey: boolean;
  altKey: boolean;
  metaKey: boolean;
}

/**
 * The action of a key, or null where the key belongs to the browser (with a modifier) or to the focused
 * control: a button is pressed by the space bar, a slider and a menu are moved by the arrows.
 * @param focus lower-case tag name of the focused element, or its role where it has one
 */
export function action(press: Press, focus: string): Action | null {
  if (press.ctrlKey || press.altKey || press.metaKey) return null;
  const found = KEYS.get(press.key.length === 1 ? press.key.toLowerCase() : press.key) ?? null;
  if (focus === "textarea" || focus === "text" || focus === "dialog") return null;
  if (press.key === " " && (focus === "button" || focus === "a" || focus === "menuitemradio")) return null;
  if (press.key.startsWith("Arrow") && (focus === "range" || focus === "menuitemradio")) return null;
  return found;
}
