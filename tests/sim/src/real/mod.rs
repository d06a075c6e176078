//! Clusters over the Raft that the program has: `raft::Group` on redb, gRPC between replicas over connections of this
//! process, all on one thread of tokio whose clock jumps from one thing that is due to the next.
//!
//! Supers, followers, faults and the oracle are those of the model: what differs is who puts the log in order. A super's
//! state is what its own store says that was applied, entry by entry, and it is compared with the state that the replica
//! itself has in memory.
//!
//! What a run does follows from its seed alone. openraft's draws come from [`raft::seed`], whoever waits is woken in a fixed
//! order, disks are memory and are written where it is asked for. So a flush takes no time, which the model's does; a super
//! that stands still has a replica that reaches nobody, and whose own clock goes on.

mod disks;
mod group;
mod hear;
mod pipe;
mod replica;
mod wires;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use disks::Machine;
pub(crate) use group::Wanted;
pub(crate) use hear::About;
use hear::Note;
pub(crate) use replica::Replica;
pub(crate) use wires::Wires;

use crate::raft::Id;
use crate::random::mix;
use crate::world::World;
use crate::{Options, Played, Us};

/// What a world has besides where Raft is the real one.
#[derive(Debug)]
pub(crate) struct Real {
    /// When simulated time began.
    begin: Instant,
    notes: mpsc::UnboundedSender<Note>,
    heard: Option<mpsc::UnboundedReceiver<Note>>,
    wires: Wires,
    /// By number of the super.
    machines: Vec<Machine>,
    wanted: Option<Wanted>,
    /// A change is under way.
    changing: bool,
    /// The last round whose settlement was acknowledged.
    acknowledged: kernel::id::RoundId,
}

impl Real {
    /// The beginning of a world, on tokio's clock as it is now.
    pub(crate) fn new(seed: u64) -> Self {
        let (notes, heard) = mpsc::unbounded_channel();
        Self {
            begin: Instant::now(),
            notes,
            heard: Some(heard),
            wires: Wires::new(seed),
            machines: Vec::new(),
            wanted: None,
            changing: false,
            acknowledged: kernel::id::RoundId(0),
        }
    }

    fn now_us(&self) -> Us {
        self.begin.elapsed().as_micros() as Us
    }

    pub(crate) fn wires(&self) -> Wires {
        self.wires.clone()
    }

    fn machine(&self, id: Id) -> &Machine {
        &self.machines[usize::from(id)]
    }
}

/// Plays a seed.
pub(crate) fn play(seed: u64, options: Options) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let _seeded = raft::seed(mix(seed ^ 0x6472_6177));
    runtime.expect("a runtime").block_on(async { World::new(seed, options).play_on().await })
}

impl World {
    /// Plays to the end, or to the first thing that is wrong.
    async fn play_on(mut self) -> Played {
        let end_us = self.end_us();
        let real = self.real.as_mut().expect("it is real");
        let begin = real.begin;
        let mut heard = real.heard.take().expect("it plays once");
        while self.oracle.wrong.is_none() {
            let due = begin + std::time::Duration::from_micros(self.due_us().min(end_us));
            let note = tokio::select! {
                biased;
                note = heard.recv() => note,
                () = sleep_until(due) => None,
            };
            // Timers are late by up to a millisecond: what is due by now was due before what was just heard.
            let now_us = self.real.as_ref().expect("it is real").now_us();
            while self.oracle.wrong.is_none() && self.due_us() <= now_us.min(end_us) {
                self.step();
            }
            if now_us >= end_us {
                self.now_us = end_us;
                self.look_at_the_end();
                break;
            }
            if let Some(note) = note {
                self.now_us = self.now_us.max(now_us);
                self.hear(note);
                self.look();
            }
        }
        let digest = self.real.as_ref().map_or(0, |real| real.wires.digest());
        self.note([10, digest, 0]);
        self.played()
    }
}
