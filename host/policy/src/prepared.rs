//! A policy that is ready to run: compiled and linked once, a fresh instance for each evaluation.
//!
//! Invariant: nothing survives an evaluation. What a rule remembers goes out and comes in again.

use std::sync::Arc;

use kernel::decide::{
    Call, Description, Fault, FaultKind, Judgement, LimitSettings, Policy, PolicyLimits, Reward, Run, Slot,
};
use wasmtime::component::{Component, Linker};

use crate::convert::{self, worlds};
use crate::engine::Engine;
use crate::sandbox::Guest;

/// The interface that a policy may import.
pub(crate) const LOG: &str = "pingward:policy/log@1.0.0";

/// A component that is linked to its slot's world.
pub(crate) struct Program {
    engine: Engine,
    world: World,
}

enum World {
    Reward(worlds::reward::RewardPolicyPre<Guest>),
    Ban(worlds::ban::BanPolicyPre<Guest>),
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
        };
        Ok(Self { engine: engine.clone(), world })
    }

    /// Makes an instance and drops it: types are checked then, and what the guest does at its start happens.
    pub(crate) fn instantiate(&self, limits: &PolicyLimits) -> Run<()> {
        self.engine.run(limits, |store| match &self.world {
            World::Reward(world) => world.instantiate(store).map(|_| Ok(())),
            World::Ban(world) => world.instantiate(store).map(|_| Ok(())),
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
            };
            Ok(described.map(convert::description))
        })
    }

    fn settle(&self, call: &Call<'_>, limits: &PolicyLimits) -> Run<Reward> {
        let World::Reward(world) = &self.world else { return other_slot(Slot::Ban) };
        self.engine.run(limits, |store| {
            let extra = convert::extra(call.members);
            let (round, members) = (convert::round(call.round), convert::members(call.members, &extra));
            let instance = world.instantiate(&mut *store)?;
            let policy = instance.pingward_policy_reward();
            Ok(policy.call_settle(store, call.config, round, members, call.memory)?.map(convert::settlement))
        })
    }

    fn judge(&self, call: &Call<'_>, limits: &PolicyLimits) -> Run<Judgement> {
        let World::Ban(world) = &self.world else { return other_slot(Slot::Reward) };
        self.engine.run(limits, |store| {
            let extra = convert::extra(call.members);
            let (round, members) = (convert::round(call.round), convert::members(call.members, &extra));
            let instance = world.instantiate(&mut *store)?;
            let policy = instance.pingward_policy_ban();
            Ok(policy.call_judge(store, call.config, round, members, call.memory)?.map(convert::judgement))
        })
    }
}

fn other_slot<T>(slot: Slot) -> Run<T> {
    Run::native(Err(Fault::new(FaultKind::NotPrepared, &format!("this policy fills the slot `{slot}`"))))
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
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("description", &self.description).field("limits", &self.limits).finish()
    }
}
