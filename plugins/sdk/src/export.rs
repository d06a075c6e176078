//! What the export macros call: from the WIT's types to the rule and back.

use crate::bindings::types;
use crate::{BanPolicy, Config, Members, Memory, Policy, Records, RewardPolicy, SigningPolicy};

/// Reads the config into a rule; keys that it did not ask for are refused.
pub(crate) fn configured<P: Policy>(config: &str) -> Result<P, String> {
    let mut config = Config::parse(config)?;
    let rule = P::configure(&mut config)?;
    config.finish()?;
    Ok(rule)
}

/// `describe`.
///
/// # Errors
/// The rule refuses the config.
pub fn describe<P: Policy>(config: &str) -> Result<types::Description, String> {
    catch_panics();
    Ok(configured::<P>(config)?.about().into_description())
}

/// `judge`.
///
/// # Errors
/// The rule's own, or columns of unequal length.
pub fn judge<P: BanPolicy>(
    config: &str,
    round: &types::Round,
    members: &types::Members,
    memory: Vec<u8>,
) -> Result<types::Judgement, String> {
    catch_panics();
    let (rule, members, mut memory) = prepare::<P>(config, round, members, memory)?;
    let judgement = rule.judge(round, &members, &mut memory)?;
    Ok(judgement.into_wit(memory.into_bytes()))
}

/// `settle`.
///
/// # Errors
/// The rule's own, or columns of unequal length.
pub fn settle<P: RewardPolicy>(
    config: &str,
    round: &types::Round,
    members: &types::Members,
    memory: Vec<u8>,
) -> Result<types::Settlement, String> {
    catch_panics();
    let (rule, members, mut memory) = prepare::<P>(config, round, members, memory)?;
    let settlement = rule.settle(round, &members, &mut memory)?;
    Ok(settlement.into_wit(memory.into_bytes()))
}

fn prepare<'a, P: Policy>(
    config: &str,
    round: &types::Round,
    members: &'a types::Members,
    memory: Vec<u8>,
) -> Result<(P, Members<'a>, Memory), String> {
    let rule: P = configured(config)?;
    let members = Members::new(members, round.population)?;
    let memory = Memory::new(memory, members.len(), rule.about().memory_bytes())?;
    Ok((rule, members, memory))
}

/// A panic ends the instance, and its text with it: the hook hands the text to the host first.
fn catch_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|info| crate::bindings::log::write(4, &info.to_string())));
}

/// `review`.
///
/// # Errors
/// The rule's own, or keys of another length.
pub fn review<P: SigningPolicy>(
    config: &str,
    records: &[types::Record],
    context: &types::Context,
) -> Result<Vec<u16>, String> {
    catch_panics();
    let rule: P = configured(config)?;
    Ok(rule.review(context, &Records::new(records)?)?.into_wit())
}
