//! Whole clusters in simulated time: supers with the kernel's rules over a model of Raft, followers that attach, answer,
//! claim, die and come back, a network that cuts, loses, delays, doubles and reorders, and an oracle that knows the truth
//! and looks after every event.
//!
//! Everything follows from one number: the same seed gives the same events in the same order. `cargo run --release --bin
//! sim -- --seeds 0..20000` plays many and stops at none; `--seed N` plays one and tells it.
//!
//! What is simulated is the network, the disks, the clocks and the processes; what is real is every rule of the kernel:
//! walks, partial reports with their signatures, merge, guard, the leader's pacing, settlements, seats, the ledger. With
//! `--real` Raft, the store and the gRPC between replicas are the program's own as well, at many times the cost.
//! Not here: TLS, the gRPC of followers, and files, which `tests/cluster` runs as they are.
//!
//! A seed that fails tells of a wrong rule or of a wrong simulation. The oracle is not made to agree.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a simulation that meets a mistake of its own has to stop"
)]
#![cfg_attr(
    not(feature = "real"),
    allow(dead_code, unreachable_code, unused_variables, reason = "what is only there for the real Raft")
)]

pub mod oracle;
pub mod policies;
pub mod raft;
pub mod random;

mod faults;
mod follower;
mod net;
mod operator;
#[cfg(feature = "real")]
mod real;
#[cfg(not(feature = "real"))]
#[path = "real_absent.rs"]
mod real;
mod supers;
mod world;

pub use faults::Kind;
pub use world::World;

/// Simulated time, µs.
pub type Us = u64;
/// A millisecond.
pub const MS: Us = 1_000;
/// A second.
pub const S: Us = 1_000_000;

/// What is broken on purpose, to show that the oracle sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Plant {
    /// Nothing.
    #[default]
    Nothing,
    /// A leader takes its own word for a majority.
    NoQuorum,
    /// One replica applies a settlement twice.
    SettledTwice,
    /// The leader forgets the guard's marks.
    StrikesInDoubt,
    /// The leader takes absence for not knowing.
    AbsentForEver,
    /// Grace covers only whom a super asked last.
    NoWay,
    /// Disks say that they have synced and have not.
    LyingDisk,
    /// A read that is to see everything is answered from what is there.
    LocalRead,
    /// A super answers what it is asked for before the group has it.
    EarlyAnswer,
}

/// The world of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scene {
    /// As the seed draws it.
    #[default]
    Drawn,
    /// Rounds as they are by default, and every path to a follower loses 1 % and has 200 ms of jitter each way.
    Paths,
    /// The same with rounds of a second, in which there are 250 ms to answer.
    ShortPaths,
    /// Over the Raft that the program has.
    Real,
    /// 100,000 rounds of a small cluster whose supers come and go: does anything grow?
    Long,
}

impl Scene {
    /// Whether followers miss turns for no fault of theirs and none of their supers.
    const fn has_bad_paths(self) -> bool {
        matches!(self, Self::Paths | Self::ShortPaths)
    }
}

/// How a run is played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What is broken on purpose.
    pub plant: Plant,
    /// Keep what happens, line by line.
    pub told: bool,
    /// In which world.
    pub scene: Scene,
    /// How long until faults stop, simulated; 0 = as the scene says.
    pub length_us: Us,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Played {
    /// The seed.
    pub seed: u64,
    /// Simulated time.
    pub simulated_us: Us,
    /// Events.
    pub events: u64,
    /// A hash over all of them.
    pub digest: u64,
    /// Figures by name.
    pub counts: std::collections::BTreeMap<&'static str, u64>,
    /// What was wrong, in words; the run ended there.
    pub wrong: Option<String>,
    /// What happened, where it was to be kept.
    pub lines: Vec<String>,
}

/// Plays a seed.
#[must_use]
pub fn play(seed: u64, options: Options) -> Played {
    if options.scene == Scene::Real { real::play(seed, options) } else { World::new(seed, options).play() }
}
