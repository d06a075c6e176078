//! What an operator decides.

use crate::command::{Operate, Operation};
use crate::outcome::{Reject, Reply};
use crate::state::{Effects, State};

impl State {
    pub(crate) fn operate(&mut self, operate: &Operate, fx: &mut Effects) -> Result<Reply, Reject> {
        match &operate.what {
            Operation::Activate { slot, policy, round } => self.activate(*slot, *policy, *round, fx),
            Operation::Rollback(slot) => self.rollback(*slot, fx),
            _ => Err(Reject::NothingSettled),
        }
    }
}
