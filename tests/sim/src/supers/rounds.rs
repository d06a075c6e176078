//! Rounds on a super: its walks, and what it does in addition while it leads.

use ed25519_dalek::Signer as _;
use kernel::columns::Deciding;
use kernel::command::Command;
use kernel::decide::{Policy, Slot};
use kernel::envelope::{PARTIAL_TYPE, pae};
use kernel::id::Signature;
use kernel::round::lead::{Gathered, Step};
use kernel::round::walk::{Timing, Walk, WalkStart};
use kernel::round::{OpenRound, Partial, Presence, Report, SignedPartial, fact};

use super::{Fate, Watched};
use crate::net::{Down, Peer};
use crate::policies::Native;
use crate::raft::{Id, Payload};
use crate::world::{Event, World};
use crate::{MS, Plant, Us};

/// Walks that may be open at once, and reports that are kept to be sent again.
const WALKS: usize = 2;
const REPORTS: usize = 4;

impl World {
    /// The leader's word that a round begins.
    pub(super) fn hears(&mut self, id: Id, leader: Id, open: OpenRound, waited_us: Us) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let is_news = (open.term, open.round) > process.opened
            && process.pending.as_ref().is_none_or(|(other, ..)| (open.term, open.round) > (other.term, other.round));
        if is_news && open.term >= process.state.meta.term {
            process.pending = Some((open, leader, waited_us));
        }
    }

    /// Begins the walk of a round as soon as its base is applied.
    pub(super) fn open_pending(&mut self, id: Id) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let Some((open, leader, waited_us)) = process.pending else { return };
        if process.state.meta.settled < open.base {
            return;
        }
        process.pending = None;
        if let Some(queue) = process.queues.of(open.base).cloned() {
            self.open(id, leader, open, queue, waited_us);
        }
    }

    fn open(
        &mut self,
        id: Id,
        leader: Id,
        open: OpenRound,
        queue: std::sync::Arc<[kernel::id::NodeId]>,
        waited_us: Us,
    ) {
        let now_us = self.now_us;
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&self.random.take().to_le_bytes());
        let process = self.supers[usize::from(id)].process().expect("it runs");
        process.opened = (open.term, open.round);
        process.attending.heard(now_us - process.late_us);
        loop {
            let process = self.supers[usize::from(id)].process().expect("it runs");
            let Some(front) = process.walks.front() else { break };
            if front.walk.open().term < open.term {
                // What was observed in an earlier term is worth nothing.
                process.carry = process.walks.pop_front().map(|mut gone| gone.walk.carry()).unwrap_or_default();
            } else if process.walks.len() >= WALKS {
                self.report(id, 0);
            } else {
                break;
            }
        }
        self.open_now(id, leader, open, queue, (waited_us, secret));
    }

    fn open_now(
        &mut self,
        id: Id,
        leader: Id,
        open: OpenRound,
        queue: std::sync::Arc<[kernel::id::NodeId]>,
        start: (Us, [u8; 16]),
    ) {
        self.attend(id);
        let now_us = self.now_us;
        let node = self.supers[usize::from(id)].node;
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let Some(seat) = process.seat(node).map(|row| row.seat) else { return };
        let mut walk = Walk::new(WalkStart {
            cluster: process.state.meta.cluster.to_string(),
            open,
            seat,
            queue,
            timing: Timing::of(&process.state.meta.settings),
            secret: start.1,
            now_us,
            waited_us: start.0.max(process.attending.owed_us()),
            open_since_ms: process.open_since_ms,
            open_all_round: process.attending.open_since_us().is_some_and(|since_us| since_us < now_us),
            spread_ms: crate::follower::SPREAD_US / MS,
            carry: std::mem::take(&mut process.carry),
        });
        for node in process.attached.keys() {
            walk.attach(node);
        }
        process.walks.push_back(Watched { walk, leader });
    }

    /// Looks whether it is open for attaching; one that is not any more lets its followers go.
    pub(super) fn attend(&mut self, id: Id) {
        let (now_us, interval_us, wall_ms) = (self.now_us, self.interval_us, self.wall_ms(id));
        let node = self.supers[usize::from(id)].node;
        let process = self.supers[usize::from(id)].process().expect("it runs");
        // One that has left the group knows it from its own log first, and may hear no more.
        let votes = process.raft.votes(id);
        let row = process.state.meta.seats.iter().find(|row| row.holder.node == node && votes);
        let was_open = process.attending.open_since_us();
        let is_open = process.attending.look(now_us, interval_us, row);
        if is_open && was_open.is_none() {
            process.open_since_ms = wall_ms.max(process.open_since_ms + 1);
            self.tell(|_| format!("super {id} opens for attaching"));
        } else if !is_open && was_open.is_some() {
            process.walks.clear();
            process.reports.clear();
            let attached = std::mem::take(&mut process.attached);
            self.count("supers closed");
            self.tell(|_| format!("super {id} lets {} followers go", attached.len()));
            for (to, stream) in attached.into_values() {
                self.send_down(id, to, stream, Down::Close);
            }
        }
    }

    /// Pings that are due leave, windows that ended are closed, and a walk that is over is told of.
    pub(super) fn walk(&mut self, id: Id) {
        let now_us = self.now_us;
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let mut pings = Vec::new();
        for watched in &mut process.walks {
            if watched.walk.next_due_us().is_some_and(|due_us| due_us <= now_us) {
                let mut out = Vec::new();
                watched.walk.tick(now_us, &mut out);
                let open = watched.walk.open();
                pings.extend(out.into_iter().map(|ping| (open, ping)));
            }
        }
        let roster = process.roster.clone();
        let sent: Vec<_> = pings
            .into_iter()
            .filter_map(|(open, ping)| process.attached.get(&ping.node).map(|to| (*to, open, ping.nonce)))
            .collect();
        while let Some(at) = process_over(process_walks(&self.supers[usize::from(id)])) {
            self.report(id, at);
        }
        for ((to, stream), open, nonce) in sent {
            let ping = Down::Ping { round: open.round, term: open.term, nonce, supers: roster.clone() };
            self.send_down(id, to, stream, ping);
        }
    }

    /// What a walk saw goes to the leader, signed.
    fn report(&mut self, id: Id, at: usize) {
        let sup = &mut self.supers[usize::from(id)];
        let key = sup.key.clone();
        let node = sup.node;
        let process = sup.process().expect("it runs");
        let Some(mut watched) = process.walks.remove(at) else { return };
        let partial: Partial = watched.walk.partial(|_, _| false);
        process.carry = watched.walk.carry();
        process.attending.said(partial.open.round, partial.lag_ms * MS);
        let payload = partial.payload();
        let signature = Signature(key.sign(&pae(PARTIAL_TYPE, &payload)).to_bytes());
        let signed = SignedPartial { signer: node, payload, signature };
        process.reports.push_back((partial.open, watched.leader, signed.clone()));
        if process.reports.len() > REPORTS {
            process.reports.pop_front();
        }
        self.send_peer(id, watched.leader, &Peer::Partial(partial.open, Box::new(signed)));
    }

    /// Messages between supers may be lost: rounds and reports are told again.
    pub(super) fn send_again(&mut self, id: Id) {
        let (now_us, interval_us) = (self.now_us, self.interval_us);
        let process = self.supers[usize::from(id)].process().expect("it runs");
        if now_us < process.again_us {
            return;
        }
        process.again_us = now_us + interval_us / 8;
        let reports: Vec<_> = process.reports.iter().cloned().collect();
        let opens: Vec<OpenRound> = process.lead.iter().flat_map(|lead| lead.rounds().map(|(open, _)| open)).collect();
        let roster = process.roster.clone();
        for (open, to, signed) in reports {
            self.send_peer(id, to, &Peer::Partial(open, Box::new(signed)));
        }
        for to in roster.iter().copied().filter(|to| *to != id) {
            for open in &opens {
                self.send_peer(id, to, &Peer::Open(*open));
            }
        }
    }

    /// Does what the leader is to do now.
    pub(super) fn lead(&mut self, id: Id) {
        let now_us = self.now_us;
        loop {
            let sup = &mut self.supers[usize::from(id)];
            let life = sup.life;
            let Fate::Up(process) = &mut sup.fate else { return };
            let Some(lead) = &mut process.lead else { return };
            let Some(step) = lead.step(now_us, &process.state) else { return };
            match step {
                Step::Open { open, waited_us, .. } => {
                    let roster = process.roster.clone();
                    self.count("rounds opened");
                    self.tell(|_| format!("super {id} opens round {} of term {}", open.round, open.term));
                    self.oracle.opened(&open, now_us);
                    for to in roster.iter().copied().filter(|to| *to != id) {
                        self.send_peer(id, to, &Peer::Open(open));
                    }
                    self.hears(id, id, open, waited_us);
                    self.open_pending(id);
                }
                Step::Settle(gathered) => {
                    let at_us = now_us + MS + self.random.below(20 * MS);
                    self.at(at_us, Event::Decided { id, life, gathered });
                }
            }
        }
    }

    /// The policies have run: the settlement is proposed.
    pub(crate) fn decided(&mut self, id: Id, life: u32, gathered: Gathered) {
        self.wake(id);
        let sup = &self.supers[usize::from(id)];
        match &sup.fate {
            Fate::Up(_) if sup.life == life => {}
            Fate::Paused(_, until_us) if sup.life == life => {
                let at_us = *until_us;
                return self.at(at_us, Event::Decided { id, life, gathered: Box::new(gathered) });
            }
            Fate::Up(_) | Fate::Paused(..) | Fate::Down { .. } | Fate::Retired => return,
        }
        let process = sup.running().expect("it runs");
        let is_ours = process.leads() && process.lead.as_ref().is_some_and(|lead| lead.term() == gathered.open.term);
        if !is_ours || process.state.meta.settled.next() != gathered.open.round {
            return;
        }
        let now_ms = self.stamp(id);
        let state = &self.supers[usize::from(id)].running().expect("it runs").state;
        let report = spoil(self.options.plant, gathered.merge(state), state);
        let deciding = Deciding::gather(state, report, gathered.signed, now_ms);
        let prepared = |slot: Slot| {
            let row = deciding.policy(slot).and_then(|digest| state.policies.get(&digest))?;
            Native::of(state.components.get(&row.component)?)
        };
        let (ban, reward) = (prepared(Slot::Ban), prepared(Slot::Reward));
        let (ban, reward) = (ban.as_ref().map(|p| p as &dyn Policy), reward.as_ref().map(|p| p as &dyn Policy));
        let (settle, _) = deciding.run(ban, reward, "native");
        self.propose(id, Payload::Command(Command::Settle(Box::new(settle))));
        self.drive(id);
    }
}

fn process_walks(sup: &super::Super) -> &std::collections::VecDeque<Watched> {
    &sup.running().expect("it runs").walks
}

fn process_over(walks: &std::collections::VecDeque<Watched>) -> Option<usize> {
    walks.iter().position(|watched| watched.walk.is_over())
}

/// Planted bugs of a leader.
fn spoil(plant: Plant, mut report: Report, state: &kernel::state::State) -> Report {
    match plant {
        Plant::StrikesInDoubt => report.marks.causes = 0,
        Plant::AbsentForEver => {
            for (presence, facts) in report.presence.iter_mut().zip(&report.facts) {
                if facts & fact::ABSENT != 0 {
                    *presence = Presence::Unknown.code();
                }
            }
            report.marks = kernel::round::guard::derive(&report, state);
        }
        Plant::NoWay => {
            let in_grace = |row: &&kernel::round::SeatReport| row.grace_until >= report.round;
            let grace = report.seats.iter().filter(in_grace).fold(0_u8, |bits, row| bits | 1 << row.seat.0);
            for (at, (_, member)) in state.queued().enumerate() {
                let last = if member.hot.asked_seats == 0 { u8::MAX } else { member.hot.asked_seats };
                let is_absent = report.facts[at] & fact::ABSENT != 0;
                if is_absent && member.hot.place == kernel::members::Place::Queued && grace & last == 0 {
                    report.presence[at] = Presence::Down.code();
                }
            }
            report.marks = kernel::round::guard::derive(&report, state);
        }
        Plant::Nothing
        | Plant::NoQuorum
        | Plant::SettledTwice
        | Plant::LyingDisk
        | Plant::LocalRead
        | Plant::EarlyAnswer => {}
    }
    report
}
