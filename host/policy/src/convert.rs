//! WIT to kernel and back: the only place that speaks both. Columns go in as slices of the kernel's own and come out as
//! the lists that the answer is made of, so nothing is copied on the host's side.

use kernel::decide::{Description, Judgement, Members, Reward, RoundInput, Tariff};
use kernel::records::review::{Context, Reviewed};

/// The worlds of `wit/policy.wit`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, unsafe_code, unused_qualifications, reason = "generated code")]
pub(crate) mod worlds {
    pub(crate) mod reward {
        wasmtime::component::bindgen!({
            path: "../../wit",
            world: "reward-policy",
            ownership: Borrowing { duplicate_if_necessary: true },
        });
    }
    pub(crate) mod ban {
        wasmtime::component::bindgen!({
            path: "../../wit",
            world: "ban-policy",
            ownership: Borrowing { duplicate_if_necessary: true },
            with: { "pingward:policy/types": super::reward::pingward::policy::types },
        });
    }
    pub(crate) mod signing {
        wasmtime::component::bindgen!({
            path: "../../wit",
            world: "signing-policy",
            ownership: Borrowing { duplicate_if_necessary: true },
            with: { "pingward:policy/types": super::reward::pingward::policy::types },
        });
    }
}

use worlds::ban::exports::pingward::policy::ban;
use worlds::reward::exports::pingward::policy::reward;
use worlds::reward::pingward::policy::types;
use worlds::signing::exports::pingward::policy::signing;

/// The round, as guests see it.
pub(crate) fn round(round: &RoundInput) -> types::Round<'_> {
    types::Round {
        number: round.number,
        now_ms: round.now_ms,
        elapsed_ms: round.elapsed_ms,
        interval_ms: round.interval_ms,
        population: round.population,
        suspect: round.suspect,
        seed: &round.seed.0,
    }
}

/// The extra columns, which [`members`] borrows.
pub(crate) fn extra(members: &Members) -> Vec<types::Column<'_>> {
    members.extra.iter().map(|column| types::Column { name: &column.name, values: &column.values }).collect()
}

/// The columns.
pub(crate) fn members<'a>(members: &'a Members, extra: &'a [types::Column<'a>]) -> types::Members<'a> {
    types::Members {
        presence: &members.presence,
        facts: &members.facts,
        rtt_us: &members.rtt_us,
        observers: &members.observers,
        age: &members.age,
        standing: &members.standing,
        strikes: &members.strikes,
        earned: &members.earned,
        data: &members.data,
        class: &members.class,
        group: &members.group,
        flags: &members.flags,
        extra,
    }
}

/// A description; its bounds are checked at admission.
pub(crate) fn description(described: types::Description) -> Description {
    Description {
        name: described.name,
        version: described.version,
        memory_bytes: described.memory_bytes,
        memory_schema: described.memory_schema,
        reasons: described.reasons,
        extra: described.extra,
    }
}

/// A settlement; the kernel checks its shape.
pub(crate) fn settlement(settled: reward::Settlement) -> Reward {
    let reward::Tariff { overclaim_bp, overclaim_min, record_fee, record_fee_kib } = settled.tariff;
    Reward {
        points: settled.points,
        reasons: settled.reasons,
        memory: settled.memory,
        tariff: Tariff { overclaim_bp, overclaim_min, record_fee, record_fee_kib },
    }
}

/// A judgement; the kernel checks its shape.
pub(crate) fn judgement(judged: ban::Judgement) -> Judgement {
    Judgement {
        strikes: judged.strikes,
        standing: judged.standing,
        until: judged.until,
        reasons: judged.reasons,
        memory: judged.memory,
    }
}

/// The records of a batch; the bodies stay where they are.
pub(crate) fn records<'a>(records: &'a [Reviewed<'a>]) -> Vec<signing::Record<'a>> {
    let record = |record: &'a Reviewed<'a>| signing::Record {
        sequence: record.sequence,
        author: &record.author.0,
        digest: &record.digest.0,
        expires_ms: record.expires_ms,
        body: record.body,
    };
    records.iter().map(record).collect()
}

/// What is known of a batch.
pub(crate) const fn context(context: Context) -> signing::Context {
    let Context { batch, round, ordered_ms, set_size } = context;
    signing::Context { batch, round, ordered_ms, set_size }
}
