//! One check for each line of the requirements for LL-HLS, over what a player recorded.
//!
//! The numbers are those of the project's list of requirements, the clauses those of draft-pantos-hls-rfc8216bis
//! and ISO/IEC 23000-19. A check that finds nothing to judge fails: silence is no proof.

mod directives;
mod end;
mod http;
mod media;
mod multivariant;
mod playlist;
mod probes;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(crate) use probes::{
    Security, ask_hints, probe, probe_ended, probe_old, probe_stalled, security,
};

use super::hls::{Fragment, Kind, Recording, Rendition};

/// What the checks judge.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) recording: Recording,
    pub(crate) security: Option<Security>,
    /// The media of every part that was received, by path of its playlist, in order.
    media: BTreeMap<String, Vec<PartMedia>>,
    /// Media that could not be read.
    unreadable: Vec<String>,
}

/// A part with its samples.
#[derive(Clone, Debug)]
struct PartMedia {
    segment: u64,
    index: usize,
    path: String,
    /// As the playlist says.
    duration: f64,
    independent: bool,
    discontinuity: bool,
    fragments: Vec<Fragment>,
}

impl PartMedia {
    fn samples(&self) -> impl Iterator<Item = &super::hls::Sample> {
        self.fragments.iter().flat_map(|fragment| &fragment.samples)
    }
}

impl Evidence {
    pub(crate) fn new(recording: Recording, security: Option<Security>) -> Self {
        let mut evidence = Self {
            recording,
            security,
            media: BTreeMap::new(),
            unreadable: Vec::new(),
        };
        for rendition in evidence.recording.played() {
            let parts = evidence.media.entry(rendition.path.clone()).or_default();
            for segment in rendition.timeline() {
                for (index, part) in segment
                    .parts
                    .iter()
                    .enumerate()
                    .filter(|(_, part)| !part.gap)
                {
                    let path = super::hls::resolve(&rendition.path, &part.uri);
                    // The newest parts may not have come before the recording ended.
                    if evidence.recording.object(&path).is_none() {
                        continue;
                    }
                    match evidence
                        .recording
                        .fragments(rendition, segment.map.as_deref(), &part.uri)
                    {
                        Ok(fragments) => parts.push(PartMedia {
                            segment: segment.number,
                            index,
                            path,
                            duration: part.duration,
                            independent: part.independent,
                            discontinuity: segment.discontinuity && index == 0,
                            fragments,
                        }),
                        Err(problem) => evidence.unreadable.push(problem),
                    }
                }
            }
        }
        evidence
    }

    fn parts(&self, rendition: &Rendition) -> &[PartMedia] {
        self.media.get(&rendition.path).map_or(&[], Vec::as_slice)
    }

    /// Renditions of this kind with their parts.
    fn tracks(&self, kind: Kind) -> impl Iterator<Item = (&Rendition, &[PartMedia])> {
        self.recording
            .of_kind(kind)
            .map(|rendition| (rendition, self.parts(rendition)))
    }

    /// Video and sound with their parts.
    fn all_tracks(&self) -> impl Iterator<Item = (&Rendition, &[PartMedia])> {
        self.tracks(Kind::Video).chain(self.tracks(Kind::Sound))
    }
}

/// What a check found: how much it judged, and what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    judged: usize,
    wrong: Vec<String>,
}

impl Verdict {
    /// Judges one thing.
    fn require(&mut self, good: bool, wrong: impl FnOnce() -> String) {
        self.judged += 1;
        if !good {
            self.wrong.push(wrong());
        }
    }

    /// Judges something that must have been seen.
    fn some<T>(&mut self, value: Option<T>, missing: &str) -> Option<T> {
        self.require(value.is_some(), || format!("{missing} was not seen"));
        value
    }

    /// Everything wrong, the first few in words.
    fn problems(&self) -> Option<String> {
        if self.judged == 0 {
            return Some("nothing was seen that could be judged".to_owned());
        }
        let shown = self
            .wrong
            .iter()
            .take(5)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n    ");
        (!self.wrong.is_empty()).then(|| {
            format!(
                "{} of {} wrong:\n    {shown}",
                self.wrong.len(),
                self.judged
            )
        })
    }
}

type Check = fn(&Evidence) -> Verdict;

macro_rules! checks {
    ($($module:ident: $($name:ident)*;)*) => {
        /// Every check with its name, in the order of the requirements.
        const CHECKS: &[(&str, Check)] = &[$($((stringify!($name), $module::$name as Check),)*)*];
    };
}

checks! {
    media:
        line_01_init_is_one_track_without_samples
        line_02_part_is_whole_chunks
        line_03_parts_make_the_segment
        line_04_decode_times_are_continuous
        line_05_segments_start_with_idr_and_closed_gops
        line_06_sync_flags_are_true
        line_07_parameter_sets_only_in_the_init
        line_08_same_number_same_start
        line_09_sound_boundaries_do_not_drift
        line_10_no_edit_lists
        line_11_names_are_immutable
        line_12_discontinuities_are_everywhere_at_once;
    multivariant:
        line_13_bandwidth_is_true
        line_14_codecs_are_read_from_the_init
        line_15_variants_are_described
        line_16_independent_segments_and_sound_attributes
        line_17_i_frames_and_a_ladder;
    playlist:
        line_18_target_duration_is_constant_and_kept
        line_19_part_target_is_constant_and_kept
        line_20_parts_are_long_enough
        line_21_server_control_is_constant
        line_22_independent_parts_start_with_idr
        line_23_dates_follow_the_media
        line_24_tags_stand_before_the_parts
        line_25_parts_are_listed_for_three_targets
        line_26_segments_outlive_their_listing
        line_27_window_is_long_enough
        line_28_parts_come_in_time
        line_29_what_is_listed_can_be_had
        line_30_version_is_what_is_needed;
    directives:
        line_31_reload_blocks_until_the_part
        line_32_reload_blocks_until_the_segment
        line_33_too_far_is_refused_at_once
        line_34_past_is_answered_at_once_and_part_needs_msn
        line_35_blocked_too_long_and_after_the_end
        line_36_all_waiters_get_the_same_bytes
        line_37_delta_updates_add_up
        line_38_directives_in_any_order
        line_39_one_hint_for_the_next_part
        line_40_hints_block_and_come_whole
        line_41_hints_that_fail_are_404
        line_42_hints_need_no_byte_ranges
        line_43_reports_are_fresh;
    http:
        line_44_http2_over_tls13
        line_45_gzip_for_playlists_only
        line_46_cache_control
        line_47_cors_everywhere
        line_48_finished_media_is_a_good_file;
    end:
        line_56_the_end_is_everywhere_at_once
        line_57_all_renditions_have_the_same_range;
}

/// Runs every check but those named; fails the test with all that is wrong.
pub(crate) fn judge(evidence: &Evidence, but: &[&str]) {
    let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    for name in but {
        assert!(names.contains(name), "{name} is no check");
    }
    let chosen = CHECKS.iter().filter(|(name, _)| !but.contains(name));
    let wrong =
        chosen.filter_map(|(name, check)| Some(format!("{name}: {}", check(evidence).problems()?)));
    let mut wrong: Vec<String> = wrong.collect();
    wrong.extend(
        evidence
            .recording
            .unreadable
            .iter()
            .chain(&evidence.unreadable)
            .map(|problem| format!("unreadable: {problem}")),
    );
    assert!(
        wrong.is_empty(),
        "{} checks failed:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
