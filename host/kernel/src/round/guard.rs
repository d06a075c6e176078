//! Whose fault was it?
//!
//! When many members go missing in the same round, the likeliest cause is us: an observer's network, a paused super, a
//! change of leader half-way. The guard then marks the round as suspect. What the mark means is `settle`'s business.
//!
//! Invariant: the mark follows from the report and the state before it, so anyone can derive it again from history.
//!
//! Not here, on purpose: finding the culprit, and paying those who are missing. Whoever takes a third of the members
//! down must win nothing but a pause; after `suspect_rounds` an operator is asked whether the loss is real.

use super::{Marks, Presence, Report, cause};
use crate::id::{RoundId, Term};
use crate::limits::SUSPECT_LAG_DIVISOR;
use crate::settings::Settings;
use crate::state::State;
use crate::units::BasisPoints;

/// The marks of a report on a state in which the round before it is the last settled one. Whatever marks the report
/// carries are not looked at.
#[must_use]
pub fn derive(report: &Report, state: &State) -> Marks {
    let settings = &state.meta.settings;
    let mut marks = Marks { term_before: state.meta.settled_term, ..Marks::default() };

    if state.meta.trusted > RoundId(0) {
        let members = state.queued().map(|(_, member)| &member.hot);
        for (at, _) in members.enumerate().filter(|(_, hot)| hot.trusted_up) {
            marks.trusted_up += 1;
            marks.missing += u32::from(report.presence(at) == Presence::Down);
        }
    }
    let lag_bound_ms = settings.timeout_ms() / SUSPECT_LAG_DIVISOR;
    for seat in report.seats.iter().filter(|seat| seat.came) {
        marks.partials += 1;
        marks.lagging += u32::from(seat.lag_ms > lag_bound_ms);
    }
    for (asked, seen) in report.asked.iter().zip(&report.seen).filter(|(asked, _)| asked.count_ones() >= 2) {
        marks.asked_twice += 1;
        marks.disputed += u32::from(*seen != 0 && seen & asked != *asked);
    }
    marks.causes = causes(&marks, report.term, settings);
    marks
}

/// The causes that follow from the numbers of a report's marks.
#[must_use]
pub fn causes(marks: &Marks, term: Term, settings: &Settings) -> u8 {
    let reached = |part: u32, whole: u32, share_bp: u64, min: u64| {
        let share = BasisPoints(u32::try_from(share_bp).unwrap_or(u32::MAX));
        u64::from(part) >= min && share.reached_by(part.into(), whole.into())
    };
    let mut causes = 0;
    if reached(marks.missing, marks.trusted_up, settings.suspect_share_bp, settings.suspect_min) {
        causes |= cause::MISSING;
    }
    if marks.lagging > 0 && 2 * u64::from(marks.lagging) >= u64::from(marks.partials) {
        causes |= cause::LAG;
    }
    // Before the first settlement there is no leader to change from.
    if marks.term_before != Term(0) && term != marks.term_before {
        causes |= cause::LEADER;
    }
    if reached(marks.disputed, marks.asked_twice, settings.disagree_share_bp, settings.disagree_min) {
        causes |= cause::DISAGREEMENT;
    }
    causes
}

#[cfg(test)]
mod tests;
