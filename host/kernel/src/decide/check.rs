//! Whether what a policy answers has the shape that its slot asks for.

use super::{Description, Fault, FaultKind, Judgement, Reward};

/// Checks the shape of a reward decision: lengths, reason codes.
///
/// # Errors
/// The fault to record instead.
pub fn check_reward(reward: &Reward, population: usize, description: &Description) -> Result<(), Fault> {
    lengths(&[("points", reward.points.len()), ("reasons", reward.reasons.len())], population)?;
    memory_length(reward.memory.len(), population, description)?;
    reasons(&reward.reasons, description)
}

/// Checks the shape of a ban decision: lengths, standing codes (probation is not a policy's to give), reason codes.
///
/// # Errors
/// The fault to record instead.
pub fn check_judgement(judgement: &Judgement, population: usize, description: &Description) -> Result<(), Fault> {
    lengths(
        &[
            ("strikes", judgement.strikes.len()),
            ("standing", judgement.standing.len()),
            ("until", judgement.until.len()),
            ("reasons", judgement.reasons.len()),
        ],
        population,
    )?;
    memory_length(judgement.memory.len(), population, description)?;
    standings(&judgement.standing)?;
    reasons(&judgement.reasons, description)
}

pub(crate) fn standings(codes: &[u8]) -> Result<(), Fault> {
    let Some((at, code)) = codes.iter().enumerate().find(|(_, code)| **code > 3) else { return Ok(()) };
    let text = match code {
        4 => alloc::format!("standing[{at}] is 4 (probation), which only the host gives"),
        code => alloc::format!("standing[{at}] is {code}; the codes are 0 good, 1 warned, 2 suspended, 3 banned"),
    };
    Err(Fault::new(FaultKind::Code, &text))
}

pub(crate) fn lengths(columns: &[(&str, usize)], population: usize) -> Result<(), Fault> {
    match columns.iter().find(|(_, len)| *len != population) {
        None => Ok(()),
        Some((name, len)) => Err(Fault::new(
            FaultKind::Length,
            &alloc::format!("`{name}` has {len} entries for a population of {population}"),
        )),
    }
}

fn memory_length(len: usize, population: usize, description: &Description) -> Result<(), Fault> {
    let expected = population.saturating_mul(description.memory_bytes as usize);
    if len == expected {
        return Ok(());
    }
    let bytes = description.memory_bytes;
    Err(Fault::new(
        FaultKind::Length,
        &alloc::format!("`memory` has {len} bytes; {population} members of {bytes} bytes are {expected}"),
    ))
}

pub(crate) fn reasons(codes: &[u16], description: &Description) -> Result<(), Fault> {
    let known = description.reasons.len();
    match codes.iter().enumerate().find(|(_, code)| usize::from(**code) > known) {
        None => Ok(()),
        Some((at, code)) => Err(Fault::new(
            FaultKind::Code,
            &alloc::format!("reasons[{at}] is {code}, but `describe` lists {known} reasons"),
        )),
    }
}
