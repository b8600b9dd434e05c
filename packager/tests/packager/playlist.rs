//! Playlists as a player reads them, by a reader that is not ours.

use quick_m3u8::config::ParsingOptionsBuilder;
use quick_m3u8::tag::KnownTag;
use quick_m3u8::tag::hls::{EnumeratedString, PreloadHintType, Tag};
use quick_m3u8::{HlsLine, Reader, Writer};

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Playlist {
    pub(crate) version: u64,
    pub(crate) target: u64,
    pub(crate) part_target: Option<f64>,
    /// The SERVER-CONTROL line as it stands.
    pub(crate) control: Option<String>,
    pub(crate) can_block: bool,
    pub(crate) part_hold_back: f64,
    pub(crate) hold_back: f64,
    pub(crate) can_skip_until: f64,
    pub(crate) sequence: u64,
    pub(crate) discontinuity_sequence: Option<u64>,
    pub(crate) skipped: u64,
    pub(crate) independent_segments: bool,
    pub(crate) iframes_only: bool,
    pub(crate) segments: Vec<Segment>,
    /// Hints at parts and at initialization segments.
    pub(crate) hints: Vec<String>,
    pub(crate) map_hints: Vec<String>,
    /// URI, LAST-MSN, LAST-PART.
    pub(crate) reports: Vec<(String, u64, u64)>,
    pub(crate) ended: bool,
}

/// One segment; the last one of a live playlist may have parts and no URI yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Segment {
    pub(crate) uri: Option<String>,
    pub(crate) duration: f64,
    pub(crate) discontinuity: bool,
    /// That applies to it.
    pub(crate) map: String,
    /// Milliseconds since 1970.
    pub(crate) date: i64,
    pub(crate) gap: bool,
    pub(crate) byterange: Option<(u64, u64)>,
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) uri: String,
    pub(crate) duration: f64,
    pub(crate) independent: bool,
    pub(crate) gap: bool,
}

/// Reads a media playlist and writes it again, which must give the same text; checks the order of lines.
pub(crate) fn parse(text: &str) -> Playlist {
    let options = || {
        ParsingOptionsBuilder::new()
            .with_parsing_for_all_tags()
            .build()
    };
    let mut reader = Reader::from_str(text, options());
    let mut writer = Writer::new(Vec::new());
    let mut list = Playlist::default();
    let mut segment = Segment::default();
    let mut map = String::new();
    let mut header_ended = false;
    let mut body_ended = false;
    let mut first = true;
    while let Some(line) = reader.read_line().expect("every line can be read") {
        writer.write_line(line.clone()).expect("a Vec takes all");
        let tag = match line {
            HlsLine::Uri(uri) => {
                assert!(!body_ended, "a segment after hints:\n{text}");
                assert!(segment.duration > 0.0, "a segment without EXTINF:\n{text}");
                segment.uri = Some(uri.into_owned());
                segment.map.clone_from(&map);
                list.segments.push(std::mem::take(&mut segment));
                continue;
            }
            HlsLine::KnownTag(KnownTag::Hls(tag)) => tag,
            other => panic!("a line that no player needs: {other:?}"),
        };
        let segment_tag = matches!(
            tag,
            Tag::Inf(_)
                | Tag::Discontinuity(_)
                | Tag::Map(_)
                | Tag::ProgramDateTime(_)
                | Tag::Gap(_)
                | Tag::Part(_)
                | Tag::Byterange(_)
                | Tag::Skip(_)
        );
        let tail_tag = matches!(
            tag,
            Tag::PreloadHint(_) | Tag::RenditionReport(_) | Tag::Endlist(_)
        );
        header_ended |= segment_tag;
        body_ended |= tail_tag;
        assert!(
            segment_tag || tail_tag || !header_ended,
            "a header line late: {tag:?}\n{text}"
        );
        assert!(
            !(segment_tag && body_ended),
            "a segment line late: {tag:?}\n{text}"
        );
        if matches!(
            tag,
            Tag::Map(_) | Tag::ProgramDateTime(_) | Tag::Discontinuity(_)
        ) {
            assert!(segment.parts.is_empty(), "{tag:?} after a part:\n{text}");
        }
        match tag {
            Tag::M3u(_) => assert!(std::mem::take(&mut first), "EXTM3U is the first line"),
            Tag::Version(tag) => list.version = tag.version(),
            Tag::Targetduration(tag) => list.target = tag.target_duration(),
            Tag::IndependentSegments(_) => list.independent_segments = true,
            Tag::IFramesOnly(_) => list.iframes_only = true,
            Tag::PartInf(tag) => list.part_target = Some(tag.part_target()),
            Tag::ServerControl(tag) => {
                list.can_block = tag.can_block_reload();
                list.part_hold_back = tag.part_hold_back().unwrap();
                list.hold_back = tag.hold_back().unwrap();
                list.can_skip_until = tag.can_skip_until().unwrap();
                let line = text.lines().find(|line| line.contains("SERVER-CONTROL"));
                list.control = line.map(str::to_owned);
            }
            Tag::MediaSequence(tag) => list.sequence = tag.media_sequence(),
            Tag::DiscontinuitySequence(tag) => {
                list.discontinuity_sequence = Some(tag.discontinuity_sequence());
            }
            Tag::Skip(tag) => list.skipped = tag.skipped_segments(),
            Tag::Map(tag) => map = tag.uri().to_owned(),
            Tag::ProgramDateTime(tag) => segment.date = millis(&tag.program_date_time()),
            Tag::Discontinuity(_) => segment.discontinuity = true,
            Tag::Gap(_) => segment.gap = true,
            Tag::Inf(tag) => segment.duration = tag.duration(),
            Tag::Byterange(tag) => segment.byterange = Some((tag.length(), tag.offset().unwrap())),
            Tag::Part(tag) => segment.parts.push(Part {
                uri: tag.uri().to_owned(),
                duration: tag.duration(),
                independent: tag.independent(),
                gap: tag.gap(),
            }),
            Tag::PreloadHint(tag) => {
                let hints = match tag.hint_type() {
                    EnumeratedString::Known(PreloadHintType::Map) => &mut list.map_hints,
                    _ => &mut list.hints,
                };
                hints.push(tag.uri().to_owned());
            }
            Tag::RenditionReport(tag) => {
                let part = tag.last_part().expect("LAST-PART");
                list.reports
                    .push((tag.uri().to_owned(), tag.last_msn(), part));
            }
            Tag::Endlist(_) => list.ended = true,
            other => panic!("a tag that is not expected: {other:?}"),
        }
    }
    let written = String::from_utf8(writer.into_inner()).unwrap();
    assert_eq!(written, text, "the reader loses something");
    assert!(!first, "EXTM3U is missing");
    if !segment.parts.is_empty() || segment.date != 0 {
        segment.map = map;
        list.segments.push(segment);
    }
    list
}

fn millis(date: &quick_m3u8::date::DateTime) -> i64 {
    // Days since 1970 (Julian day numbers), independent of the way the text was made.
    let (year, month, day) = (
        i64::from(date.date_fullyear),
        i64::from(date.date_month),
        i64::from(date.date_mday),
    );
    let a = (14 - month) / 12;
    let (y, m) = (year + 4800 - a, month + 12 * a - 3);
    let julian = day + (153 * m + 2) / 5 + 365 * y + y / 4 - y / 100 + y / 400 - 32_045;
    let days = julian - 2_440_588;
    let minutes = (days * 24 + i64::from(date.time_hour)) * 60 + i64::from(date.time_minute);
    minutes * 60_000 + (date.time_second * 1_000.0).round() as i64
}
