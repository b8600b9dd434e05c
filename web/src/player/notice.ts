/** All that is known about the broadcast; what the viewer is told follows from it alone. */
export interface Facts {
  engine: "none" | "starting" | "playing" | "waiting" | "unsupported";
  /** The last look at the playlist; null before the first, or since playback last went well. */
  probe: "live" | "offline" | "away" | "refused" | null;
  /** Something was played since the page was opened. */
  played: boolean;
  /** The session that was playable has come to its end. */
  ended: boolean;
  /** It is in a format this browser has no decoder for. */
  foreign: boolean;
  /** Seconds by which the playlist is late in advancing. */
  late: number;
}

export type Phase =
  | "joining"
  | "playing"
  | "buffering"
  | "interrupted"
  | "reconnecting"
  | "offline"
  | "ended"
  | "refused"
  | "unsupported";

export interface Notice {
  phase: Phase;
  title: string;
  detail: string;
  busy: boolean;
}

const notice = (phase: Phase, title: string, detail: string, busy: boolean): Notice => ({ phase, title, detail, busy });

const RESUMES = "This page starts by itself when the stream does.";

export function describe(facts: Facts): Notice {
  switch (facts.engine) {
    case "unsupported":
      return notice(
        "unsupported",
        "This browser cannot play the stream",
        "It has neither Media Source Extensions nor built-in HLS. A current Chrome, Edge, Firefox or Safari can.",
        false,
      );
    case "playing":
      return notice("playing", "", "", false);
    case "starting":
      return notice("joining", "Joining…", "", true);
    case "waiting":
      if (facts.probe === "away") return away();
      // A tenth of a second is a late packet; seconds are a broadcaster whose line is down.
      if (facts.late > 2) {
        return notice(
          "interrupted",
          "The broadcast is interrupted",
          "Waiting for the broadcaster. Playback goes on by itself.",
          true,
        );
      }
      return notice("buffering", "", "", true);
    case "none":
      if (facts.probe === "away") return away();
      if (facts.probe === "refused") {
        return notice("refused", "You may not watch this stream", "The server asks for a permission this page has not got.", false);
      }
      if (facts.foreign) {
        return notice(
          "unsupported",
          "This browser cannot play the stream",
          "The stream is sent in a format it has no decoder for. Another browser may have one.",
          false,
        );
      }
      if (facts.ended || facts.probe === "offline") {
        return facts.played
          ? notice("ended", "The stream has ended", "If it starts again, this page does too.", false)
          : notice("offline", "This stream is not live now", RESUMES, false);
      }
      return facts.played ? notice("reconnecting", "Reconnecting…", "", true) : notice("joining", "Joining…", "", true);
  }
}

function away(): Notice {
  return notice("reconnecting", "Reconnecting…", "The server does not answer. Trying again until it does.", true);
}
