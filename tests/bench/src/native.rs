//! The same two rules without WebAssembly: the crates of the plugins, compiled natively and called on the same columns.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::decide::{Call, Description, Judgement, Members, Policy, Reward, Run};
use pingward_sdk::{export, types};

use crate::figures::Samples;

/// The columns in the SDK's types. A rule that was built into the host would not copy them, so this is not timed.
pub(crate) fn columns(members: &Members) -> types::Members {
    let extra =
        |column: &kernel::decide::Column| types::Column { name: column.name.clone(), values: column.values.clone() };
    types::Members {
        presence: members.presence.clone(),
        facts: members.facts.clone(),
        rtt_us: members.rtt_us.clone(),
        observers: members.observers.clone(),
        age: members.age.clone(),
        standing: members.standing.clone(),
        strikes: members.strikes.clone(),
        earned: members.earned.clone(),
        data: members.data.clone(),
        class: members.class.clone(),
        group: members.group.clone(),
        flags: members.flags.clone(),
        extra: members.extra.iter().map(extra).collect(),
    }
}

/// The round in the SDK's types.
pub(crate) fn round_of(call: &Call<'_>) -> types::Round {
    types::Round {
        number: call.round.number,
        now_ms: call.round.now_ms,
        elapsed_ms: call.round.elapsed_ms,
        interval_ms: call.round.interval_ms,
        population: call.round.population,
        suspect: call.round.suspect,
        seed: call.round.seed.0.to_vec(),
    }
}

/// The rule `reward-flat`, called as the component is.
///
/// # Errors
/// The rule's own.
pub(crate) fn reward(call: &Call<'_>, members: &types::Members) -> Result<types::Settlement, String> {
    export::settle::<reward_flat::Flat>(call.config, &round_of(call), members, call.memory.to_vec())
}

/// The rule `ban-strikes`, called as the component is.
///
/// # Errors
/// The rule's own.
pub(crate) fn judge(call: &Call<'_>, members: &types::Members) -> Result<types::Judgement, String> {
    export::judge::<ban_strikes::Strikes>(call.config, &round_of(call), members, call.memory.to_vec())
}

/// A prepared policy beside its native twin: both are called with the same input, both are timed, and their answers must
/// be the same.
pub(crate) struct Twins<'a> {
    pub(crate) wasm: &'a dyn Policy,
    pub(crate) times: Mutex<Times>,
    /// Calls of each that are made besides, one after the other: what they cost while nothing else runs.
    again: u32,
}

/// How long the calls of one round took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) wasm: Duration,
    pub(crate) native: Duration,
    /// Making the native rule's columns: no part of what is compared.
    pub(crate) copying: Duration,
    /// Answers that differ.
    pub(crate) differ: u32,
    /// Medians of the calls that were made again.
    pub(crate) again: (Duration, Duration),
}

impl<'a> Twins<'a> {
    pub(crate) fn new(wasm: &'a dyn Policy, again: u32) -> Self {
        Self { wasm, times: Mutex::default(), again }
    }

    /// The times since the last call of this.
    pub(crate) fn take(&self) -> Times {
        std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn both<A, N>(
        &self,
        call: &Call<'_>,
        wasm: impl Fn(&dyn Policy) -> Run<A>,
        native: impl Fn(&types::Members) -> N,
        same: impl FnOnce(&A, &N) -> bool,
    ) -> Run<A> {
        let start = Instant::now();
        let members = columns(call.members);
        let copying = start.elapsed();
        let start = Instant::now();
        let theirs = native(&members);
        let native_time = start.elapsed();
        let start = Instant::now();
        let run = wasm(self.wasm);
        let wasm_time = start.elapsed();
        let (mut wasms, mut natives) = (Samples::default(), Samples::default());
        for _ in 0..self.again {
            drop(wasms.time(|| wasm(self.wasm)));
            drop(natives.time(|| native(&members)));
        }
        let is_same = run.result.as_ref().is_ok_and(|answer| same(answer, &theirs));
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.wasm += wasm_time;
        times.native += native_time;
        times.again = (wasms.median(), natives.median());
        times.copying += copying;
        times.differ += u32::from(!is_same);
        run
    }
}

impl Policy for Twins<'_> {
    fn description(&self) -> &Description {
        self.wasm.description()
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        self.both(
            call,
            |policy| policy.reward(call),
            |members| reward(call, members),
            |answer, native| {
                native.as_ref().is_ok_and(|native| {
                    answer.points == native.points && answer.reasons == native.reasons && answer.memory == native.memory
                })
            },
        )
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        self.both(
            call,
            |policy| policy.judge(call),
            |members| judge(call, members),
            |answer, native| {
                native.as_ref().is_ok_and(|native| {
                    answer.strikes == native.strikes
                        && answer.standing == native.standing
                        && answer.until == native.until
                        && answer.reasons == native.reasons
                        && answer.memory == native.memory
                })
            },
        )
    }
}
