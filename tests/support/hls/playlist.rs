//! Playlists as a player reads them.

use quick_m3u8::date::DateTime;
use quick_m3u8::tag::hls::Tag;
use quick_m3u8::tag::{KnownTag, NoCustomTag};
use quick_m3u8::{HlsLine, Reader, config::ParsingOptionsBuilder};

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Media {
    pub(crate) lines: Vec<String>,
    pub(crate) version: u64,
    pub(crate) target: u64,
    pub(crate) sequence: u64,
    pub(crate) discontinuity_sequence: Option<u64>,
    pub(crate) control: Option<Control>,
    pub(crate) part_target: Option<f64>,
    pub(crate) playlist_type: Option<String>,
    pub(crate) i_frames_only: bool,
    pub(crate) skipped: Option<u64>,
    /// The last may be in progress.
    pub(crate) segments: Vec<Segment>,
    pub(crate) hints: Vec<Hint>,
    pub(crate) reports: Vec<Report>,
    pub(crate) ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Control {
    pub(crate) can_block_reload: bool,
    pub(crate) part_hold_back: Option<f64>,
    pub(crate) hold_back: Option<f64>,
    pub(crate) can_skip_until: Option<f64>,
}

/// A segment, or the parts of the one in progress.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// `None` in the one in progress.
    pub(crate) uri: Option<String>,
    pub(crate) duration: f64,
    pub(crate) parts: Vec<Part>,
    pub(crate) map: Option<String>,
    /// Microseconds since 1970 of its own EXT-X-PROGRAM-DATE-TIME.
    pub(crate) date: Option<i64>,
    pub(crate) discontinuity: bool,
    pub(crate) gap: bool,
    /// Length and offset.
    pub(crate) byterange: Option<(u64, Option<u64>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) uri: String,
    pub(crate) duration: f64,
    pub(crate) independent: bool,
    pub(crate) gap: bool,
    pub(crate) byterange: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hint {
    pub(crate) kind: String,
    pub(crate) uri: String,
    pub(crate) byterange_start: u64,
    pub(crate) byterange_length: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) uri: String,
    pub(crate) last_msn: u64,
    pub(crate) last_part: Option<u64>,
}

impl Media {
    /// Reads a playlist; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut media = Self {
            lines: text.lines().map(str::to_owned).collect(),
            ..Self::default()
        };
        let mut next = Segment::default();
        let mut map = None;
        let mut target = None;
        let mut first = true;
        each(text, |line| {
            if std::mem::take(&mut first) && !matches!(line, Line::Tag(Tag::M3u(_))) {
                return Err("#EXTM3U is not the first line".to_owned());
            }
            match line {
                Line::Tag(tag) => match tag {
                    Tag::Version(tag) => media.version = tag.version(),
                    Tag::Targetduration(tag) => target = Some(tag.target_duration()),
                    Tag::MediaSequence(tag) => media.sequence = tag.media_sequence(),
                    Tag::DiscontinuitySequence(tag) => {
                        media.discontinuity_sequence = Some(tag.discontinuity_sequence())
                    }
                    Tag::PlaylistType(kind) => media.playlist_type = Some(format!("{kind:?}")),
                    Tag::IFramesOnly(_) => media.i_frames_only = true,
                    Tag::PartInf(tag) => media.part_target = Some(tag.part_target()),
                    Tag::ServerControl(tag) => {
                        media.control = Some(Control {
                            can_block_reload: tag.can_block_reload(),
                            part_hold_back: tag.part_hold_back(),
                            hold_back: tag.hold_back(),
                            can_skip_until: tag.can_skip_until(),
                        });
                    }
                    Tag::Skip(tag) => media.skipped = Some(tag.skipped_segments()),
                    Tag::Inf(tag) => next.duration = tag.duration(),
                    Tag::Byterange(tag) => next.byterange = Some((tag.length(), tag.offset())),
                    Tag::Discontinuity(_) => next.discontinuity = true,
                    Tag::Map(tag) => map = Some(tag.uri().to_owned()),
                    Tag::ProgramDateTime(tag) => {
                        next.date = Some(unix_micros(&tag.program_date_time()))
                    }
                    Tag::Gap(_) => next.gap = true,
                    Tag::Part(tag) => next.parts.push(Part {
                        uri: tag.uri().to_owned(),
                        duration: tag.duration(),
                        independent: tag.independent(),
                        gap: tag.gap(),
                        byterange: tag.byterange().is_some(),
                    }),
                    Tag::PreloadHint(tag) => media.hints.push(Hint {
                        kind: format!("{:?}", tag.hint_type().known()),
                        uri: tag.uri().to_owned(),
                        byterange_start: tag.byterange_start(),
                        byterange_length: tag.byterange_length(),
                    }),
                    Tag::RenditionReport(tag) => media.reports.push(Report {
                        uri: tag.uri().to_owned(),
                        last_msn: tag.last_msn(),
                        last_part: tag.last_part(),
                    }),
                    Tag::Endlist(_) => media.ended = true,
                    _ => {}
                },
                Line::Uri(uri) => {
                    let segment = std::mem::take(&mut next);
                    media.segments.push(Segment {
                        uri: Some(uri.to_owned()),
                        map: map.clone(),
                        ..segment
                    });
                }
            }
            Ok(())
        })?;
        if !next.parts.is_empty() {
            media.segments.push(Segment { map, ..next });
        }
        media.target = target.ok_or("no EXT-X-TARGETDURATION")?;
        let first = media.sequence + media.skipped.unwrap_or(0);
        for (segment, number) in media.segments.iter_mut().zip(first..) {
            segment.number = number;
        }
        Ok(media)
    }

    /// The media sequence number in progress and the number of its parts listed: what comes next.
    pub(crate) fn tip(&self) -> (u64, u64) {
        match self.segments.last() {
            Some(last) if last.uri.is_none() => (last.number, last.parts.len() as u64),
            Some(last) => (last.number + 1, 0),
            None => (self.sequence, 0),
        }
    }

    /// The segments that are whole.
    pub(crate) fn complete(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.uri.is_some())
    }

    /// Seconds of the segments that are whole.
    pub(crate) fn seconds(&self) -> f64 {
        self.complete().map(|segment| segment.duration).sum()
    }

    pub(crate) fn segment(&self, number: u64) -> Option<&Segment> {
        self.segments
            .iter()
            .find(|segment| segment.number == number)
    }

    /// Lines that begin with `tag`.
    pub(crate) fn tagged<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let lines = self
            .lines
            .iter()
            .enumerate()
            .map(|(index, line)| (index, line.as_str()));
        lines.filter(move |(_, line)| line.starts_with(tag))
    }
}

/// A multivariant playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Multivariant {
    pub(crate) lines: Vec<String>,
    pub(crate) independent_segments: bool,
    pub(crate) variants: Vec<Variant>,
    pub(crate) sounds: Vec<Sound>,
    pub(crate) i_frames: Vec<Variant>,
}

/// EXT-X-STREAM-INF or EXT-X-I-FRAME-STREAM-INF.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Variant {
    pub(crate) uri: String,
    pub(crate) bandwidth: u64,
    pub(crate) average: Option<u64>,
    pub(crate) codecs: Vec<String>,
    pub(crate) resolution: Option<(u64, u64)>,
    pub(crate) frame_rate: Option<f64>,
    pub(crate) audio: Option<String>,
    /// The tag's own text.
    pub(crate) line: String,
}

/// EXT-X-MEDIA of sound.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sound {
    pub(crate) uri: Option<String>,
    pub(crate) group: String,
    pub(crate) line: String,
}

impl Multivariant {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut playlist = Self {
            lines: text.lines().map(str::to_owned).collect(),
            ..Self::default()
        };
        let lines_with = |tag: &str| {
            let lines = text
                .lines()
                .filter(|line| line.starts_with(tag))
                .map(str::to_owned);
            lines.collect::<Vec<_>>().into_iter()
        };
        let mut variant_lines = lines_with("#EXT-X-STREAM-INF:");
        let mut i_frame_lines = lines_with("#EXT-X-I-FRAME-STREAM-INF:");
        let mut sound_lines = lines_with("#EXT-X-MEDIA:");
        let list = |codecs: Option<&str>| {
            codecs
                .unwrap_or_default()
                .split(',')
                .map(|codec| codec.trim().to_owned())
                .collect()
        };
        let mut next = None;
        each(text, |line| {
            match line {
                Line::Tag(Tag::IndependentSegments(_)) => playlist.independent_segments = true,
                Line::Tag(Tag::StreamInf(tag)) => {
                    next = Some(Variant {
                        uri: String::new(),
                        bandwidth: tag.bandwidth(),
                        average: tag.average_bandwidth(),
                        codecs: list(tag.codecs()),
                        resolution: tag.resolution().map(|size| (size.width, size.height)),
                        frame_rate: tag.frame_rate(),
                        audio: tag.audio().map(str::to_owned),
                        line: variant_lines.next().unwrap_or_default(),
                    });
                }
                Line::Tag(Tag::IFrameStreamInf(tag)) => playlist.i_frames.push(Variant {
                    uri: tag.uri().to_owned(),
                    bandwidth: tag.bandwidth(),
                    average: tag.average_bandwidth(),
                    codecs: list(tag.codecs()),
                    resolution: tag.resolution().map(|size| (size.width, size.height)),
                    line: i_frame_lines.next().unwrap_or_default(),
                    ..Variant::default()
                }),
                Line::Tag(Tag::Media(tag)) => playlist.sounds.push(Sound {
                    uri: tag.uri().map(str::to_owned),
                    group: tag.group_id().to_owned(),
                    line: sound_lines.next().unwrap_or_default(),
                }),
                Line::Tag(_) => {}
                Line::Uri(uri) => {
                    let variant = next
                        .take()
                        .ok_or_else(|| format!("{uri} stands behind no EXT-X-STREAM-INF"))?;
                    playlist.variants.push(Variant {
                        uri: uri.to_owned(),
                        ..variant
                    });
                }
            }
            Ok(())
        })?;
        Ok(playlist)
    }
}

enum Line<'a> {
    Tag(Tag<'a>),
    Uri(&'a str),
}

/// Every tag and URI in turn; lines that are neither are nothing to a player.
fn each<'a>(
    text: &'a str,
    mut take: impl FnMut(Line<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let options = ParsingOptionsBuilder::new()
        .with_parsing_for_all_tags()
        .build();
    let mut reader = Reader::<&'a str, NoCustomTag>::from_str(text, options);
    while let Some(line) = reader.read_line().map_err(|error| format!("{error:?}"))? {
        match line {
            HlsLine::KnownTag(KnownTag::Hls(tag)) => take(Line::Tag(tag))?,
            HlsLine::Uri(uri) => take(Line::Uri(&uri))?,
            HlsLine::UnknownTag(tag) => {
                return Err(format!(
                    "a tag that HLS does not know, or cannot read: {tag:?}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "whole microseconds of a minute"
)]
fn unix_micros(date: &DateTime) -> i64 {
    // Days since 1970-01-01 in the proleptic Gregorian calendar, years counted from March.
    let (month, day) = (i64::from(date.date_month), i64::from(date.date_mday));
    let year = i64::from(date.date_fullyear) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let zone = date.timezone_offset;
    let zone_minutes = i64::from(zone.time_hour) * 60
        + i64::from(zone.time_hour.signum()) * i64::from(zone.time_minute);
    let minutes =
        (days * 24 + i64::from(date.time_hour)) * 60 + i64::from(date.time_minute) - zone_minutes;
    minutes * 60_000_000 + (date.time_second * 1e6).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_latency_playlist_is_read_whole() {
        let text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n\
            #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.75,HOLD-BACK=6,CAN-SKIP-UNTIL=12\n\
            #EXT-X-PART-INF:PART-TARGET=0.25\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n\
            #EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:00.500Z\n\
            #EXTINF:2.00000,\n7.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-PART:DURATION=0.25,URI=\"8.0.m4s\",INDEPENDENT=YES\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.1.m4s\"\n\
            #EXT-X-RENDITION-REPORT:URI=\"../a/index.m3u8\",LAST-MSN=8,LAST-PART=0\n";
        let media = Media::parse(text).unwrap();
        assert_eq!((media.version, media.target, media.tip()), (6, 2, (8, 1)));
        assert_eq!(media.segments[0].date, Some(1_795_248_000_500_000));
        assert_eq!(media.segments[0].map.as_deref(), Some("init.mp4"));
        assert!(media.segments[1].discontinuity && media.segments[1].parts[0].independent);
        assert_eq!(
            (media.hints[0].uri.as_str(), media.reports[0].last_part),
            ("8.1.m4s", Some(0))
        );
        assert!(
            Media::parse(&text.replace("EXT-X-PART-INF", "EXT-X-PORT-INF")).is_err(),
            "an unknown tag"
        );
        assert!(Media::parse(&text.replace("#EXTM3U\n", "")).is_err());
    }

    #[test]
    fn a_multivariant_playlist_is_read_whole() {
        let text = "#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"a/index.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=9,AVERAGE-BANDWIDTH=8,CODECS=\"avc1.4d401f,mp4a.40.2\",RESOLUTION=16x9,FRAME-RATE=30.000,AUDIO=\"a\"\n\
            v/index.m3u8\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=3,URI=\"v/iframes.m3u8\"\n";
        let playlist = Multivariant::parse(text).unwrap();
        assert_eq!(playlist.variants[0].codecs, ["avc1.4d401f", "mp4a.40.2"]);
        assert_eq!(playlist.variants[0].uri, "v/index.m3u8");
        assert_eq!(playlist.i_frames[0].uri, "v/iframes.m3u8");
        assert_eq!(playlist.sounds[0].uri.as_deref(), Some("a/index.m3u8"));
    }
}
