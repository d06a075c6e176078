//! How a simulated cluster begins: with its founding, its supers and its rules in the log of each of them.

use ed25519_dalek::SigningKey;
use kernel::command::{Chunk, Command, Found, Operate, Operation, Operator, Ready, Stage, Supers};
use kernel::decide::{Policy as _, Slot};
use kernel::id::{ClusterId, Digest, Genesis, LogIndex, NodeId, Seat};
use kernel::state::State;
use std::sync::Arc;

use super::{Disk, Fate, Kept, START_MS, Super};
use crate::MS;
use crate::policies::Native;
use crate::raft::{Config, Id, Log, Snapshot};
use crate::world::World;

impl World {
    /// The first supers, each with the same beginning of the log.
    pub(crate) fn found(&mut self) {
        for _ in 0..self.plan.supers {
            self.new_machine();
        }
        let supers: Vec<_> = self.supers.iter().map(Super::holder).collect();
        let mut commands = vec![
            Command::Found(Box::new(Found {
                cluster: ClusterId { id: "sim".into(), genesis: Genesis([7; 16]) },
                founder: supers[0].clone(),
                settings: self.plan.settings.clone(),
                now_ms: START_MS,
            })),
            Command::Supers(Supers { changed: LogIndex(0), supers: supers.clone(), now_ms: START_MS }),
        ];
        for (slot, bytes) in [(Slot::Ban, &b"strikes 1"[..]), (Slot::Reward, b"flat 1")] {
            let seats = 0..supers.len() as u8;
            let (policy, put_in) = stage(slot, bytes, seats, START_MS);
            commands.extend(put_in);
            commands.push(activate(slot, policy, START_MS));
        }
        let mut state = State::default();
        let mut index = 0;
        for command in &commands {
            index += 1;
            let outcome = state.apply(LogIndex(index), command);
            assert!(outcome.reply.is_ok(), "{:?}", outcome.reply);
        }
        let config = Config { voters: (0..self.plan.supers).collect(), ..Config::default() };
        self.oracle.begin(index, &state, (0..self.plan.supers).collect());
        if let Some(real) = &self.real {
            real.found(&commands);
            return (0..self.plan.supers).for_each(|id| self.start(id, Kept::OnDisks, 0));
        }
        let snapshot = Arc::new(Snapshot { index, term: 1, config: (0, config), state });
        for id in 0..self.plan.supers {
            self.start(id, Kept::Model(Box::new((1, None, Log::after(snapshot.clone())))), 0);
        }
    }

    /// A machine with an empty disk; its number.
    pub(crate) fn new_machine(&mut self) -> Id {
        let id = self.supers.len() as Id;
        let mut secret = [id + 1; 32];
        secret[..8].copy_from_slice(&self.seed.to_le_bytes());
        let key = SigningKey::from_bytes(&secret);
        let node = NodeId(key.verifying_key().to_bytes());
        self.by_key.insert(node, id);
        if let Some(real) = &mut self.real {
            real.new_machine(node);
        }
        let disk = if self.real.is_some() { Kept::OnDisks } else { Kept::Model(Box::new(empty())) };
        self.supers.push(Super {
            node,
            key,
            fate: Fate::Down { disk, silent: false },
            life: 0,
            due_us: 0,
            disk_us: 3 * MS,
            clock_off_ms: 0,
        });
        id
    }
}

fn empty() -> Disk {
    let config = (0, Config::default());
    let snapshot = Snapshot { index: 0, term: 0, config, state: State::default() };
    (0, None, Log::after(Arc::new(snapshot)))
}

/// The commands that make a candidate of a component, ready on these seats.
pub(crate) fn stage(
    slot: Slot,
    bytes: &[u8],
    seats: impl IntoIterator<Item = u8>,
    now_ms: u64,
) -> (Digest, Vec<Command>) {
    let component = Digest::of(bytes);
    let policy = Digest::of_policy(component, Digest::of(b"{}"));
    let description = Native::of(bytes).expect("a known rule").description().clone();
    let by = Operator::Socket;
    let mut commands = vec![
        Command::Chunk(Chunk { component, size: bytes.len() as u32, offset: 0, bytes: bytes.to_vec() }),
        Command::Stage(Stage { slot, component, config: "{}".into(), description, by, now_ms }),
    ];
    commands.extend(seats.into_iter().map(|seat| Command::Ready(Ready { seat: Seat(seat), policy })));
    (policy, commands)
}

/// The command that puts a candidate in force.
pub(crate) fn activate(slot: Slot, policy: Digest, now_ms: u64) -> Command {
    let what = Operation::Activate { slot, policy, round: None };
    Command::Operate(Operate { by: Operator::Socket, reason: String::new(), now_ms, what })
}
