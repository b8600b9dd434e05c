import { expect, test } from "vitest";
import { action } from "../../src/player/keys";

const press = (key: string, over = {}) => ({ key, ctrlKey: false, altKey: false, metaKey: false, ...over });

test.each([
  [" ", "body", "play"],
  ["k", "body", "play"],
  ["K", "button", "play"],
  ["m", "body", "mute"],
  ["f", "body", "fullscreen"],
  ["l", "body", "live"],
  ["c", "body", "captions"],
  ["?", "body", "help"],
  ["ArrowLeft", "body", "back"],
  ["ArrowRight", "button", "forward"],
  ["ArrowUp", "body", "louder"],
  ["ArrowDown", "body", "quieter"],
  ["x", "body", null],
  ["Enter", "body", null],
  ["constructor", "body", null],
  // What the focused control does by itself is left to it.
  [" ", "button", null],
  [" ", "menuitemradio", null],
  ["ArrowUp", "range", null],
  ["ArrowDown", "menuitemradio", null],
  ["m", "range", "mute"],
  ["k", "dialog", null],
  ["k", "text", null],
])("%j on %s: %s", (key, focus, expected) => {
  expect(action(press(key), focus)).toBe(expected);
});

test("keys with a modifier are the browser's", () => {
  for (const modifier of ["ctrlKey", "altKey", "metaKey"]) {
    expect(action(press("l", { [modifier]: true }), "body")).toBeNull();
  }
});
