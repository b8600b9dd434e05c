//! Delivery directives: what a playlist request asks for, and when that is there (RFC 8216bis section 6.2.5).

use packager::{Delta, Tip};

/// The delivery directives of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn`: a media sequence number.
    pub msn: Option<u64>,
    /// `_HLS_part`: the index of a part in that segment.
    pub part: Option<u64>,
    /// `_HLS_skip`: whether old segments may be left out.
    pub skip: Option<Skip>,
}

/// A value of `_HLS_skip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// `YES`
    Yes,
    /// `v2`
    V2,
}

/// The query is not one that we know: each name at most once, each value in its one spelling.
///
/// Refusing everything else keeps caches from being filled with copies of the same answer under other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Directives {
    /// Reads the query of a request. `token` is allowed, and none of our business.
    ///
    /// # Errors
    /// [`Malformed`] for any other name, for a name that comes twice, and for a value that is not in its one spelling:
    /// a decimal number below 2^64 without sign or leading zeros, `YES`, `v2`.
    pub fn parse(query: Option<&str>) -> Result<Self, Malformed> {
        let mut directives = Self::default();
        let mut token = None;
        for (name, value) in pairs(query) {
            match name {
                "_HLS_msn" => once(&mut directives.msn, number(value)?)?,
                "_HLS_part" => once(&mut directives.part, number(value)?)?,
                "_HLS_skip" => once(&mut directives.skip, skip(value)?)?,
                "token" => once(&mut token, ())?,
                _ => return Err(Malformed),
            }
        }
        Ok(directives)
    }

    /// Whether nothing is asked for, as it must be of everything but media playlists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn delta(self) -> Delta {
        match self.skip {
            None => Delta::Full,
            Some(Skip::Yes) => Delta::Skip,
            Some(Skip::V2) => Delta::SkipV2,
        }
    }
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query
        .filter(|query| !query.is_empty())
        .into_iter()
        .flat_map(|query| query.split('&'));
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed),
    }
}

fn number(text: &str) -> Result<u64, Malformed> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    text.parse().map_err(|_| Malformed)
}

fn skip(text: &str) -> Result<Skip, Malformed> {
    match text {
        "YES" => Ok(Skip::Yes),
        "v2" => Ok(Skip::V2),
        _ => Err(Malformed),
    }
}

/// How far a rendition has come, as far as directives care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The segment in progress, and how many of its parts are listed.
    pub(crate) tip: Tip,
    /// How many parts the segment before it has.
    pub(crate) previous: u64,
    /// The Advance Part Limit.
    pub(crate) part_limit: u64,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A whole segment.
    Segment(u64),
    /// A part, by segment and index.
    Part(u64, u64),
}

/// A request that no playlist will answer soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfReach;

impl Edge {
    /// What the directives ask to be listed, or `None` when any playlist will do.
    ///
    /// # Errors
    /// [`OutOfReach`] when a part is named without its segment, or what is named is too far ahead.
    pub(crate) fn wanted(&self, directives: Directives) -> Result<Option<Wanted>, OutOfReach> {
        let Some(msn) = directives.msn else {
            return if directives.part.is_some() {
                Err(OutOfReach)
            } else {
                Ok(None)
            };
        };
        // RFC 8216bis 6.2.5.2: at most two past the last Media Segment. The last is the one before the segment in
        // progress, which has parts but is not a Media Segment yet.
        if msn > self.tip.segment.saturating_add(1) {
            return Err(OutOfReach);
        }
        let Some(part) = directives.part else {
            return Ok(Some(Wanted::Segment(msn)));
        };
        // ... and no more parts past the last one than the Advance Part Limit. How many parts the segment in progress
        // will get, nobody knows; in the one after it, part 0 is at least one past the last.
        let listed = if msn == self.tip.segment {
            u64::from(self.tip.parts)
        } else {
            0
        };
        if msn >= self.tip.segment && part >= listed + self.part_limit {
            return Err(OutOfReach);
        }
        Ok(Some(Wanted::Part(msn, part)))
    }

    /// Whether the playlist has `wanted`, or something later.
    pub(crate) fn has(&self, wanted: Wanted) -> bool {
        let Tip { segment, parts } = self.tip;
        match wanted {
            Wanted::Segment(msn) => msn < segment,
            Wanted::Part(msn, part) if msn == segment => part < u64::from(parts),
            // RFC 8216bis 6.2.5.2: a part past the end of a finished segment means part 0 of the next.
            Wanted::Part(msn, part) => {
                msn < segment && (segment - msn > 1 || part < self.previous || parts > 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_have_one_spelling() {
        let check = |query: &str, expected: Option<(Option<u64>, Option<u64>, Option<Skip>)>| {
            let parsed = Directives::parse(Some(query)).ok();
            assert_eq!(
                parsed.map(|it| (it.msn, it.part, it.skip)),
                expected,
                "{query:?}"
            );
        };
        check("", Some((None, None, None)));
        check("_HLS_msn=5", Some((Some(5), None, None)));
        check("_HLS_part=0&_HLS_msn=5", Some((Some(5), Some(0), None)));
        check(
            "_HLS_skip=v2&token=a=b%20&_HLS_msn=0",
            Some((Some(0), None, Some(Skip::V2))),
        );
        check("_HLS_skip=YES", Some((None, None, Some(Skip::Yes))));
        check("_HLS_part=3", Some((None, Some(3), None)));
        check("token", Some((None, None, None)));
        check(
            "_HLS_msn=18446744073709551615",
            Some((Some(u64::MAX), None, None)),
        );
        for bad in [
            "_HLS_msn=18446744073709551616",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=01",
            "_HLS_msn=00",
            "_HLS_msn=",
            "_HLS_msn",
            "_HLS_msn=NaN",
            "_HLS_msn=1.0",
            "_HLS_msn=1e3",
            "_HLS_msn=0x1",
            "_HLS_msn=%31",
            "_HLS_msn=1&_HLS_msn=1",
            "_HLS_part=1&_HLS_msn=1&_HLS_part=2",
            "_HLS_skip=yes",
            "_HLS_skip=V2",
            "_HLS_skip=",
            "_HLS_skip=YES&_HLS_skip=YES",
            "_hls_msn=1",
            "_HLS_report=x",
            "start=1",
            "end=1",
            "x",
            "&",
            "_HLS_msn=1&",
            "token=a&token=b",
            "%5FHLS_msn=1",
            "_HLS_msn=1;_HLS_part=1",
        ] {
            check(bad, None);
        }
        let is_empty = |query| Directives::parse(query).is_ok_and(|it| it.is_empty());
        assert!(is_empty(Some("token=x")));
        assert!(is_empty(None));
        assert!(!is_empty(Some("_HLS_msn=1")));
    }

    /// Segment 10 in progress with 3 parts listed; segment 9 had 8.
    fn edge() -> Edge {
        Edge {
            tip: Tip {
                segment: 10,
                parts: 3,
            },
            previous: 8,
            part_limit: 12,
        }
    }

    fn answer(edge: &Edge, msn: Option<u64>, part: Option<u64>) -> &'static str {
        match edge.wanted(Directives {
            msn,
            part,
            skip: None,
        }) {
            Err(OutOfReach) => "refused",
            Ok(None) => "now",
            Ok(Some(wanted)) if edge.has(wanted) => "now",
            Ok(Some(_)) => "held",
        }
    }

    #[test]
    fn segments_are_held_for_up_to_two_past_the_last() {
        let check = |msn, expected| assert_eq!(answer(&edge(), Some(msn), None), expected, "{msn}");
        check(0, "now");
        check(9, "now");
        check(10, "held");
        check(11, "held");
        check(12, "refused");
        check(u64::MAX, "refused");
        assert_eq!(answer(&edge(), None, None), "now");
    }

    #[test]
    fn parts_are_held_up_to_the_advance_part_limit() {
        let check = |msn, part, expected| {
            assert_eq!(
                answer(&edge(), Some(msn), Some(part)),
                expected,
                "{msn}.{part}"
            );
        };
        check(10, 2, "now");
        check(10, 3, "held");
        check(10, 14, "held");
        check(10, 15, "refused");
        check(10, u64::MAX, "refused");
        check(11, 0, "held");
        check(11, 11, "held");
        check(11, 12, "refused");
        check(12, 0, "refused");
        // Finished segments answer whatever part is named.
        check(9, 7, "now");
        check(9, 8, "now");
        check(9, u64::MAX, "now");
        check(0, 5, "now");
        assert_eq!(answer(&edge(), None, Some(0)), "refused");
    }

    #[test]
    fn a_part_past_the_end_of_the_last_segment_is_the_first_of_the_next() {
        let fresh = Edge {
            tip: Tip {
                segment: 10,
                parts: 0,
            },
            ..edge()
        };
        assert_eq!(answer(&fresh, Some(9), Some(7)), "now");
        assert_eq!(answer(&fresh, Some(9), Some(8)), "held");
        assert_eq!(answer(&fresh, Some(8), Some(100)), "now");
        assert_eq!(answer(&fresh, Some(10), Some(11)), "held");
        assert_eq!(answer(&fresh, Some(10), Some(12)), "refused");
        let begun = Edge {
            tip: Tip {
                segment: 10,
                parts: 1,
            },
            ..edge()
        };
        assert_eq!(answer(&begun, Some(9), Some(8)), "now");
    }
}
