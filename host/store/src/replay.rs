//! The past of the state: keyframes, and the commands since the last one applied again.
//!
//! Invariant: what comes back is the state as `apply` left it, or nothing. A hole in history, or a keyframe that is too far
//! back, is nothing.

use kernel::command::Command;
use kernel::id::{LogIndex, RoundId};
use kernel::state::State;
use redb::ReadableDatabase;

use crate::Store;
use crate::error::{StoreError, disk};
use crate::history;
use crate::rows::{about, entry, keyframe, meta};

/// A keyframe is due after so many rounds.
pub const KEYFRAME_ROUNDS: u64 = 256;
/// Rounds that are settled again at most for one look: two spans, for one keyframe may be missing after a crash.
const ROUNDS_MAX: u64 = 2 * KEYFRAME_ROUNDS;
/// Commands that are applied again at most for one look.
const ENTRIES_MAX: u64 = 1_000_000;

impl Store {
    /// Keeps the state as it is on the disk now, so that rounds after it can be looked into. Packing goes on beside commits
    /// and costs some 100 ms for a large cluster: not for a thread that others wait for. Gives the log index; `None` when
    /// there is none to be kept: nothing is founded, or the state is too large.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn keep_keyframe(&self) -> Result<Option<LogIndex>, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        let index = meta::applied_now(&reader)?;
        if index == LogIndex(0) {
            return Ok(None);
        }
        let Some(row) = keyframe::pack(&reader)? else { return Ok(None) };
        drop(reader);
        let transaction = crate::commit::begin(&self.database)?;
        let mut bytes = about::history(&transaction)?;
        if !keyframe::is_kept(&transaction, index)? {
            bytes.span += keyframe::write(&transaction, index, &row)?;
        }
        history::trim(&transaction, &mut bytes, self.history_max_bytes, 1)?;
        about::set_history(&transaction, bytes)?;
        transaction.commit().map_err(disk)?;
        Ok(Some(index))
    }

    /// The state as after a log index, without the bytes of components. `None`: history does not reach back to where it
    /// could be told from, or that is too many rounds away. Takes seconds for a large cluster.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn state_at(&self, index: LogIndex) -> Result<Option<State>, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        if index > meta::applied_now(&reader)? {
            return Ok(None);
        }
        // Before the founding there was nothing: that needs no keyframe.
        let mut state = keyframe::read(&reader, index)?.unwrap_or_default();
        let (mut settled, mut applied) = (0, 0);
        let after = state.meta.applied;
        let whole = entry::each(&reader, after, index, |at, command| {
            (settled, applied) = (settled + u64::from(matches!(command, Command::Settle(_))), applied + 1);
            let goes_on = state.is_founded() || matches!(command, Command::Found(_));
            if !goes_on || settled > ROUNDS_MAX || applied > ENTRIES_MAX {
                return false;
            }
            let _ = state.apply(at, &command);
            true
        });
        // Where the founding is not kept any more and there is no keyframe either, nothing can be told.
        let told = whole? && (state.is_founded() || index == LogIndex(0));
        Ok(told.then_some(state))
    }
}

impl Store {
    /// Hands over the commands after one that was followed before, up to another, oldest first, until whoever takes them has
    /// enough; gives whether none is missing. `after` = 0 begins at the founding.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::MustReopen`].
    pub fn follow(
        &self,
        after: LogIndex,
        last: LogIndex,
        take: impl FnMut(LogIndex, Command) -> bool,
    ) -> Result<bool, StoreError> {
        let reader = self.database.begin_read().map_err(disk)?;
        // The oldest are dropped first: as long as the one before them is there, so are they.
        if after > LogIndex(0) && !entry::is_kept(&reader, after)? {
            return Ok(false);
        }
        let _all = entry::each(&reader, after, last, take)?;
        Ok(true)
    }
}

/// Whether a keyframe is due when one round is the last settled one and another was when the last keyframe was kept.
#[must_use]
pub const fn keyframe_is_due(settled: RoundId, kept: RoundId) -> bool {
    settled.0 / KEYFRAME_ROUNDS > kept.0 / KEYFRAME_ROUNDS
}
