//! A cluster of many members, and rounds as its super would observe them.

use anyhow::{Result, anyhow, bail};
use kernel::command::{
    Chunk, Command, Entry, Found, Ip, Join, Lead, Operate, Operation, Operator, Ready, Stage, Super,
};
use kernel::decide::{Description, LimitSettings, Slot};
use kernel::id::{ClusterId, Digest, Genesis, LogIndex, NodeId, ProtocolVersion, RoundId, Seat, Signature, Term};
use kernel::limits::CHUNK_BYTES;
use kernel::outcome::{Reject, Write};
use kernel::round::{At, Bits, Marks, OpenRound, Partial, Report, SeatReport, SignedPartial, fact, rtt_code};
use kernel::settings::Settings;
use kernel::state::State;
use policy::{Admitted, Engine};
use store::Store;

const REWARD: &[u8] = include_bytes!("../../../plugins/prebuilt/reward-flat.wasm");
const BAN: &[u8] = include_bytes!("../../../plugins/prebuilt/ban-strikes.wasm");
const REWARD_CONFIG: &str = r#"{"points_per_round":10}"#;
/// Nobody is put out: the queue, and with it the work, stays the same from round to round.
const BAN_CONFIG: &str = r#"{"ban":10000,"ban_rounds":60,"suspend":10000,"warn":2}"#;

const FOUNDER: NodeId = NodeId([7; 32]);
/// Commands in one commit while the cluster is made.
const BATCH: usize = 256;
/// Members that miss a round, one in so many.
const MISSING: u64 = 100;

/// A cluster and its disk.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) store: Store,
    pub(crate) now_ms: u64,
    eyes: Eyes,
    entries: Vec<Entry>,
    writes: Vec<Write>,
}

/// The default rules, ready to run.
pub(crate) struct Rules {
    pub(crate) reward: Admitted,
    pub(crate) ban: Admitted,
}

impl Rules {
    /// Admits both.
    pub(crate) fn admit() -> Result<Self> {
        let (engine, limits) = (Engine::new()?, LimitSettings::default());
        let admit = |slot, component, config| {
            policy::admit(&engine, slot, component, config, &limits).map_err(|findings| anyhow!("{findings}"))
        };
        Ok(Self { reward: admit(Slot::Reward, REWARD, REWARD_CONFIG)?, ban: admit(Slot::Ban, BAN, BAN_CONFIG)? })
    }

    /// For a cluster in which they decide.
    pub(crate) fn in_force(&self) -> [InForce<'_>; 2] {
        let Self { reward, ban } = self;
        [
            InForce { slot: Slot::Reward, component: REWARD, config: REWARD_CONFIG, description: &reward.description },
            InForce { slot: Slot::Ban, component: BAN, config: BAN_CONFIG, description: &ban.description },
        ]
    }
}

/// A policy that is in force from the first round.
pub(crate) struct InForce<'a> {
    pub(crate) slot: Slot,
    pub(crate) component: &'a [u8],
    pub(crate) config: &'a str,
    pub(crate) description: &'a Description,
}

impl World {
    /// A cluster of so many members under these policies, all of it on the disk. They are in the queue after the next
    /// settlement.
    pub(crate) fn new(store: Store, members: u32, policies: &[InForce<'_>]) -> Result<Self> {
        let now_ms = 1_767_225_600_000;
        let (state, entries, writes) = (State::default(), Vec::new(), Vec::new());
        let mut world = Self { state, store, now_ms, eyes: Eyes::new(FOUNDER), entries, writes };
        let settings = Settings {
            members: u64::from(members).max(20_000),
            joins_round: 1_000_000,
            joins_group_round: 1_000_000,
            ..Settings::default()
        };
        world.apply(Command::Found(Box::new(Found {
            cluster: ClusterId { id: "bench".into(), genesis: Genesis([1; 16]) },
            founder: Super { node: FOUNDER, name: "super-1".into(), address: "127.0.0.1:7001".into() },
            settings,
            now_ms,
        })))?;
        world.apply(Command::Lead(Lead { term: Term(1), leader: FOUNDER, now_ms }))?;
        for policy in policies {
            for command in commands(policy, now_ms)? {
                world.apply(command)?;
            }
        }
        for number in 0..members {
            world.apply(Command::Join(join(number, now_ms)))?;
            if world.entries.len() >= BATCH {
                world.commit()?;
            }
        }
        world.commit()?;
        Ok(world)
    }

    /// Applies a command; its rows wait for [`World::commit`].
    pub(crate) fn apply(&mut self, command: Command) -> Result<()> {
        let index = LogIndex(self.state.meta.applied.0 + 1);
        let outcome = self.state.apply(index, &command);
        if let Err(reject) = outcome.reply {
            return refused(&reject);
        }
        self.entries.push(Entry { index, command });
        self.writes.extend(outcome.writes);
        Ok(())
    }

    /// Puts all that was applied on the disk.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.store.commit(&self.entries, &self.writes)?;
        self.entries.clear();
        self.writes.clear();
        Ok(())
    }

    /// What the super saw of the next round.
    pub(crate) fn observe(&mut self) -> Result<(Report, Vec<SignedPartial>)> {
        self.eyes.observe(&self.state)
    }
}

/// What puts a policy in force, in a group of one.
pub(crate) fn commands(policy: &InForce<'_>, now_ms: u64) -> Result<Vec<Command>> {
    let component = Digest::of(policy.component);
    let mut commands = Vec::new();
    for (at, bytes) in policy.component.chunks(CHUNK_BYTES).enumerate() {
        let offset = u32::try_from(at * CHUNK_BYTES)?;
        let size = u32::try_from(policy.component.len())?;
        commands.push(Command::Chunk(Chunk { component, size, offset, bytes: bytes.to_vec() }));
    }
    let digest = Digest::of_policy(component, Digest::of(policy.config.as_bytes()));
    let slot = policy.slot;
    commands.push(Command::Stage(Stage {
        slot,
        component,
        config: policy.config.into(),
        description: policy.description.clone(),
        by: Operator::File,
        now_ms,
    }));
    commands.push(Command::Ready(Ready { seat: Seat(0), policy: digest }));
    let what = Operation::Activate { slot, policy: digest, round: None };
    commands.push(Command::Operate(Operate { by: Operator::File, reason: String::new(), now_ms, what }));
    Ok(commands)
}

/// What a super sees, round by round.
pub(crate) struct Eyes {
    signer: NodeId,
    draw: u64,
}

impl Eyes {
    /// Those of a super that sits on the first seat. Nobody checks its signatures here.
    pub(crate) fn new(signer: NodeId) -> Self {
        Self { signer, draw: 1 }
    }

    /// The next round: nearly everybody answers, at a distance of its own.
    pub(crate) fn observe(&mut self, state: &State) -> Result<(Report, Vec<SignedPartial>)> {
        let meta = &state.meta;
        let (round, term, base, cluster) = (meta.settled.next(), meta.term, meta.settled, meta.cluster.to_string());
        let members = state.queue.len();
        let (mut asked, mut seen) = (Bits::zeros(members), Bits::zeros(members));
        let (mut facts, mut rtt, mut presence) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..members {
            asked.set(at);
            let is_there = !self.next().is_multiple_of(MISSING);
            if is_there {
                seen.set(at);
            } else {
                facts.push(At { at: u32::try_from(at)?, value: fact::ABSENT });
            }
            let us = 200 + u32::try_from(self.next() % 90_000)?;
            rtt.push(if is_there { rtt_code(us) } else { 0 });
            presence.push(u8::from(is_there));
        }
        let mut fact_column = vec![0; members];
        for fact in &facts {
            if let Some(row) = fact_column.get_mut(fact.at as usize) {
                *row = fact.value;
            }
        }
        let seat = SeatReport {
            seat: Seat(0),
            came: true,
            lag_ms: 2,
            open_since_ms: 1,
            refused: 0,
            grace_until: RoundId(0),
            load_rounds: 0,
            rtt: rtt.clone(),
        };
        let report = Report {
            round,
            term,
            facts: fact_column,
            asked: vec![1; members],
            seen: presence.clone(),
            presence,
            data: vec![0; members],
            addresses: Vec::new(),
            returns: Bits::zeros(members),
            seats: vec![seat],
            marks: Marks { partials: 1, trusted_up: u32::try_from(members)?, ..Marks::default() },
        };
        let partial = Partial {
            cluster,
            open: OpenRound { round, term, base },
            seat: Seat(0),
            asked,
            seen,
            void: Bits::zeros(members),
            facts,
            rtt,
            data: Vec::new(),
            addresses: Vec::new(),
            returns: Bits::zeros(members),
            lag_ms: 2,
            open_since_ms: 1,
            open_all_round: true,
            refused: 0,
            secret: [5; 16],
            spread_ms: 4_000,
        };
        let payload = minicbor::to_vec(&partial)?;
        let signed = SignedPartial { signer: self.signer, payload, signature: Signature([0; 64]) };
        Ok((report, vec![signed]))
    }

    /// Random numbers, the same in each run (SplitMix64).
    fn next(&mut self) -> u64 {
        self.draw = self.draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.draw;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn join(number: u32, now_ms: u64) -> Join {
    // A network group takes a hundred members.
    let [_, high, middle, low] = (number / 100 * 256 + number % 100).to_be_bytes();
    Join {
        node: NodeId(Digest::of(&number.to_be_bytes()).0),
        name: format!("follower-{number}"),
        version: ProtocolVersion::OURS,
        software: "0.1.0".into(),
        ip: Ip::V4([10, high, middle, low]),
        port: 7_101,
        rest: Some("127.0.0.1:8081".into()),
        now_ms,
    }
}

fn refused(reject: &Reject) -> Result<()> {
    bail!("the kernel refused a command of the benchmark: {reject:?}")
}
