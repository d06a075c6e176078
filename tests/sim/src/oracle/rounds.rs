//! Each settlement, looked at by one who knows who was there.

use std::collections::BTreeMap;

use kernel::command::{Command, Settle};
use kernel::id::{LogIndex, MemberNumber, NodeId};
use kernel::outcome::{Notice, RoundRecord};
use kernel::round::{OpenRound, Partial, Presence, guard};
use kernel::standing::Standing;

use crate::policies::POINTS;
use crate::raft::Payload;
use crate::world::World;

/// Intervals after which whatever was wrong with a follower has passed: it has come back from the longest wait.
const WELL_AFTER: u64 = 8;
/// Intervals after which whatever was wrong with the supers has passed: the longest grace and the way back.
const CALM_AFTER: u64 = 15;
/// Rounds after its death in which a member is suspended.
const SUSPENDED_IN: u32 = 3;

/// A member before a settlement.
type Before = BTreeMap<MemberNumber, (NodeId, Standing, u16)>;

impl World {
    /// An entry is committed: what it does to the oracle's state, and whether that is right.
    pub(crate) fn judge(&mut self, index: u64, command: &Command) {
        let oracle = &mut self.oracle;
        if index <= oracle.applied {
            return;
        }
        // What lies between are entries of the group; the real Raft has others besides, and does not show them.
        let is_shown = self.real.is_none();
        let skipped = (oracle.applied + 1..index).find(|at| match oracle.log.get(at).map(|(_, payload)| &**payload) {
            Some(Payload::Command(_)) => true,
            Some(Payload::Config(_)) => false,
            None => is_shown,
        });
        if let Some(at) = skipped {
            oracle.wrong(format!("entry {index} was applied and entry {at} was not"));
        }
        let settled = oracle.state.meta.settled;
        let row = |(node, member): (&NodeId, &kernel::members::Member)| {
            (member.profile.number, (*node, member.hot.standing, member.hot.strikes))
        };
        let settles = matches!(command, Command::Settle(_));
        let before: Before = oracle.state.members.iter().filter(|_| settles).map(row).collect();
        let mut doubted = None;
        if let Command::Settle(settle) = command
            && settle.report.is_well_formed(oracle.state.queue.len())
        {
            doubted = Some((guard::derive(&settle.report, &oracle.state), settle.report.marks));
        }
        let outcome = oracle.state.apply(LogIndex(index), command);
        if let Some((expected, marks)) = doubted.filter(|(expected, marks)| outcome.reply.is_ok() && expected != marks)
        {
            oracle.wrong(format!("a round was settled with the marks {marks:?}, and its report gives {expected:?}"));
        }
        oracle.applied = index;
        oracle.keep_hash(index, settles);
        if index.is_multiple_of(1_000) {
            oracle.forget();
        }
        if let Command::Claim(claim) = command {
            oracle.claimed(claim, &outcome.reply);
            self.count("claims committed");
        }
        if let Command::Settle(settle) = command {
            if outcome.reply.is_ok() {
                if settle.round != settled.next() {
                    self.oracle.wrong(format!("round {} was settled after round {settled}", settle.round));
                }
                let record = outcome
                    .notices
                    .iter()
                    .find_map(|notice| if let Notice::Round(record) = notice { Some(&**record) } else { None });
                self.look_at_round(settle, record.expect("a settlement tells of its round"), &before);
            } else {
                self.count("settlements refused");
            }
        }
        self.look_at_seats();
    }

    fn look_at_seats(&mut self) {
        let meta = &self.oracle.state.meta;
        let mut seats: Vec<u8> = meta.seats.iter().chain(&meta.left).map(|row| row.seat.0).collect();
        let all = seats.len();
        seats.sort_unstable();
        seats.dedup();
        if seats.len() != all || meta.seats.is_empty() {
            self.oracle.wrong("two supers have one seat".into());
        }
    }

    fn look_at_round(&mut self, settle: &Settle, record: &RoundRecord, before: &Before) {
        let trusted = !record.marks.is_suspect();
        self.count("rounds settled");
        self.count(if trusted { "rounds trusted" } else { "rounds suspect" });
        self.oracle.settled_us.push(self.now_us);
        let base = self.look_at_partials(settle);
        let Some(opened_us) = self.oracle.opened.get(&(settle.term, settle.round)).copied() else {
            return self
                .oracle
                .wrong(format!("round {} was settled in term {} and never opened", settle.round, settle.term));
        };
        self.tell(|world| {
            let meta = &world.oracle.state.meta;
            let seats: Vec<String> = meta
                .seats
                .iter()
                .map(|row| format!("{}{}<{}", row.seat, if row.came { "" } else { "-" }, row.grace_until))
                .collect();
            let (counts, causes) = (record.counts, record.marks.causes);
            format!(
                "round {} of term {}: {counts:?}, causes {causes}, seats {}",
                settle.round,
                settle.term,
                seats.join(" ")
            )
        });
        let interval_us = self.interval_us;
        let calm = self.oracle.troubles == 0 && self.oracle.trouble_us + CALM_AFTER * interval_us < opened_us;
        for (at, number) in record.members.iter().enumerate() {
            let Some((node, standing, strikes)) = before.get(number).copied() else { continue };
            let presence = Presence::from_code(record.presence[at]);
            let row = Row { node, standing, strikes, presence, points: record.points[at], trusted };
            self.look_at_member(&row, record, (opened_us, calm));
        }
        let queue = self.oracle.state.queue.clone();
        self.oracle.queued.retain(|node, _| queue.binary_search(node).is_ok());
        for node in queue.iter() {
            self.oracle.queued.entry(*node).or_insert(settle.round);
        }
        self.look_at_the_dead(record, opened_us);
        self.oracle.check_books();
        let _ = base;
    }

    /// Partial reports of a settlement are of one round, term and base, one a seat.
    fn look_at_partials(&mut self, settle: &Settle) -> Option<OpenRound> {
        let mut of: Option<OpenRound> = None;
        let mut seats = Vec::new();
        for signed in &settle.partials {
            let partial: Partial = minicbor::decode(&signed.payload).expect("it was checked");
            let first = *of.get_or_insert(partial.open);
            if partial.open != first || (first.round, first.term) != (settle.round, settle.term) {
                self.oracle.wrong(format!("round {} mixes {:?} and {first:?}", settle.round, partial.open));
            }
            seats.push(partial.seat);
        }
        if !seats.is_sorted_by(|a, b| a < b) {
            self.oracle.wrong(format!("round {} has two reports of a seat", settle.round));
        }
        of
    }

    fn look_at_member(&mut self, row: &Row, record: &RoundRecord, when: (u64, bool)) {
        let (opened_us, calm) = when;
        let Row { node, presence, trusted, .. } = *row;
        let round = record.round;
        let hot = &self.oracle.state.members[&node].hot;
        let (standing, strikes, earned) = (hot.standing, hot.strikes, hot.earned);
        let hot_debug = (hot.asked_seats, hot.away);
        let at = self.oracle.followers[&node];
        let name = format!("follower {at} ({})", node.short());
        self.oracle.ledger.earn(node, row.points);

        if row.points != 0 && (!standing.is_paid() || presence != Presence::Up) {
            self.oracle.wrong(format!("{name} is {standing:?} and {presence}, and was paid for round {round}"));
        }
        if presence == Presence::Up && standing.is_paid() && row.points != POINTS {
            self.oracle.wrong(format!("{name} was up in round {round} and was paid {}, earned {earned}", row.points));
        }
        let is_untouched = (standing, strikes) == (row.standing, row.strikes);
        if !trusted && !is_untouched {
            let was = (row.standing, row.strikes);
            self.oracle
                .wrong(format!("{name} is {:?} after the suspect round {round}, was {was:?}", (standing, strikes)));
        }
        if presence == Presence::Unknown
            && (strikes != row.strikes || standing > row.standing && standing != Standing::Probation)
        {
            let was = (row.standing, row.strikes);
            self.oracle.wrong(format!("{name} is unknown in round {round}, is {:?}, was {was:?}", (standing, strikes)));
        }
        if self.options.scene.has_bad_paths() {
            return self.count_false(row, standing);
        }
        let follower = &self.followers[at];
        let settle_us = WELL_AFTER * self.interval_us;
        let well = follower.well_since_us.is_some_and(|since_us| since_us + settle_us < opened_us);
        if presence == Presence::Up
            && follower.dead_since_us.is_some_and(|dead_us| dead_us + self.interval_us < opened_us)
        {
            self.oracle.wrong(format!("{name} is dead, and was seen up in round {round}"));
        }
        if well {
            match presence {
                Presence::Down if trusted => {
                    let what =
                        format!("{name} was up, and is down in round {round}: {:?}, {hot_debug:?}", record.marks);
                    self.oracle.wrong(what);
                }
                Presence::Down => self.count("well and down in doubt"),
                Presence::Unknown => self.count("well and unknown"),
                Presence::Up => self.count("well and up"),
            }
            let is_settled = self.oracle.queued.get(&node).is_some_and(|since| round.since(*since) >= 3);
            if calm && is_settled && presence != Presence::Up {
                self.oracle.wrong(format!("{name} and all supers were well, and it is {presence} in round {round}"));
            }
            if calm && is_settled {
                self.count("well in calm");
            }
        }
    }

    /// Nothing is wrong but the paths: what is held against a follower is held against it falsely.
    fn count_false(&mut self, row: &Row, standing: Standing) {
        self.count("member rounds");
        if row.presence == Presence::Down {
            self.count("turns missed");
        }
        if standing.is_out() && !row.standing.is_out() {
            self.count("false suspensions");
        }
    }

    /// A dead follower is suspended by the settlement of the third round that began after its death.
    fn look_at_the_dead(&mut self, record: &RoundRecord, opened_us: u64) {
        let calm_us = self.oracle.trouble_us + CALM_AFTER * self.interval_us;
        let trusted = !record.marks.is_suspect();
        for (at, follower) in self.followers.iter().enumerate() {
            let Some(dead_us) = follower.dead_since_us else {
                self.oracle.dead_rounds.remove(&at);
                continue;
            };
            let (of, rounds) = self.oracle.dead_rounds.entry(at).or_insert((dead_us, 0));
            if *of != dead_us {
                (*of, *rounds) = (dead_us, 0);
            }
            let is_watched =
                self.oracle.queued.get(&follower.node).is_some_and(|since| record.round.since(*since) >= 5);
            let is_fine = trusted && self.oracle.troubles == 0 && calm_us < dead_us;
            if !is_fine || !is_watched {
                // This death is not counted: more than its supers' fault took part in it.
                *rounds = u32::MAX;
            }
            if opened_us > dead_us {
                *rounds = rounds.saturating_add(1);
            }
            if *rounds == SUSPENDED_IN {
                let standing = self.oracle.state.members[&follower.node].hot.standing;
                *self.counts.entry("dead and suspended").or_default() += 1;
                if !standing.is_out() {
                    let round = record.round;
                    self.oracle.wrong(format!("follower {at} died in time and is {standing:?} after round {round}"));
                    return;
                }
            }
        }
    }
}

/// A member in a round.
struct Row {
    node: NodeId,
    standing: Standing,
    strikes: u16,
    presence: Presence,
    points: i64,
    trusted: bool,
}
