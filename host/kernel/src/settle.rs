//! Settling a round.

use crate::command::Settle;
use crate::outcome::{Reject, Reply};
use crate::state::{Effects, State};

impl State {
    pub(crate) fn settle(&mut self, settle: &Settle, fx: &mut Effects) -> Result<Reply, Reject> {
        if settle.round != self.meta.settled.next() {
            return Err(Reject::StaleSettlement {
                settled: self.meta.settled,
                why: "the round is not the next one".into(),
            });
        }
        self.meta.settled_ms = self.stamp(settle.now_ms);
        self.meta.settled = settle.round;
        self.meta.settled_term = settle.term;
        self.turn_queue(settle.round, fx);
        self.meta.joins = 0;
        self.meta.group_joins.clear();
        Ok(Reply::Settled { round: settle.round })
    }
}
