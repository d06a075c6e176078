//! The ban policy's verdicts, within the guardrails (PROTOCOLS 6, 7).
//!
//! Invariant: in a suspect round nobody is judged; who left, or was decided about by hand since the settlement before, is
//! not judged either; probation is begun and ended by the host alone.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::BanColumns;
use crate::decide::{Description, Slot};
use crate::guardrails::{self, PutOut, Ruling};
use crate::id::{LogIndex, RoundId};
use crate::members::{Member, Place};
use crate::outcome::{Author, Move, Notice, Write};
use crate::settle::{Heard, Settlement, remember};
use crate::standing::Standing;
use crate::state::Effects;

/// The reason of a member that is suspended because the bans of its round were used up.
pub const BAN_DEFERRED: &str = "ban_deferred";

const PROBATION_OVER: &str = "the probation is over";

impl<'a> Settlement<'a> {
    /// Lets the ban policy's verdicts take effect, within the guardrails. In a suspect round nobody is judged.
    pub(crate) fn judge(&mut self, fx: &mut Effects) {
        if self.settle.report.marks.is_suspect() {
            return;
        }
        self.count_probation();
        if self.ban.row.active.is_none() {
            return self.end_probation(fx);
        }
        let heard = match self.heard(self.ban.row.active, &self.settle.ban.answer, guardrails::check_ban) {
            Ok(Some(heard)) => heard,
            Ok(None) => return,
            Err(fault) => return self.fault(Slot::Ban, fault),
        };
        let rulings = self.rule(heard.columns);
        for (at, ruling) in rulings.into_iter().enumerate() {
            if let Some(verdict) = self.verdict(at, &heard, ruling) {
                self.pronounce(at, &verdict, fx);
            }
        }
        let Self { rows, ban, .. } = self;
        remember(Slot::Ban, &mut ban.memory, &heard.change, rows, is_judged, fx);
        self.note_held(fx);
    }

    /// A trusted round counts for everybody on probation, judged or not.
    fn count_probation(&mut self) {
        for (_, member) in &mut self.rows {
            member.hot.probation_left = member.hot.probation_left.saturating_sub(1);
        }
    }

    /// Without a policy in the slot nobody else ends a probation.
    fn end_probation(&mut self, fx: &mut Effects) {
        for at in 0..self.rows.len() {
            let over = |m: &Member| m.hot.standing == Standing::Probation && m.hot.probation_left == 0 && is_judged(m);
            let Some((_, member)) = self.rows.get(at).filter(|(_, member)| over(member)) else { continue };
            let strikes = member.hot.strikes;
            let verdict = Verdict {
                to: Standing::Good,
                strikes,
                until: RoundId(0),
                reason: PROBATION_OVER,
                by: Author::Host,
                counts: false,
                held: false,
            };
            self.pronounce(at, &verdict, fx);
        }
    }

    /// Rules on everyone whom the policy wants to put out; one ruling a row.
    fn rule(&mut self, columns: &BanColumns) -> Vec<Ruling> {
        let (settings, round) = (&self.meta.settings, self.settle.round);
        let (span, accepted) = (settings.moves_rounds, self.ban.row.moves_accepted);
        let wishes = self.rows.iter().zip(&columns.standing).enumerate().filter_map(|(at, ((_, member), code))| {
            let hot = &member.hot;
            let to = hot.standing.after(Standing::from_policy(*code)?, hot.probation_left == 0);
            (is_judged(member) && to.is_out() && to != hot.standing).then(|| PutOut {
                last_up: hot.last_up,
                at,
                ban: to == Standing::Banned,
                counted: hot.moved_out > accepted && round.since(hot.moved_out) < span,
            })
        });
        let mut rulings = alloc::vec![Ruling::Stands; self.rows.len()];
        for (wish, ruling) in guardrails::rule(wishes.collect(), self.rows.len(), self.put_out, settings) {
            self.record.deferred += u32::from(ruling == Ruling::Deferred);
            self.record.held += u32::from(ruling == Ruling::Held);
            if let Some(row) = rulings.get_mut(wish.at) {
                *row = ruling;
            }
        }
        rulings
    }

    /// What the policy's columns and the ruling make of a row; `None` for one that is not judged.
    fn verdict(&mut self, at: usize, heard: &Heard<'a, BanColumns>, ruling: Ruling) -> Option<Verdict<'a>> {
        let (_, member) = self.rows.get(at).filter(|(_, member)| is_judged(member))?;
        let (hot, columns) = (&member.hot, heard.columns);
        let strikes = *columns.strikes.get(at)?;
        let from = hot.standing;
        let to = from.after(Standing::from_policy(*columns.standing.get(at)?)?, hot.probation_left == 0);
        let asked = u64::from(*columns.until.get(at)?);
        let longest = self.meta.settings.longest_ban_rounds();
        let reason = text(heard.description, *columns.reasons.get(at)?);
        let (round, by) = (self.settle.round, Author::Policy(heard.policy));
        let verdict = |to, until, reason, by| Verdict { to, strikes, until, reason, by, counts: true, held: false };
        Some(match (ruling, to) {
            (Ruling::Held, _) => Verdict { counts: false, held: true, ..verdict(from, hot.until, "", by) },
            (Ruling::Deferred, _) => verdict(Standing::Suspended, RoundId(0), BAN_DEFERRED, by),
            (Ruling::Stands, Standing::Banned) => {
                let rounds = asked.clamp(1, longest);
                self.record.clamped += u32::from(rounds != asked);
                verdict(to, round.plus(rounds), reason, by)
            }
            (Ruling::Stands, Standing::Suspended) if asked > 0 => {
                verdict(to, round.plus(asked.min(longest)), reason, by)
            }
            (Ruling::Stands, Standing::Good) if from == Standing::Probation => {
                verdict(to, RoundId(0), PROBATION_OVER, Author::Host)
            }
            (Ruling::Stands, Standing::Probation) => Verdict { counts: false, ..verdict(to, RoundId(0), "", by) },
            (Ruling::Stands, Standing::Good | Standing::Warned | Standing::Suspended) => {
                verdict(to, RoundId(0), reason, by)
            }
        })
    }

    /// Lets a verdict take effect.
    fn pronounce(&mut self, at: usize, verdict: &Verdict<'_>, fx: &mut Effects) {
        let Some((node, member)) = self.rows.get_mut(at) else { return };
        let (hot, profile) = (&mut member.hot, &mut member.profile);
        let from = hot.standing;
        let moves = from != verdict.to;
        // A reason stays until something moves: "was not observed" does not say why a member is suspended.
        let is_news = moves
            || hot.strikes != verdict.strikes
            || verdict.reason == BAN_DEFERRED
            || (verdict.to == Standing::Good && verdict.reason.is_empty());
        hot.standing = verdict.to;
        hot.strikes = verdict.strikes;
        hot.until = verdict.until;
        if verdict.to != Standing::Probation {
            hot.probation_left = 0;
        }
        if moves && verdict.to.is_out() {
            hot.moved_out = self.settle.round;
        }
        if verdict.held {
            // Whose wish was held first stays known for the span of the cap: the strikes are its, and `bans lift` of it is to
            // find the member also where another policy was held meanwhile.
            let (at, round) = (hot.held_at, self.settle.round);
            let other = hot.held_by != self.ban.row.active && hot.held_by.is_some();
            if !(other && at > RoundId(0) && round.since(at) < self.meta.settings.moves_rounds) {
                hot.held_by = self.ban.row.active;
                hot.held_at = round;
            }
        }
        // Whoever is out is out by the policy that said so last; for the others a swap alone changes nothing.
        let decided_by = match verdict.by {
            Author::Policy(policy) => Some(policy),
            Author::Host | Author::Operator(_) => None,
        };
        let other_reason = verdict.counts && is_news && profile.reason != verdict.reason;
        let other_author = verdict.counts && verdict.to.is_out() && profile.decided_by != decided_by;
        if moves || other_reason || other_author {
            if moves || other_reason {
                profile.reason = verdict.reason.to_string();
            }
            profile.decided_by = decided_by;
            fx.profile(**node, member);
        }
        if moves {
            self.record.moves += 1;
            fx.moved(Move {
                index: LogIndex(0),
                node: **node,
                round: self.settle.round,
                now_ms: self.record.now_ms,
                from,
                to: verdict.to,
                strikes: verdict.strikes,
                until: Some(verdict.until).filter(|until| *until > RoundId(0)),
                reason: verdict.reason.to_string(),
                by: verdict.by,
            });
        }
    }

    /// Says that moves are held back, and when none is any more.
    fn note_held(&mut self, fx: &mut Effects) {
        let held = self.record.held > 0;
        if self.ban.row.held == held {
            return;
        }
        self.ban.row.held = held;
        fx.writes.push(Write::Slot(Slot::Ban, Box::new(self.ban.row.clone())));
        if held {
            fx.notices.push(Notice::Policy {
                slot: Slot::Ban,
                policy: self.ban.row.active,
                what: "held",
                round: self.settle.round,
                detail: format!(
                    "{} members keep their standing until an operator accepts or rolls back",
                    self.record.held
                ),
            });
        }
    }
}

/// What becomes of one member.
struct Verdict<'a> {
    to: Standing,
    strikes: u16,
    until: RoundId,
    reason: &'a str,
    by: Author,
    /// It says something of a standing that stays as it is, too.
    counts: bool,
    /// It was to be put out, and is held back.
    held: bool,
}

/// Whether the judgement of a round counts for a member of its queue. It does not for one that said goodbye or turned
/// out to be outdated, whatever was seen of it, nor for one that an operator decided about meanwhile.
fn is_judged(member: &Member) -> bool {
    member.hot.place == Place::Queued && !member.hot.by_hand
}

/// The text of a reason code.
fn text(description: &Description, code: u16) -> &str {
    usize::from(code).checked_sub(1).and_then(|at| description.reasons.get(at)).map_or("", String::as_str)
}
