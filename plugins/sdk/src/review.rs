//! What a signing rule returns, record by record.

use crate::{Reason, Reasons, Record, Records};

/// A signing rule's decision.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Review {
    codes: Vec<u16>,
}

impl Review {
    /// Reviews record by record: `Ok(())` signs, `Err(Why::TooLong)` refuses with one of the rule's own
    /// [`reasons!`](crate::reasons). No refusal is without one.
    pub fn each<R: Reasons>(records: &Records<'_>, mut rule: impl FnMut(&Record<'_>) -> Result<(), R>) -> Self {
        let code = |record: Record<'_>| rule(&record).err().map_or(Reason::NONE, Reason::from).code();
        Self { codes: records.iter().map(code).collect() }
    }

    pub(crate) fn into_wit(self) -> Vec<u16> {
        self.codes
    }
}
