//! The walks of a super: the one that is open, and the one before while its last windows are.

use std::sync::Arc;

use kernel::id::{NodeId, RoundId, Term};
use kernel::round::OpenRound;
use kernel::round::walk::{Timing, Walk, WalkStart};

use super::supernode::{Order, Supernode};
use crate::metrics::Pong;

/// Walks that may be open at once: the one before may still wait for its last windows.
const WALKS: usize = 2;
/// Rounds whose order is kept: two may be open, and a round may be opened again in a new term.
const ORDERS: usize = 4;

/// A walk, to whom its partial report goes, and whether it has left.
pub(super) struct Watched {
    pub(super) walk: Walk,
    pub(super) leader: NodeId,
    pub(super) said: bool,
}

impl Supernode {
    /// Begins a walk, unless this super has no say in the round.
    pub(super) fn open(&mut self, open: OpenRound, leader: NodeId, queue: Arc<[NodeId]>, waited_us: u64) {
        while let Some(front) = self.walks.front() {
            // What was observed in an earlier term is worth nothing.
            let is_over = front.said || front.walk.open().term < open.term;
            if !is_over && self.walks.len() < WALKS {
                break;
            }
            if !is_over {
                self.report(0);
            }
            self.carry = self.walks.pop_front().map(|mut watched| watched.walk.carry()).unwrap_or_default();
        }
        // One whose seat came after the round was opened has no say in it.
        let Some(row) = self.row().filter(|row| row.takes_part(&open)) else { return };
        let mut secret = [0; 16];
        if let Err(error) = getrandom::fill(&mut secret) {
            self.tasks.fail(format!("no randomness for a round's secret: {error}"));
            return;
        }
        let (cluster, timing) =
            self.group.read(|state| (state.meta.cluster.to_string(), Timing::of(&state.meta.settings)));
        let now_us = self.now_us();
        let mut walk = Walk::new(WalkStart {
            cluster,
            open,
            seat: row.seat,
            queue,
            timing,
            secret,
            now_us,
            waited_us: waited_us.max(self.attending.owed_us()),
            open_since_ms: self.open_since_ms,
            open_all_round: self.attending.open_since_us().is_some_and(|since_us| since_us < now_us),
            spread_ms: self.spread_ms(),
            carry: std::mem::take(&mut self.carry),
        });
        for (node, _) in self.attached.iter() {
            walk.attach(node);
        }
        self.orders.push_back(Order { round: open.round, nodes: walk.order().collect() });
        while self.orders.len() > ORDERS {
            self.orders.pop_front();
        }
        self.walks.push_back(Watched { walk, leader, said: false });
    }

    /// A walk is over, or must be: what it saw goes to the leader, signed.
    pub(super) fn report(&mut self, at: usize) {
        let Some(watched) = self.walks.get_mut(at) else { return };
        watched.said = true;
        let turned_away = self.gate.overloaded();
        // How many does not matter beyond that there were some.
        (self.turned_away..turned_away).take(1_000).for_each(|_| watched.walk.refuse());
        self.turned_away = turned_away;
        let partial = self.group.read(|state| {
            watched.walk.partial(|node, address| {
                let member = state.members.get(node);
                member.is_some_and(|member| member.profile.address.as_deref() == Some(address))
            })
        });
        let lag_ms = i64::try_from(partial.lag_ms).unwrap_or(i64::MAX);
        self.metrics.loop_lag_ms.set(lag_ms);
        let missed = partial.asked.count().saturating_sub(partial.seen.count());
        (0..missed).for_each(|_| self.metrics.pong(Pong::Missed));
        (0..partial.void.count()).for_each(|_| self.metrics.pong(Pong::Void));
        let (open, leader) = (partial.open, watched.leader);
        self.attending.said(open.round, partial.lag_ms.saturating_mul(1_000));
        let signed = self.key.sign_partial(partial.payload());
        self.hand_in(leader, open, signed);
    }

    /// The order of a settled round is no secret any more.
    pub(super) fn publish_order(&self, round: RoundId) {
        if let Some(order) = self.orders.iter().rev().find(|order| order.round == round) {
            self.order.send_replace(order.clone());
        }
    }

    pub(super) fn newest(&mut self) -> Option<&mut Walk> {
        self.walks.back_mut().map(|watched| &mut watched.walk)
    }

    pub(super) fn walk_of(&mut self, of: (RoundId, Term)) -> Option<&mut Walk> {
        let at = self.walks.iter().position(|watched| (watched.walk.open().round, watched.walk.open().term) == of);
        let at = at.or_else(|| self.walks.len().checked_sub(1))?;
        self.walks.get_mut(at).map(|watched| &mut watched.walk)
    }
}
