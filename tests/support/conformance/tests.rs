//! Each check must let a good recording pass, and fail one in which its own line is broken.

use std::time::Duration;

use bytes::Bytes;

use super::golden::{exchanges, security, set};
use super::{CHECKS, Evidence, judge};
use crate::support::hls::Recording;
use crate::support::http::{Exchange, Purpose};

fn evidence(exchanges: Vec<Exchange>) -> Evidence {
    Evidence::new(Recording::new(exchanges), Some(security()))
}

#[test]
fn a_good_recording_passes_every_check() {
    judge(&evidence(exchanges()), &[]);
}

#[test]
fn silence_is_no_proof() {
    let empty = evidence(Vec::new());
    let silent = Evidence {
        security: None,
        ..empty
    };
    for (name, check) in CHECKS {
        assert!(
            check(&silent).problems().is_some(),
            "{name} has nothing to judge and is content"
        );
    }
}

/// The check of this name must complain of `evidence`, in words that hold `complaint`.
fn must_fail(name: &str, evidence: &Evidence, complaint: &str) {
    let (_, check) = CHECKS
        .iter()
        .find(|(known, _)| known.starts_with(name))
        .expect("a check of this name");
    let problems = check(evidence).problems();
    let found = problems.as_deref().unwrap_or("no complaint");
    assert!(
        found.contains(complaint),
        "expected {complaint:?}, found: {found}"
    );
}

/// Declares a test for each way to break a line: what to change, and what the check says then.
macro_rules! broken {
    ($($test:ident: $check:literal, $change:expr, $complaint:literal;)*) => {$(
        #[test]
        fn $test() {
            let mut recording = exchanges();
            let change: fn(&mut Vec<Exchange>) = $change;
            change(&mut recording);
            must_fail($check, &evidence(recording), $complaint);
        }
    )*};
}

/// Changes every answer of this kind whose target holds `place`.
fn each(
    exchanges: &mut [Exchange],
    purpose: Purpose,
    place: &str,
    mut change: impl FnMut(&mut Exchange),
) {
    let mut changed = 0;
    for exchange in exchanges
        .iter_mut()
        .filter(|exchange| exchange.purpose == purpose && exchange.target.contains(place))
    {
        change(exchange);
        changed += 1;
    }
    assert!(changed > 0, "nothing at {place} to change");
}

/// Replaces text in every playlist whose target holds `place`.
fn text(exchanges: &mut [Exchange], place: &str, from: &str, to: &str) {
    let mut changed = 0;
    for exchange in exchanges
        .iter_mut()
        .filter(|exchange| exchange.target.contains(place) && exchange.body.starts_with(b"#EXTM3U"))
    {
        let old = exchange.text();
        if old.contains(from) {
            exchange.body = Bytes::from(old.replace(from, to));
            changed += 1;
        }
    }
    assert!(changed > 0, "no {from:?} at {place} to change");
}

/// Replaces bytes, of the same length, everywhere in media whose target holds `place`.
fn bytes(exchanges: &mut [Exchange], place: &str, from: &[u8], to: &[u8]) {
    let mut changed = 0;
    for exchange in exchanges
        .iter_mut()
        .filter(|exchange| exchange.target.contains(place))
    {
        let mut body = exchange.body.to_vec();
        while let Some(at) = body.windows(from.len()).position(|window| window == from) {
            body[at..at + from.len()].copy_from_slice(to);
            changed += 1;
        }
        exchange.body = body.into();
    }
    assert!(changed > 0, "no such bytes at {place}");
}

/// Adds to the decode times of a fragment's `tfdt`, whose time is of 64 bits.
fn shift_decode_time(exchange: &mut Exchange, by: u64) {
    let mut body = exchange.body.to_vec();
    let mut at = 0;
    while let Some(found) = body[at..].windows(4).position(|window| window == b"tfdt") {
        at += found + 8;
        let time: [u8; 8] = body[at..at + 8].try_into().unwrap();
        body[at..at + 8].copy_from_slice(&(u64::from_be_bytes(time) + by).to_be_bytes());
    }
    assert!(at > 0);
    exchange.body = body.into();
}

fn shift_all(exchanges: &mut [Exchange], place: &str, by: u64) {
    for purpose in [Purpose::Part, Purpose::Hint, Purpose::Segment] {
        each(exchanges, purpose, place, |exchange| {
            shift_decode_time(exchange, by)
        });
    }
}

fn late(exchange: &mut Exchange, by: Duration) {
    exchange.head += by;
    exchange.done += by;
}

const SECOND: Duration = Duration::from_secs(1);

broken! {
    init_with_another_brand: "line_01", |all| bytes(all, "360p/init", b"cmfc", b"xxxx"), "brands";
    init_without_trex: "line_01", |all| bytes(all, "360p/init", b"trex", b"free"), "0 trex";
    init_with_another_box: "line_01", |all| each(all, Purpose::Init, "360p", |init| init.body = [&init.body[..], &[0, 0, 0, 8], b"free"].concat().into()), "boxes";
    part_with_another_box: "line_02", |all| bytes(all, "360p/7.1.", b"moof", b"moop"), "mdat without moof";
    part_with_a_stranger_behind: "line_02", |all| for purpose in [Purpose::Part, Purpose::Hint] { each(all, purpose, "360p/7.1.", |part| part.body = [&part.body[..], &[0, 0, 0, 8], b"free"].concat().into()) }, "behind the last mdat";
    part_that_is_empty: "line_02", |all| for purpose in [Purpose::Part, Purpose::Hint] { each(all, purpose, "360p/7.1.", |part| part.body = Bytes::new()) }, "holds no chunk";
    segment_that_is_not_its_parts: "line_03", |all| each(all, Purpose::Segment, "360p/7.m4s", |segment| segment.body = segment.body.slice(1..)), "segment 7";
    decode_time_one_tick_off: "line_04", |all| for purpose in [Purpose::Part, Purpose::Hint] { each(all, purpose, "360p/7.3.", |part| shift_decode_time(part, 1)) }, "7.3.m4s starts at";
    segment_that_starts_without_idr: "line_05", |all| spoil_idr(all, "360p/8.0."), "does not start with an IDR";
    sync_flag_on_an_ordinary_picture: "line_06", |all| for purpose in [Purpose::Part, Purpose::Hint] { each(all, purpose, "360p/7.1.", |part| replace(part, &[1, 1, 0, 0], &[2, 0, 0, 0])) }, "IDR false, sync true";
    dependency_unknown: "line_06", |all| for purpose in [Purpose::Part, Purpose::Hint] { each(all, purpose, "360p/7.1.", |part| replace(part, &[1, 1, 0, 0], &[0, 1, 0, 0])) }, "sample_depends_on 0";
    parameter_sets_in_the_samples: "line_07", |all| parameter_set(all, "360p/7.1."), "carries parameter sets";
    a_new_map_without_discontinuity: "line_07", |all| text(all, "360p/index", "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:14", "#EXT-X-MAP:URI=\"init-2.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:14"), "a new EXT-X-MAP alone";
    rendition_one_tick_off: "line_08", |all| shift_all(all, "180p/", 1), "s off";
    sound_two_frames_off: "line_08", |all| shift_all(all, "audio/", 2048), "s off";
    sound_that_drifts: "line_09", |all| for (segment, by) in (7..=13).zip(1..) { shift_all(all, &format!("audio/{segment}."), 400 * by) }, "boundaries wander";
    an_edit_list: "line_10", |all| each(all, Purpose::Init, "360p", edit_list), "edits";
    a_picture_shown_late: "line_10", |all| for purpose in [Purpose::Part, Purpose::Hint] { each(all, purpose, "360p/7.0.", composition_offset) }, "after its decode time";
    a_name_used_twice: "line_11", |all| each(all, Purpose::Hint, "360p/7.1.", |hint| hint.body = hint.body.slice(..hint.body.len() - 1)), "two contents";
    a_discontinuity_in_one_rendition: "line_12", |all| text(all, "360p/index", "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:14", "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:14"), "a discontinuity in";
    a_sequence_that_goes_back: "line_12", |all| text(all, "360p/index", "#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-MAP:URI=\"init-1.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:00", "#EXT-X-DISCONTINUITY-SEQUENCE:1\n#EXT-X-MAP:URI=\"init-1.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:00"), "went back";
    bandwidth_below_the_peak: "line_13", |all| text(all, "room/index", "BANDWIDTH=1700000", "BANDWIDTH=300000"), "measured";
    no_average_bandwidth: "line_13", |all| text(all, "room/index", "AVERAGE-BANDWIDTH", "X-AVERAGE"), "AVERAGE-BANDWIDTH was not seen";
    codecs_of_another_profile: "line_14", |all| text(all, "room/index", "avc1.", "avc1.9"), "CODECS";
    codecs_without_the_sound: "line_14", |all| text(all, "room/index", ",mp4a.40.2", ""), "CODECS";
    resolution_of_another_size: "line_15", |all| text(all, "room/index", "RESOLUTION=640x360", "RESOLUTION=640x361"), "RESOLUTION";
    frame_rate_of_two_decimals: "line_15", |all| text(all, "room/index", "FRAME-RATE=30.000", "FRAME-RATE=30.00"), "FRAME-RATE";
    frame_rate_of_another_camera: "line_15", |all| text(all, "room/index", "FRAME-RATE=30.000", "FRAME-RATE=25.000"), "measured";
    captions_left_open: "line_15", |all| text(all, "room/index", ",CLOSED-CAPTIONS=NONE", ""), "CLOSED-CAPTIONS";
    no_independent_segments: "line_16", |all| text(all, "room/index", "#EXT-X-INDEPENDENT-SEGMENTS\n", ""), "INDEPENDENT";
    sound_without_language: "line_16", |all| text(all, "room/index", "LANGUAGE=\"und\",", ""), "LANGUAGE";
    no_i_frame_playlists: "line_17", |all| text(all, "room/index", "#EXT-X-I-FRAME-STREAM-INF", "# "), "I-FRAME";
    i_frames_not_at_a_chunk: "line_17", |all| text(all, "iframes", "3000@0", "3000@7"), "no chunk's beginning";
    a_step_too_high: "line_17", |all| text(all, "room/index", "BANDWIDTH=700000,", "BANDWIDTH=100000,"), "steps";
    a_target_that_changes: "line_18", |all| text(all, "audio/index", "TARGETDURATION:2", "TARGETDURATION:3"), "TARGETDURATION is 3";
    a_segment_too_long: "line_18", |all| text(all, "360p/index", "#EXTINF:2.00000", "#EXTINF:2.60000"), "lasts 2.6";
    a_part_target_that_changes: "line_19", |all| text(all, "180p/index", "PART-TARGET=0.25", "PART-TARGET=0.26"), "PART-TARGET is";
    a_part_too_long: "line_19", |all| text(all, "180p/index", "DURATION=0.23333,URI=\"9.3.m4s\"", "DURATION=0.25100,URI=\"9.3.m4s\""), "0.251 s of 0.25";
    a_part_that_holds_less: "line_19", |all| text(all, "180p/index", "DURATION=0.23333,URI=\"9.3.m4s\"", "DURATION=0.24000,URI=\"9.3.m4s\""), "and holds";
    a_part_too_short: "line_20", |all| text(all, "180p/index", "DURATION=0.23333,URI=\"9.3.m4s\"", "DURATION=0.20000,URI=\"9.3.m4s\""), "lasts 0.2 s";
    a_sound_part_too_short: "line_20", |all| text(all, "audio/index", "DURATION=0.23467,URI=\"9.3.m4s\"", "DURATION=0.20000,URI=\"9.3.m4s\""), "lasts 0.2 s";
    hold_back_too_short: "line_21", |all| text(all, "/index", "PART-HOLD-BACK=0.75", "PART-HOLD-BACK=0.5"), "PART-HOLD-BACK";
    hold_back_that_changes: "line_21", |all| text(all, "audio/index", ",HOLD-BACK=6.0", ",HOLD-BACK=7.0"), "SERVER-CONTROL is";
    skip_boundary_too_near: "line_21", |all| text(all, "/index", "CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=10.0"), "CAN-SKIP-UNTIL";
    independent_and_not_so: "line_22", |all| text(all, "180p/index", "URI=\"9.1.m4s\"", "URI=\"9.1.m4s\",INDEPENDENT=YES"), "INDEPENDENT is true";
    sound_not_independent: "line_22", |all| text(all, "audio/index", "URI=\"9.1.m4s\",INDEPENDENT=YES", "URI=\"9.1.m4s\""), "INDEPENDENT is false";
    dates_from_another_clock: "line_23", |all| text(all, "180p/index", "T08:00:14.000Z", "T08:00:14.005Z"), "dated";
    dates_in_whole_seconds: "line_23", |all| text(all, "180p/index", ".000Z", "Z"), "coarser";
    a_date_behind_a_part: "line_24", |all| text(all, "180p/index", "#EXT-X-PART:DURATION=0.23333,URI=\"9.1.m4s\"\n", "#EXT-X-PART:DURATION=0.23333,URI=\"9.1.m4s\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T08:00:16.000Z\n"), "stands behind a part";
    parts_gone_too_early: "line_25", |all| drop_parts(all, "180p/index", 11), "no parts";
    parts_listed_too_long: "line_25", |all| keep_parts(all, "180p/index"), "behind the edge";
    parts_deleted_too_early: "line_25", |all| each(all, Purpose::Probe("old-part"), "", |probe| probe.status = 404), "404 already";
    segments_deleted_too_early: "line_26", |all| each(all, Purpose::Probe("old-segment"), "", |probe| probe.status = 404), "404 already";
    a_window_too_short: "line_27", |all| shorten(all, "180p/index"), "segments";
    a_live_playlist_with_a_type: "line_27", |all| text(all, "180p/index", "#EXT-X-TARGETDURATION:2\n", "#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:EVENT\n"), "PLAYLIST-TYPE";
    no_discontinuity_sequence: "line_27", |all| text(all, "180p/index", "#EXT-X-DISCONTINUITY-SEQUENCE:0\n", ""), "DISCONTINUITY-SEQUENCE";
    parts_that_come_late: "line_28", |all| every_nth_late(all, "180p/index"), "parts late";
    renditions_out_of_step: "line_28", |all| each(all, Purpose::Playlist, "180p/index", |playlist| late(playlist, SECOND)), "out of step";
    a_listed_part_that_is_not_there: "line_29", |all| each(all, Purpose::Part, "180p/9.1.", |part| part.status = 404), "404";
    a_listed_part_that_is_cut: "line_29", |all| each(all, Purpose::Part, "180p/9.1.", |part| part.body = part.body.slice(1..)), "bytes of";
    parts_that_trickle: "line_29", |all| each(all, Purpose::Part, "", |part| late(part, SECOND)), "slower";
    a_delta_of_an_old_version: "line_30", |all| text(all, "skip", "VERSION:9", "VERSION:8"), "versions";
    a_version_nobody_needs: "line_30", |all| text(all, "180p/index", "VERSION:6", "VERSION:12"), "versions";
    a_stale_answer: "line_31", |all| stale(all, "180p/index"), "was answered when the tip was";
    a_part_past_the_end_not_waited_for: "line_31", |all| probe_text(all, "part-past-the-end", cut_open), "tip";
    a_segment_not_waited_for: "line_32", |all| each(all, Purpose::Probe("segment-in-progress"), "", |probe| probe.target = probe.target.replace("=10", "=11")), "is not whole";
    too_far_but_waited_for: "line_33", |all| each(all, Purpose::Probe("segment-too-far"), "", |probe| late(probe, SECOND)), "400 after 1";
    part_too_far_but_answered: "line_33", |all| each(all, Purpose::Probe("part-too-far"), "", |probe| probe.status = 200), "200";
    two_ahead_but_refused: "line_33", |all| each(all, Purpose::Probe("two-segments-ahead"), "", |probe| probe.status = 400), "400";
    a_part_without_its_segment: "line_34", |all| each(all, Purpose::Probe("part-alone"), "", |probe| probe.status = 200), "200";
    nonsense_that_passes: "line_34", |all| each(all, Purpose::Probe("nonsense"), "", |probe| probe.status = 200), "200";
    the_past_refused: "line_34", |all| each(all, Purpose::Probe("past"), "", |probe| probe.status = 404), "404";
    the_past_waited_for: "line_34", |all| each(all, Purpose::Probe("past"), "", |probe| late(probe, SECOND)), "after 1";
    blocked_for_ever: "line_35", |all| each(all, Purpose::Probe("stalled"), "", |probe| late(probe, 20 * SECOND)), "503 after 26";
    blocked_and_then_lied_to: "line_35", |all| each(all, Purpose::Probe("stalled"), "", |probe| probe.status = 200), "200 after";
    directives_after_the_end: "line_35", |all| each(all, Purpose::Probe("after-the-end"), "", |probe| probe.status = 400), "400";
    waiters_left_asleep_at_the_end: "line_35", |all| all.retain(|one| !(one.purpose == Purpose::Playlist && one.target.contains("180p") && one.text().contains("ENDLIST"))), "knows no end";
    one_of_the_crowd_differs: "line_36", |all| all.iter_mut().rfind(|one| one.purpose == Purpose::Probe("crowd")).unwrap().body = Bytes::from_static(b"#EXTM3U\n"), "200";
    one_of_the_crowd_waits_on: "line_36", |all| late(all.iter_mut().rfind(|one| one.purpose == Purpose::Probe("crowd")).unwrap(), SECOND), "apart";
    a_delta_that_skips_too_much: "line_37", |all| skip_too_much(all), "behind the edge";
    a_delta_with_late_headers: "line_37", |all| late_header(all), "is not before EXT-X-SKIP";
    a_delta_with_other_sequences: "line_37", |all| text(all, "skip", "#EXT-X-DISCONTINUITY-SEQUENCE:0", "#EXT-X-DISCONTINUITY-SEQUENCE:3"), "became";
    another_order_refused: "line_38", |all| each(all, Purpose::Probe("order"), "", |probe| probe.status = 400), "400";
    no_hint: "line_39", |all| text(all, "180p/index", "#EXT-X-PRELOAD-HINT", "#EXT-X-BITRATE:1\n# "), "0 hints";
    a_hint_that_lies: "line_39", |all| text(all, "180p/index", "TYPE=PART,URI=\"9.3.m4s\"", "TYPE=PART,URI=\"9.4.m4s\""), "hinted 9.4";
    a_hint_that_trickles: "line_40", |all| each(all, Purpose::Hint, "180p/9.1.", |hint| hint.done += SECOND), "trickled";
    hints_never_held: "line_40", |all| each(all, Purpose::Hint, "", |hint| hint.sent = hint.head), "held at all";
    a_hint_that_was_another_part: "line_40", |all| each(all, Purpose::Hint, "180p/9.1.", |hint| hint.body = hint.body.slice(1..)), "as a hint";
    a_failed_hint_that_hangs: "line_41", |all| fail_last_hint(all, 404, 5 * SECOND), "after the end";
    a_failed_hint_that_is_refused: "line_41", |all| fail_last_hint(all, 503, Duration::ZERO), "503";
    a_failed_hint_that_is_empty: "line_41", |all| fail_last_hint(all, 200, Duration::ZERO), "200";
    a_hint_with_a_byte_range: "line_42", |all| text(all, "180p/index", "#EXT-X-PRELOAD-HINT:TYPE=PART", "#EXT-X-PRELOAD-HINT:TYPE=PART,BYTERANGE-START=4"), "byterange_start: 4";
    no_reports: "line_43", |all| text(all, "180p/index", "#EXT-X-RENDITION-REPORT:URI=\"../audio", "#EXT-X-RENDITION-REPORT:URI=\"../other"), "a report of";
    a_stale_report: "line_43", |all| stale_reports(all), "stale";
    a_report_with_directives: "line_43", |all| text(all, "180p/index", "../audio/index.m3u8\"", "../audio/index.m3u8?_HLS_msn=1\""), "report URI";
    no_gzip: "line_45", |all| each(all, Purpose::Probe("gzip"), "", |probe| { probe.headers.remove("content-encoding"); }), "\"\"";
    gzip_for_media: "line_45", |all| each(all, Purpose::Probe("gzip-media"), "", |probe| set(probe, "content-encoding", "gzip")), "gzip";
    no_vary: "line_45", |all| each(all, Purpose::Playlist, "", |one| { one.headers.remove("vary"); }), "Vary";
    blocking_reloads_not_cached: "line_46", |all| each(all, Purpose::Playlist, "_HLS_msn", |one| set(one, "cache-control", "no-cache")), "Cache-Control";
    media_that_may_change: "line_46", |all| each(all, Purpose::Part, "", |one| set(one, "cache-control", "public, max-age=60")), "Cache-Control";
    missing_media_cached: "line_46", |all| each(all, Purpose::Probe("missing"), "", |one| set(one, "cache-control", "max-age=60")), "404";
    plain_playlists_cached: "line_46", |all| each(all, Purpose::Playlist, "iframes", |one| set(one, "cache-control", "max-age=60")), "Cache-Control";
    an_error_without_cors: "line_47", |all| each(all, Purpose::Probe("missing"), "", |one| { one.headers.remove("access-control-allow-origin"); }), "404 without CORS";
    nothing_exposed: "line_47", |all| each(all, Purpose::Part, "", |one| { one.headers.remove("access-control-expose-headers"); }), "exposes";
    ranges_not_allowed: "line_47", |all| each(all, Purpose::Probe("options"), "", |one| set(one, "access-control-allow-headers", "x")), "allows";
    head_with_a_body: "line_48", |all| each(all, Purpose::Probe("head"), "", |one| one.body = Bytes::from_static(b"x")), "HEAD";
    a_wrong_range: "line_48", |all| each(all, Purpose::Probe("range"), "", |one| one.body = one.body.slice(1..)), "a range of";
    a_range_from_the_wrong_end: "line_48", |all| each(all, Purpose::Probe("range-of-the-end"), "", |one| one.body = one.body.slice(1..)), "the last bytes";
    a_range_outside_granted: "line_48", |all| each(all, Purpose::Probe("range-outside"), "", |one| one.status = 200), "outside";
    an_etag_ignored: "line_48", |all| each(all, Purpose::Probe("not-modified"), "", |one| one.status = 200), "ETag: 200";
    a_redirect: "line_48", |all| each(all, Purpose::Part, "360p/7.1.", |one| one.status = 302), "redirects";
    an_end_in_one_rendition: "line_56", |all| all.retain(|one| !(one.target.contains("180p") && one.text().contains("ENDLIST"))), "ENDLIST in";
    a_hint_after_the_end: "line_56", |all| text(all, "180p/index", "#EXT-X-ENDLIST", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x\"\n#EXT-X-ENDLIST"), "hints after";
    an_end_long_after_another: "line_56", |all| all.iter_mut().filter(|one| one.target.contains("180p") && one.text().contains("ENDLIST")).for_each(|one| late(one, 3 * SECOND)), "apart";
    a_rendition_with_another_range: "line_57", |all| text(all, "180p/index", "#EXT-X-MEDIA-SEQUENCE:6", "#EXT-X-MEDIA-SEQUENCE:7"), "elsewhere";
    durations_that_do_not_add_up: "line_57", |all| text(all, "180p/index", "#EXTINF:2.00000", "#EXTINF:1.90000"), "EXTINF sums";
}

#[test]
fn an_old_protocol() {
    let mut old = evidence(exchanges());
    old.security = Some(super::Security {
        protocol: "TLSv1_2".to_owned(),
        ..security()
    });
    must_fail("line_44", &old, "TLSv1_2");
    old.security = Some(super::Security {
        alpn: "http/1.1".to_owned(),
        ..security()
    });
    must_fail("line_44", &old, "http/1.1");
    old.security = Some(super::Security {
        max_streams: Some(10),
        ..security()
    });
    must_fail("line_44", &old, "10");
}

fn replace(exchange: &mut Exchange, from: &[u8], to: &[u8]) {
    let mut body = exchange.body.to_vec();
    let at = body
        .windows(from.len())
        .position(|window| window == from)
        .expect("such bytes");
    body[at..at + to.len()].copy_from_slice(to);
    exchange.body = body.into();
}

/// The type of the first slice of an IDR becomes that of another picture's.
fn spoil_idr(exchanges: &mut [Exchange], place: &str) {
    for purpose in [Purpose::Part, Purpose::Hint] {
        each(exchanges, purpose, place, |part| {
            let mut body = part.body.to_vec();
            let slice = body
                .windows(2)
                .position(|window| window == [0x65, 0x88])
                .expect("an IDR slice");
            body[slice] = 0x41;
            part.body = body.into();
        });
    }
}

/// The first NAL unit of the first sample becomes a sequence parameter set.
fn parameter_set(exchanges: &mut [Exchange], place: &str) {
    for purpose in [Purpose::Part, Purpose::Hint] {
        each(exchanges, purpose, place, |part| {
            let mut body = part.body.to_vec();
            let mdat = body
                .windows(4)
                .position(|window| window == b"mdat")
                .expect("an mdat");
            body[mdat + 8] = 0x67;
            part.body = body.into();
        });
    }
}

/// A free box of the right size in `moov` becomes an edit list that starts with nothing.
fn edit_list(init: &mut Exchange) {
    // udta, which ffmpeg writes last, is replaced: an edts needs to be in trak, whose size grows by what is inserted.
    let mut elst = Vec::new();
    for word in [
        28_u32,
        u32::from_be_bytes(*b"elst"),
        0,
        1,
        1000,
        u32::MAX,
        0x1_0000,
    ] {
        elst.extend_from_slice(&word.to_be_bytes());
    }
    let edts = [&36_u32.to_be_bytes()[..], b"edts", &elst].concat();
    let mut body = init.body.to_vec();
    let find = |body: &[u8], name: &[u8]| {
        body.windows(4)
            .position(|window| window == name)
            .expect("a box")
            - 4
    };
    let grow = |body: &mut [u8], at: usize| {
        let size = u32::from_be_bytes(*body[at..].first_chunk().expect("a size")) + 36;
        body[at..at + 4].copy_from_slice(&size.to_be_bytes());
    };
    let (moov, trak, mdia) = (
        find(&body, b"moov"),
        find(&body, b"trak"),
        find(&body, b"mdia"),
    );
    grow(&mut body, moov);
    grow(&mut body, trak);
    body.splice(mdia..mdia, edts);
    init.body = body.into();
}

/// The decode time of the first fragment is set back, its composition offset forward: shown at the same time.
fn composition_offset(part: &mut Exchange) {
    // A trun of one sample without offsets has flags that this cannot add to in place; the sample's own time can stand
    // for it: a first fragment without IDR time equal to its decode time is what the check looks for.
    let mut body = part.body.to_vec();
    let trun = body
        .windows(4)
        .position(|window| window == b"trun")
        .expect("a trun");
    let size = u32::from_be_bytes(*body[trun - 4..].first_chunk().expect("a size"));
    let grow = |body: &mut Vec<u8>, name: &[u8]| {
        let at = body
            .windows(4)
            .position(|window| window == name)
            .expect("a box")
            - 4;
        let size = u32::from_be_bytes(*body[at..].first_chunk().expect("a size")) + 4;
        body[at..at + 4].copy_from_slice(&size.to_be_bytes());
    };
    for name in [&b"moof"[..], b"traf", b"trun"] {
        grow(&mut body, name);
    }
    // Flag 0x800: each sample has a composition offset. The data begins four bytes later.
    body[trun + 6] |= 0x08;
    let offset = trun + 12;
    let data = u32::from_be_bytes(*body[offset..].first_chunk().expect("an offset")) + 4;
    body[offset..offset + 4].copy_from_slice(&data.to_be_bytes());
    let end = trun - 4 + size as usize;
    body.splice(end..end, 3000_u32.to_be_bytes());
    part.body = body.into();
}

/// No parts for one segment.
fn drop_parts(exchanges: &mut [Exchange], place: &str, segment: u64) {
    lines(exchanges, place, |line| {
        !line.contains(&format!("URI=\"{segment}.")) || line.contains("HINT")
    });
}

fn lines(exchanges: &mut [Exchange], place: &str, keep: impl Fn(&str) -> bool) {
    each(exchanges, Purpose::Playlist, place, |playlist| {
        let kept: Vec<String> = playlist
            .text()
            .lines()
            .filter(|line| keep(line))
            .map(|line| format!("{line}\n"))
            .collect();
        playlist.body = kept.concat().into();
    });
}

/// Every listed segment keeps a part.
fn keep_parts(exchanges: &mut [Exchange], place: &str) {
    each(exchanges, Purpose::Playlist, place, |playlist| {
        playlist.body = playlist
            .text()
            .replace("#EXTINF", "#EXT-X-PART:DURATION=0.2,URI=\"x\"\n#EXTINF")
            .into();
    });
}

/// Only the newest segments stay listed.
fn shorten(exchanges: &mut [Exchange], place: &str) {
    each(exchanges, Purpose::Playlist, place, |playlist| {
        let text = playlist.text();
        let (head, media) = text
            .split_once("#EXT-X-PROGRAM-DATE-TIME")
            .expect("a segment");
        let (_, sequence) = head.split_once("MEDIA-SEQUENCE:").expect("a sequence");
        let first: u64 = sequence
            .lines()
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number");
        let head = head.replace(
            &format!("MEDIA-SEQUENCE:{first}"),
            &format!("MEDIA-SEQUENCE:{}", first + 4),
        );
        let rest = media
            .split("#EXT-X-PROGRAM-DATE-TIME")
            .skip(4)
            .map(|segment| format!("#EXT-X-PROGRAM-DATE-TIME{segment}"));
        playlist.body = format!("{head}{}", rest.collect::<String>()).into();
    });
}

fn every_nth_late(exchanges: &mut [Exchange], place: &str) {
    let playlists = exchanges
        .iter_mut()
        .filter(|one| one.purpose == Purpose::Playlist && one.target.contains(place));
    for (index, playlist) in playlists.enumerate() {
        if index % 3 == 0 {
            late(playlist, SECOND / 5);
        }
    }
}

/// Every answer is the one before.
fn stale(exchanges: &mut [Exchange], place: &str) {
    let mut before = None;
    for playlist in exchanges
        .iter_mut()
        .filter(|one| one.purpose == Purpose::Playlist && one.target.contains(place))
    {
        let now = playlist.body.clone();
        playlist.body = before.replace(now.clone()).unwrap_or(now);
    }
}

/// Every report is the one of a second before.
fn stale_reports(exchanges: &mut [Exchange]) {
    let is_report = |line: &&str| line.starts_with("#EXT-X-RENDITION-REPORT");
    let mut old: Vec<String> = Vec::new();
    each(exchanges, Purpose::Playlist, "180p/index", |playlist| {
        let text = playlist.text();
        let reports: String = text
            .lines()
            .filter(is_report)
            .map(|line| format!("{line}\n"))
            .collect();
        let rest: String = text
            .lines()
            .filter(|line| !is_report(line))
            .map(|line| format!("{line}\n"))
            .collect();
        old.push(reports);
        if !text.contains("ENDLIST") {
            playlist.body = format!("{rest}{}", old[old.len().saturating_sub(5)]).into();
        }
    });
}

fn probe_text(exchanges: &mut [Exchange], name: &'static str, change: impl Fn(&str) -> String) {
    each(exchanges, Purpose::Probe(name), "", |probe| {
        probe.body = change(&probe.text()).into()
    });
}

/// The playlist without the segment in progress.
fn cut_open(text: &str) -> String {
    let end = text.rfind(".m4s\n").expect("a whole segment") + 5;
    text[..end].to_owned()
}

fn skip_too_much(exchanges: &mut [Exchange]) {
    each(exchanges, Purpose::Delta, "180p", |delta| {
        let text = delta.text();
        let Some((head, rest)) = text.split_once("#EXT-X-SKIP:SKIPPED-SEGMENTS=") else {
            return;
        };
        let (count, rest) = rest.split_once('\n').expect("a line");
        let more: u64 = count.parse::<u64>().expect("a count") + 1;
        let (_, rest) = rest.split_once(".m4s\n").expect("a segment");
        delta.body = format!("{head}#EXT-X-SKIP:SKIPPED-SEGMENTS={more}\n{rest}").into();
    });
}

fn late_header(exchanges: &mut [Exchange]) {
    each(exchanges, Purpose::Delta, "180p", |delta| {
        let text = delta.text();
        if text.contains("#EXT-X-SKIP") {
            let header = "#EXT-X-PART-INF:PART-TARGET=0.25\n";
            delta.body = format!("{}{header}", text.replace(header, "")).into();
        }
    });
}

/// The last part was hinted and did not come.
fn fail_last_hint(exchanges: &mut Vec<Exchange>, status: u16, by: Duration) {
    let last = exchanges
        .iter()
        .rfind(|one| one.purpose == Purpose::Hint && one.target.contains("180p"))
        .expect("a hint");
    let (path, name) = (
        last.target.clone(),
        last.target
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned(),
    );
    exchanges.retain(|one| !(one.purpose == Purpose::Part && one.target == path));
    each(exchanges, Purpose::Playlist, "180p", |playlist| {
        if playlist.text().contains("ENDLIST") {
            let kept: Vec<String> = playlist
                .text()
                .lines()
                .filter(|line| !line.contains(&name))
                .map(|line| format!("{line}\n"))
                .collect();
            playlist.body = kept.concat().into();
        }
    });
    each(exchanges, Purpose::Hint, &path, |hint| {
        hint.status = status;
        late(hint, by);
    });
}
