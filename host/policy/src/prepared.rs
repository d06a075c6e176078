//! A policy that is ready to run: compiled and linked once, a fresh instance for each evaluation.
//!
//! Invariant: nothing survives an evaluation. What a rule remembers goes out and comes in again.

use std::sync::Arc;

use kernel::decide::{
    Call, Description, Fault, FaultKind, Judgement, LimitSettings, Policy, PolicyLimits, Reward, Run, Slot,
};
use kernel::records::review::Review;
use wasmtime::component::{Component, Linker};

use crate::convert::{self, worlds};
use crate::engine::Engine;
use crate::sandbox::Guest;

/// The interface that a policy may import.
pub(crate) const LOG: &str = "pingward:policy/log@1.0.0";
/// Bytes of records' bodies that count as much as a record does: see [`Prepared`]'s limits of a review.
const BODY_UNIT_BYTES: u64 = 64;
/// Bytes of a record besides its body: two numbers, author, digest.
const RECORD_BYTES: u64 = 8 + 8 + 32 + 32;

/// A component that is linked to its slot's world.
pub(crate) struct Program {
    engine: Engine,
    world: World,
}

enum World {
    Reward(worlds::reward::RewardPolicyPre<Guest>),
    Ban(worlds::ban::BanPolicyPre<Guest>),
    Signing(worlds::signing::SigningPolicyPre<Guest>),
}

impl World {
    const fn slot(&self) -> Slot {
        match self {
            Self::Reward(_) => Slot::Reward,
            Self::Ban(_) => Slot::Ban,
            Self::Signing(_) => Slot::Signing,
        }
    }
}

impl Program {
    /// Links a component; the error says what it lacks.
    pub(crate) fn link(engine: &Engine, slot: Slot, component: &Component) -> wasmtime::Result<Self> {
        let mut linker = Linker::<Guest>::new(engine.wasmtime());
        linker.instance(LOG)?.func_wrap("write", |mut guest, (level, message): (u8, String)| {
            let guest: &mut Guest = wasmtime::StoreContextMut::data_mut(&mut guest);
            guest.write(level, &message)
        })?;
        let linked = linker.instantiate_pre(component)?;
        let world = match slot {
            Slot::Reward => World::Reward(worlds::reward::RewardPolicyPre::new(linked)?),
            Slot::Ban => World::Ban(worlds::ban::BanPolicyPre::new(linked)?),
            Slot::Signing => World::Signing(worlds::signing::SigningPolicyPre::new(linked)?),
        };
        Ok(Self { engine: engine.clone(), world })
    }

    /// Makes an instance and drops it: types are checked then, and what the guest does at its start happens.
    pub(crate) fn instantiate(&self, limits: &PolicyLimits) -> Run<()> {
        self.engine.run(limits, |store| match &self.world {
            World::Reward(world) => world.instantiate(store).map(|_| Ok(())),
            World::Ban(world) => world.instantiate(store).map(|_| Ok(())),
            World::Signing(world) => world.instantiate(store).map(|_| Ok(())),
        })
    }

    /// Asks what it is under a config.
    pub(crate) fn describe(&self, config: &str, limits: &PolicyLimits) -> Run<Description> {
        self.engine.run(limits, |store| {
            let described = match &self.world {
                World::Reward(world) => {
                    world.instantiate(&mut *store)?.pingward_policy_reward().call_describe(store, config)?
                }
                World::Ban(world) => {
                    world.instantiate(&mut *store)?.pingward_policy_ban().call_describe(store, config)?
                }
                World::Signing(world) => {
                    world.instantiate(&mut *store)?.pingward_policy_signing().call_describe(store, config)?
                }
            };
            Ok(described.map(convert::description))
        })
    }

    fn settle(&self, call: &Call<'_>, limits: &PolicyLimits) -> Run<Reward> {
        let World::Reward(world) = &self.world else { return self.other_slot() };
        self.engine.run(limits, |store| {
            let extra = convert::extra(call.members);
            let (round, members) = (convert::round(call.round), convert::members(call.members, &extra));
            let instance = world.instantiate(&mut *store)?;
            let policy = instance.pingward_policy_reward();
            Ok(policy.call_settle(store, call.config, round, members, call.memory)?.map(convert::settlement))
        })
    }

    fn judge(&self, call: &Call<'_>, limits: &PolicyLimits) -> Run<Judgement> {
        let World::Ban(world) = &self.world else { return self.other_slot() };
        self.engine.run(limits, |store| {
            let extra = convert::extra(call.members);
            let (round, members) = (convert::round(call.round), convert::members(call.members, &extra));
            let instance = world.instantiate(&mut *store)?;
            let policy = instance.pingward_policy_ban();
            Ok(policy.call_judge(store, call.config, round, members, call.memory)?.map(convert::judgement))
        })
    }

    fn review(&self, review: &Review<'_>, limits: &PolicyLimits) -> Run<Vec<u16>> {
        let World::Signing(world) = &self.world else { return self.other_slot() };
        self.engine.run(limits, |store| {
            let records = convert::records(review.records);
            let instance = world.instantiate(&mut *store)?;
            let policy = instance.pingward_policy_signing();
            policy.call_review(store, review.config, &records, convert::context(review.context))
        })
    }

    fn other_slot<T>(&self) -> Run<T> {
        let what = format!("this policy fills the slot `{}`", self.world.slot());
        Run::native(Err(Fault::new(FaultKind::NotPrepared, &what)))
    }
}

/// A policy that is ready to run under some limits. Clones share the compiled code.
#[derive(Clone)]
pub struct Prepared {
    program: Arc<Program>,
    description: Description,
    limits: LimitSettings,
}

impl Prepared {
    pub(crate) const fn new(program: Arc<Program>, description: Description, limits: LimitSettings) -> Self {
        Self { program, description, limits }
    }

    /// The same policy under other limits.
    #[must_use]
    pub fn with_limits(&self, limits: LimitSettings) -> Self {
        Self { limits, ..self.clone() }
    }

    fn scaled(&self, call: &Call<'_>) -> PolicyLimits {
        let (population, columns) = (call.members.len() as u64, call.members.bytes() as u64);
        self.limits.scaled(population, u64::from(self.description.memory_bytes), columns)
    }

    /// The limits of a review are those of a round: each record counts as a member, and each 64 bytes of a body as one more,
    /// because a rule may read every byte of what it signs. A batch has at most 512 records and 1 MiB of bodies.
    fn scaled_to_records(&self, review: &Review<'_>) -> PolicyLimits {
        let (records, bodies) = (review.records.len() as u64, review.bytes() as u64);
        self.limits.scaled(records + bodies / BODY_UNIT_BYTES, 0, records * RECORD_BYTES + bodies)
    }
}

impl Policy for Prepared {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        self.program.settle(call, &self.scaled(call))
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        self.program.judge(call, &self.scaled(call))
    }

    fn review(&self, review: &Review<'_>) -> Run<Vec<u16>> {
        self.program.review(review, &self.scaled_to_records(review))
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("description", &self.description).field("limits", &self.limits).finish()
    }
}
