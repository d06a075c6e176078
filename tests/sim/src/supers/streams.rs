//! A super's followers: hellos, pongs, what they ask for, and what the leader answers.

use kernel::command::{Claim, Command, Join};
use kernel::id::NodeId;
use kernel::members::{Hello, Refusal};
use kernel::outcome::{Reject, Reply};
use kernel::round::walk::PongIn;

use super::{Fate, Waiting};
use crate::net::{Ask, Down, Peer, Up};
use crate::raft::{Id, Payload};
use crate::world::{Event, World};
use crate::{MS, S, real};

impl World {
    /// Something came from a follower.
    pub(crate) fn up_arrives(&mut self, to: Id, from: usize, stream: u64, up: Up) {
        self.wake(to);
        match &self.supers[usize::from(to)].fate {
            Fate::Up(_) => {}
            Fate::Paused(_, until_us) => {
                let at_us = *until_us;
                return self.at(at_us, Event::Up { to, from, stream, up });
            }
            Fate::Down { silent: true, .. } => return,
            // The machine says that nobody listens.
            Fate::Down { silent: false, .. } | Fate::Retired => {
                if !matches!(up, Up::Close) {
                    self.send_down(to, from, stream, Down::Close);
                }
                return;
            }
        }
        let now_us = self.now_us;
        let node = self.followers[from].node;
        let process = self.supers[usize::from(to)].process().expect("it runs");
        let is_attached = process.attached.get(&node) == Some(&(from, stream));
        match up {
            Up::Hello => self.hello(to, from, stream),
            _ if !is_attached => {
                process.waiting.retain(|_, waiting| !waiting.is(from, stream));
                if !matches!(up, Up::Close) {
                    self.send_down(to, from, stream, Down::Close);
                }
            }
            Up::Pong { round, term, nonce } => {
                let pong = PongIn { round, term, nonce, data: 1, address: "" };
                let of = |open: kernel::round::OpenRound| (open.round, open.term) == (round, term);
                let at = process.walks.iter().position(|watched| of(watched.walk.open()));
                let at = at.or_else(|| process.walks.len().checked_sub(1));
                if let Some(watched) = at.and_then(|at| process.walks.get_mut(at)) {
                    watched.walk.pong(&node, &pong, now_us);
                }
            }
            Up::KeepAlive => self.send_down(to, from, stream, Down::KeptAlive),
            Up::Claim(claim) => {
                let waiting = Waiting::Claim { from, stream, sequence: claim.sequence };
                self.ask(to, waiting, Ask::Claim(claim));
            }
            Up::Close => self.detach(to, node),
        }
        self.drive(to);
    }

    fn hello(&mut self, to: Id, from: usize, stream: u64) {
        let join = self.join_of(from);
        let wait_ms = self.random.below(500);
        // Its own clock, which is right.
        let wall_ms = super::START_MS + self.now_us / MS;
        let process = self.supers[usize::from(to)].process().expect("it runs");
        if process.attending.open_since_us().is_none() {
            return self.send_down(to, from, stream, Down::Refused(0));
        }
        let cluster = process.state.meta.cluster.to_string();
        let hello = Hello { join, cluster, source_port: 1, port_taken: false, busy_ms: None };
        let refused_ms = match process.state.admits(&hello) {
            Ok(false) => return self.welcome(to, from, stream),
            Ok(true) => return self.ask(to, Waiting::Join { from, stream }, Ask::Join(hello.join)),
            Err(Refusal::Banned { until_ms, .. }) => until_ms.saturating_sub(wall_ms).clamp(500, 600_000) + wait_ms,
            Err(Refusal::SlowDown { retry_ms } | Refusal::Full { retry_ms, .. } | Refusal::Busy { retry_ms }) => {
                retry_ms.max(500) + wait_ms
            }
            Err(other) => panic!("{other:?}"),
        };
        self.count("hellos refused");
        self.send_down(to, from, stream, Down::Refused(refused_ms * MS));
    }

    fn welcome(&mut self, to: Id, from: usize, stream: u64) {
        let node = self.followers[from].node;
        let process = self.supers[usize::from(to)].process().expect("it runs");
        let roster = process.roster.clone();
        let before = process.attached.insert(node, (from, stream));
        for watched in &mut process.walks {
            watched.walk.attach(&node);
        }
        // The newest stream of a key closes the older one.
        if let Some((to_old, old)) = before {
            self.send_down(to, to_old, old, Down::Close);
        }
        self.send_down(to, from, stream, Down::Welcome(roster));
    }

    pub(super) fn detach(&mut self, id: Id, node: NodeId) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        process.attached.remove(&node);
        for watched in &mut process.walks {
            watched.walk.detach(&node);
        }
    }

    /// Asks the leader, where one is known.
    fn ask(&mut self, id: Id, waiting: Waiting, ask: Ask) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let Some(leader) = process.raft.leader(&self.by_key) else { return };
        let is_real = process.raft.real().is_some();
        process.asked += 1;
        let number = process.asked;
        process.waiting.insert(number, waiting);
        // Whoever has waited for long has given up.
        while process.waiting.len() > 200 {
            process.waiting.pop_first();
        }
        if is_real {
            // Its own replica knows who leads.
            let command = self.command(id, ask);
            return self.hand_in(id, command, real::About::Asked(number));
        }
        self.send_peer(id, leader, &Peer::Ask(number, Box::new(ask)));
    }

    /// Another super, or this one, asks the leader to propose.
    pub(super) fn asked(&mut self, id: Id, from: Id, number: u64, ask: Ask) {
        let process = self.supers[usize::from(id)].process().expect("it runs");
        if process.lead.is_none() || !process.leads() {
            return;
        }
        let command = self.command(id, ask);
        let index = self.propose(id, Payload::Command(command));
        let process = self.supers[usize::from(id)].process().expect("it runs");
        process.proposals.insert(index, (process.raft.term(), from, number));
        while process.proposals.len() > 1_000 {
            process.proposals.pop_first();
        }
    }

    /// What was asked for, as a command.
    fn command(&mut self, id: Id, ask: Ask) -> Command {
        let now_ms = self.stamp(id);
        match ask {
            Ask::Join(join) => Command::Join(Join { now_ms, ..join }),
            // Its author's clock is right.
            Ask::Claim(claim) => {
                let expires_ms = claim.expires_ms + super::START_MS;
                Command::Claim(Claim { now_ms, expires_ms, ..claim })
            }
        }
    }

    /// The leader has answered.
    pub(crate) fn answered(&mut self, id: Id, number: u64, answer: Result<Reply, Reject>) {
        let interval_us = self.interval_us;
        let process = self.supers[usize::from(id)].process().expect("it runs");
        let Some(waiting) = process.waiting.remove(&number) else { return };
        match waiting {
            Waiting::Join { from, stream } if answer.is_ok() && process.attending.open_since_us().is_some() => {
                self.welcome(id, from, stream);
            }
            Waiting::Join { from, stream } => {
                let wait_us = if answer.is_ok() { 0 } else { interval_us.min(S) };
                self.send_down(id, from, stream, Down::Refused(wait_us));
            }
            Waiting::Claim { from, stream, sequence } => {
                self.send_down(id, from, stream, Down::Claimed { sequence, answer: Box::new(answer) });
            }
        }
    }
}

impl Waiting {
    fn is(&self, of: usize, on: u64) -> bool {
        matches!(self, Self::Join { from, stream } if (*from, *stream) == (of, on))
    }
}
