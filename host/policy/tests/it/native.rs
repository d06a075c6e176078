//! The default rules without WebAssembly: the same source, linked natively.

use kernel::decide::{Call, Judgement, Members, Reward, RoundInput, Tariff};
use kernel::records::review::{Context, Review, Reviewed};
use pingward_sdk::{BanPolicy, RewardPolicy, SigningPolicy, export, types};

/// The round as rules see it.
pub fn round(round: &RoundInput) -> types::Round {
    types::Round {
        number: round.number,
        now_ms: round.now_ms,
        elapsed_ms: round.elapsed_ms,
        interval_ms: round.interval_ms,
        population: round.population,
        suspect: round.suspect,
        seed: round.seed.0.to_vec(),
    }
}

/// The columns as rules see them.
pub fn members(members: &Members) -> types::Members {
    let extra = members.extra.iter().cloned();
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
        extra: extra.map(|column| types::Column { name: column.name, values: column.values }).collect(),
    }
}

/// Judges natively.
pub fn judge<P: BanPolicy>(call: &Call<'_>) -> Result<Judgement, String> {
    let judged = export::judge::<P>(call.config, &round(call.round), &members(call.members), call.memory.to_vec())?;
    Ok(Judgement {
        strikes: judged.strikes,
        standing: judged.standing,
        until: judged.until,
        reasons: judged.reasons,
        memory: judged.memory,
    })
}

/// Settles natively.
pub fn settle<P: RewardPolicy>(call: &Call<'_>) -> Result<Reward, String> {
    let settled = export::settle::<P>(call.config, &round(call.round), &members(call.members), call.memory.to_vec())?;
    let types::Tariff { overclaim_bp, overclaim_min, record_fee, record_fee_kib } = settled.tariff;
    Ok(Reward {
        points: settled.points,
        reasons: settled.reasons,
        memory: settled.memory,
        tariff: Tariff { overclaim_bp, overclaim_min, record_fee, record_fee_kib },
    })
}

/// Reviews natively.
pub fn review<P: SigningPolicy>(review: &Review<'_>) -> Result<Vec<u16>, String> {
    let record = |record: &Reviewed<'_>| types::Record {
        sequence: record.sequence,
        author: record.author.0.to_vec(),
        digest: record.digest.0.to_vec(),
        expires_ms: record.expires_ms,
        body: record.body.to_vec(),
    };
    let Context { batch, round, ordered_ms, set_size } = review.context;
    let context = types::Context { batch, round, ordered_ms, set_size };
    export::review::<P>(review.config, &review.records.iter().map(record).collect::<Vec<_>>(), &context)
}
