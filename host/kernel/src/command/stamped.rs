//! What every command has: a name for logs, and mostly a time.

use super::Command;

impl Command {
    /// Its name in logs and counters.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::Lead(_) => "lead",
            Self::Join(_) => "join",
            Self::Leave(_) => "leave",
            Self::Outdated(_) => "outdated",
            Self::Settle(_) => "settle",
            Self::Claim(_) => "claim",
            Self::Operate(_) => "operate",
            Self::Chunk(_) => "chunk",
            Self::Stage(_) => "stage",
            Self::Ready(_) => "ready",
            Self::Supers(_) => "supers",
            Self::OperateIf(_) => "operate_if",
            Self::Restore(_) => "restore",
            Self::Unready(_) => "unready",
            Self::Order(_) => "order",
            Self::Seal(_) => "seal",
            Self::Transfer(_) => "transfer",
            Self::Evidence(_) => "evidence",
            Self::Came(_) => "came",
            Self::Able(_) => "able",
        }
    }

    /// Only the leader itself proposes it, in its own term: nobody may hand it in.
    #[must_use]
    pub const fn is_leaders(&self) -> bool {
        matches!(self, Self::Found(_) | Self::Lead(_) | Self::Settle(_) | Self::Supers(_) | Self::Restore(_))
    }

    /// Puts a leader's time into what another super handed in (PROTOCOLS 8.4): its own clock counts for nothing.
    pub fn stamp(&mut self, now_ms: u64) {
        let stamp = match self {
            Self::Found(found) => &mut found.now_ms,
            Self::Lead(lead) => &mut lead.now_ms,
            Self::Join(join) => &mut join.now_ms,
            Self::Leave(leave) => &mut leave.now_ms,
            Self::Outdated(outdated) => &mut outdated.now_ms,
            Self::Settle(settle) => &mut settle.now_ms,
            Self::Claim(claim) => &mut claim.now_ms,
            Self::Operate(operate) => &mut operate.now_ms,
            Self::Stage(stage) => &mut stage.now_ms,
            Self::Supers(supers) => &mut supers.now_ms,
            Self::OperateIf(only) => &mut only.operate.now_ms,
            Self::Restore(restore) => &mut restore.now_ms,
            Self::Order(order) => &mut order.now_ms,
            Self::Transfer(transfer) => &mut transfer.now_ms,
            Self::Evidence(evidence) => &mut evidence.now_ms,
            Self::Chunk(_) | Self::Ready(_) | Self::Unready(_) | Self::Seal(_) | Self::Came(_) | Self::Able(_) => {
                return;
            }
        };
        *stamp = now_ms;
    }
}
