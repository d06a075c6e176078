//! A player: it draws commands, sends them through the kernel, and keeps what each of them wrote.

use ed25519_dalek::{Signer as _, SigningKey};
use kernel::command::{
    Amount, Answer, BanColumns, Chunk, Claim, Command, Compensation, Decided, Entry, Found, Ip, Join, Lead, Leave,
    Operate, Operation, Operator, Ready, RewardColumns, SettingChange, Settle, Stage, Super, Transfer,
};
use kernel::decide::{Description, Slot, Tariff};
use kernel::envelope::{ATTESTATION_TYPE, pae};
use kernel::id::{ClusterId, Digest, Genesis, LogIndex, NodeId, ProtocolVersion, RoundId, Seat, Signature, Term};
use kernel::outcome::Write;
use kernel::records::certificate::Attestation;
use kernel::records::order::{Arrived, Order};
use kernel::records::record::Forward;
use kernel::records::seal::Seal;
use kernel::records::validators::{Able, Attested, Came, Evidence, Validator};
use kernel::round::{Bits, Marks, OpenRound, Partial, Report, SeatReport, SignedPartial};
use kernel::settings::Settings;
use kernel::state::State;
use kernel::units::Points;

use super::draw::Draw;

/// One command as it was applied.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) entry: Entry,
    pub(crate) writes: Vec<Write>,
    pub(crate) accepted: bool,
}

/// See the module.
pub(crate) struct Player {
    pub(crate) state: State,
    pub(crate) draw: Draw,
    index: u64,
    now_ms: u64,
    sequence: u64,
}

impl Player {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: State::default(), draw: Draw(seed), index: 0, now_ms: 1_700_000_000_000, sequence: 0 }
    }

    /// A player with a cluster of so many members, and the steps that made it.
    pub(crate) fn with_members(seed: u64, members: u64) -> (Self, Vec<Step>) {
        let mut player = Self::new(seed);
        let mut steps = vec![player.apply(player.found()), player.apply(player.lead())];
        for number in 0..members {
            let join = player.join(number);
            steps.push(player.apply(join));
        }
        steps.push(player.settle());
        (player, steps)
    }

    /// Applies a command.
    pub(crate) fn apply(&mut self, command: Command) -> Step {
        self.index += 1;
        self.now_ms += self.draw.below(1_000);
        let index = LogIndex(self.index);
        let outcome = self.state.apply(index, &command);
        Step { entry: Entry { index, command }, writes: outcome.writes, accepted: outcome.reply.is_ok() }
    }

    /// Any command; one in four settles a round, and one in four is of records.
    pub(crate) fn step(&mut self) -> Step {
        let command = if !self.state.is_founded() {
            self.found()
        } else if self.draw.below(4) == 0 {
            self.of_records()
        } else {
            self.command()
        };
        self.apply(command)
    }

    /// Draws a command that has nothing to do with records.
    pub(crate) fn command(&mut self) -> Command {
        match self.draw.below(30) {
            0..10 => Command::Settle(Box::new(self.settlement())),
            10..16 => {
                let member = self.draw.below(80);
                self.join(member)
            }
            16 => Command::Leave(Leave { node: self.node(), now_ms: self.now_ms }),
            17 => self.lead(),
            18..22 => self.claim(),
            22..26 => self.operate(),
            26..28 => self.chunk(),
            28 => self.stage(),
            _ => self.activate(),
        }
    }

    /// Settles the next round.
    pub(crate) fn settle(&mut self) -> Step {
        let settle = self.settlement();
        self.apply(Command::Settle(Box::new(settle)))
    }

    /// Draws a command of records; where there is no signing policy, what leads to one.
    fn of_records(&mut self) -> Command {
        if self.state.slot(Slot::Signing).row.active.is_none() {
            return self.towards_signing();
        }
        match self.draw.below(16) {
            0 => {
                let validator = id(1 + self.draw.below(3));
                self.operation(Operation::RemoveValidator(validator))
            }
            1 | 2 => {
                let validator = self.validator();
                self.operation(Operation::AddValidator(validator))
            }
            3 => Command::Came(Came { validator: id(1 + self.draw.below(3)) }),
            4 => match self.pending() {
                Some(batch) => self.operation(Operation::RetryBatch(batch)),
                None => self.order(),
            },
            5..9 => self.seal(),
            9 => self.transfer(),
            10 => self.evidence(),
            _ => self.order(),
        }
    }

    fn towards_signing(&mut self) -> Command {
        let Some(component) = self.state.components.keys().next().copied() else { return self.chunk() };
        let staged = self.state.policies.iter().find(|(_, row)| row.slot == Slot::Signing);
        let Some((policy, row)) = staged.map(|(policy, row)| (*policy, row.clone())) else {
            let description = Description {
                name: "sign".into(),
                version: "1".into(),
                memory_bytes: 0,
                memory_schema: String::new(),
                reasons: vec!["too long".into(), "spam".into()],
                extra: Vec::new(),
            };
            return Command::Stage(Stage {
                slot: Slot::Signing,
                component,
                config: "{}".into(),
                description,
                by: Operator::Console,
                now_ms: self.now_ms,
            });
        };
        if row.ready.is_empty() {
            return Command::Ready(Ready { seat: Seat(0), policy });
        }
        let unable = self.state.validators.keys().into_iter().find(|validator| !row.able.contains(validator));
        match unable {
            Some(validator) => Command::Able(Able { validator, policy, why_not: None }),
            None => self.operation(Operation::Activate { slot: Slot::Signing, policy, round: None }),
        }
    }

    fn operation(&mut self, what: Operation) -> Command {
        Command::Operate(Operate { by: Operator::Token, reason: "because".into(), now_ms: self.now_ms, what })
    }

    fn validator(&mut self) -> Validator {
        let address = format!("10.0.0.1:{}", 7_000 + self.draw.below(2));
        Validator { node: id(1 + self.draw.below(3)), name: String::new(), address, came: false }
    }

    fn pending(&mut self) -> Option<u64> {
        let pending: Vec<u64> = self.state.known.pending.iter().copied().collect();
        let any = self.draw.below(pending.len().max(1) as u64) as usize;
        pending.get(any).copied()
    }

    fn order(&mut self) -> Command {
        let expires_ms = self.now_ms + 5_000;
        let count = 1 + self.draw.below(3);
        let records = (0..count).map(|_| Arrived { record: self.draw.record(), forward: 0, expires_ms }).collect();
        let forward = Forward { ingress: self.node(), payload: vec![1, 2, 3], signature: self.draw.signature() };
        Command::Order(Box::new(Order { now_ms: self.now_ms, forwards: vec![forward], records }))
    }

    /// A seal by the whole set, of a batch that waits for one.
    fn seal(&mut self) -> Command {
        let Some(number) = self.pending() else { return self.order() };
        let batch = self.state.batches[&number].clone();
        let codes: Vec<u16> = batch.records.iter().map(|_| self.draw.below(3) as u16).collect();
        let Some(attestation) = self.state.attestation(&batch, &codes) else { return self.order() };
        let payload = attestation.payload();
        let set = self.state.validators.keys();
        let signatures = (1..4).map(|number| (id(number), sign(number, ATTESTATION_TYPE, &payload)));
        Command::Seal(Box::new(Seal {
            batch: number,
            attempt: batch.attempt,
            set_version: self.state.validators.version,
            codes,
            signatures: signatures.filter(|(node, _)| set.contains(node)).collect(),
        }))
    }

    fn transfer(&mut self) -> Command {
        self.sequence += 1;
        let (from, to) = (self.node(), self.node());
        let digest = Digest::of(&self.sequence.to_be_bytes());
        let expires_ms = self.now_ms + 60_000;
        let amount = 1 + self.draw.below(9);
        Command::Transfer(Transfer {
            from,
            sequence: self.sequence,
            expires_ms,
            to,
            amount,
            digest,
            now_ms: self.now_ms,
        })
    }

    /// That a validator signed two roots.
    fn evidence(&mut self) -> Command {
        let number = 1 + self.draw.below(3);
        let attested = |player: &mut Self| {
            let attestation = Attestation {
                cluster: player.state.meta.cluster.clone(),
                batch: 1,
                attempt: 0,
                set_version: 1,
                policy: Digest([0; 32]),
                first_sequence: 1,
                count: 1,
                root: player.draw.digest(),
            };
            let payload = attestation.payload();
            Attested { signature: sign(number, ATTESTATION_TYPE, &payload), payload }
        };
        let (one, other) = (attested(self), attested(self));
        Command::Evidence(Box::new(Evidence { validator: id(number), one, other, now_ms: self.now_ms }))
    }

    fn node(&mut self) -> NodeId {
        node(self.draw.below(80))
    }

    fn found(&self) -> Command {
        Command::Found(Box::new(Found {
            cluster: ClusterId { id: "lab".into(), genesis: Genesis([3; 16]) },
            founder: Super { node: NodeId([200; 32]), name: "super-1".into(), address: "127.0.0.1:7001".into() },
            settings: Settings::default(),
            now_ms: self.now_ms,
        }))
    }

    fn lead(&self) -> Command {
        let term = Term(self.state.meta.term.0 + 1);
        Command::Lead(Lead { term, leader: NodeId([200; 32]), now_ms: self.now_ms })
    }

    fn join(&mut self, member: u64) -> Command {
        Command::Join(Join {
            node: node(member),
            name: format!("follower-{member}"),
            version: ProtocolVersion::OURS,
            software: format!("0.1.{}", self.draw.below(3)),
            ip: Ip::V4([10, (member >> 8) as u8, member as u8, 1]),
            port: 7_000 + self.draw.below(2) as u16,
            rest: None,
            now_ms: self.now_ms,
        })
    }

    fn claim(&mut self) -> Command {
        self.sequence += 1;
        let node = self.node();
        let to = if self.draw.below(2) == 0 { node } else { self.node() };
        let amount = match self.draw.below(4) {
            0 => Amount::All,
            _ => Amount::Exactly(1 + self.draw.below(60)),
        };
        let digest = Digest::of(&self.sequence.to_be_bytes());
        let expires_ms = self.now_ms + 60_000;
        Command::Claim(Claim { node, sequence: self.sequence, expires_ms, amount, to, digest, now_ms: self.now_ms })
    }

    fn operate(&mut self) -> Command {
        let (node, settled) = (self.node(), self.state.meta.settled);
        let slot = self.draw.one_of(&Slot::ALL);
        let what = match self.draw.below(9) {
            0 => Operation::AcceptRound,
            1 => Operation::AcceptPolicy(slot),
            2 | 3 => Operation::Ban { node, rounds: 1 + self.draw.below(5) },
            4 => Operation::LiftNodes(vec![node]),
            5 => Operation::Compensate(vec![Compensation {
                node,
                points: Points(1 + self.draw.below(50) as i64),
                round: settled,
                reason: "outage".into(),
            }]),
            6 => Operation::SetClass { node, class: self.draw.below(4) as u32 },
            7 => Operation::Set(vec![SettingChange {
                key: "guard.suspect_rounds".into(),
                value: (1 + self.draw.below(5)).to_string(),
            }]),
            _ => Operation::Rollback(slot),
        };
        Command::Operate(Operate { by: Operator::Token, reason: "because".into(), now_ms: self.now_ms, what })
    }

    fn chunk(&mut self) -> Command {
        let whole = component(self.draw.below(6));
        let component = Digest::of(&whole);
        let offset = self.state.uploads.get(&component).map_or(0, |(_, bytes)| bytes.len());
        let bytes = whole[offset.min(whole.len() / 2)..].iter().copied().take(whole.len() / 2).collect();
        Command::Chunk(Chunk { component, size: whole.len() as u32, offset: offset as u32, bytes })
    }

    fn stage(&mut self) -> Command {
        let number = self.draw.below(6);
        let description = Description {
            name: format!("policy-{number}"),
            version: "1".into(),
            memory_bytes: 8 * (number as u32 % 3),
            memory_schema: "m".into(),
            reasons: vec!["missed".into(), "late".into()],
            extra: Vec::new(),
        };
        Command::Stage(Stage {
            slot: Slot::ALL[number as usize % 3],
            component: Digest::of(&component(number)),
            config: format!("{{\"a\":{number}}}"),
            description,
            by: Operator::Console,
            now_ms: self.now_ms,
        })
    }

    fn activate(&mut self) -> Command {
        let Some((policy, slot)) = self.state.policies.iter().map(|(digest, row)| (*digest, row.slot)).nth(0) else {
            return self.stage();
        };
        let any = self.draw.below(self.state.policies.len() as u64) as usize;
        let (policy, slot) =
            self.state.policies.iter().map(|(digest, row)| (*digest, row.slot)).nth(any).unwrap_or((policy, slot));
        if self.state.policies[&policy].ready.is_empty() {
            return Command::Ready(Ready { seat: Seat(0), policy });
        }
        let what = Operation::Activate { slot, policy, round: None };
        Command::Operate(Operate { by: Operator::Socket, reason: "a better one".into(), now_ms: self.now_ms, what })
    }

    /// A settlement of the next round, with decisions where policies are active.
    pub(crate) fn settlement(&mut self) -> Settle {
        let meta = &self.state.meta;
        let (round, term, members) = (meta.settled.next(), meta.term, self.state.queue.len());
        let (cluster, settings_version, base) = (meta.cluster.to_string(), meta.settings_version, meta.settled);
        let presence: Vec<u8> = (0..members).map(|_| [1, 1, 1, 1, 0, 2][self.draw.below(6) as usize]).collect();
        let rtt: Vec<u16> =
            presence.iter().map(|code| u16::from(*code == 1) * self.draw.below(30_000) as u16).collect();
        let marks = Marks { causes: u8::from(self.draw.below(6) == 0), ..Marks::default() };
        let partial = Partial {
            cluster,
            open: OpenRound { round, term, base },
            seat: Seat(0),
            asked: Bits::zeros(members),
            seen: Bits::zeros(members),
            void: Bits::zeros(members),
            facts: Vec::new(),
            rtt: rtt.clone(),
            data: Vec::new(),
            addresses: Vec::new(),
            returns: Bits::zeros(members),
            lag_ms: 1,
            open_since_ms: 5,
            open_all_round: true,
            refused: 0,
            secret: [7; 16],
            spread_ms: 1_000,
        };
        let payload = minicbor::to_vec(&partial).unwrap();
        let seat = SeatReport {
            seat: Seat(0),
            came: true,
            lag_ms: 1,
            open_since_ms: 5,
            refused: 0,
            grace_until: RoundId(0),
            load_rounds: 0,
            rtt,
        };
        let report = Report {
            round,
            term,
            presence,
            facts: vec![0; members],
            asked: vec![1; members],
            seen: vec![1; members],
            data: vec![0; members],
            addresses: Vec::new(),
            returns: Bits::zeros(members),
            seats: vec![seat],
            marks,
        };
        Settle {
            round,
            term,
            now_ms: self.now_ms,
            settings_version,
            report,
            partials: vec![SignedPartial { signer: NodeId([200; 32]), payload, signature: Signature([9; 64]) }],
            ban: self.ban(members),
            reward: self.reward(members),
            engine: "none".into(),
            columns: LogIndex(1),
        }
    }

    fn ban(&mut self, members: usize) -> Decided<BanColumns> {
        let (policy, delta) = self.memory(Slot::Ban);
        let columns = BanColumns {
            strikes: (0..members).map(|_| self.draw.below(3) as u16).collect(),
            standing: (0..members).map(|_| [0, 0, 0, 0, 0, 0, 1, 2, 3][self.draw.below(9) as usize]).collect(),
            until: (0..members).map(|_| self.draw.below(4) as u32).collect(),
            reasons: (0..members).map(|_| self.draw.below(3) as u16).collect(),
            delta,
        };
        decided(policy, columns)
    }

    fn reward(&mut self, members: usize) -> Decided<RewardColumns> {
        let (policy, delta) = self.memory(Slot::Reward);
        let columns = RewardColumns {
            points: (0..members).map(|_| self.draw.below(12) as i64 - 1).collect(),
            reasons: (0..members).map(|_| self.draw.below(3) as u16).collect(),
            delta,
            tariff: Tariff { overclaim_bp: 1_000, overclaim_min: 1, record_fee: 0, record_fee_kib: 0 },
        };
        decided(policy, columns)
    }

    /// The slot's policy, and some change of what it remembers of the queue.
    fn memory(&mut self, slot: Slot) -> (Option<Digest>, Vec<u8>) {
        let Some((digest, row)) = self.state.active(slot) else { return (None, Vec::new()) };
        let len = row.description.memory_bytes as usize * self.state.queue.len();
        let after: Vec<u8> = (0..len).map(|_| self.draw.below(40).saturating_sub(37) as u8).collect();
        (Some(digest), kernel::policies::delta(&vec![0; len], &after))
    }
}

fn decided<T>(policy: Option<Digest>, columns: T) -> Decided<T> {
    match policy {
        Some(_) => Decided { policy, input: policy, answer: Answer::Columns(columns), fuel: 12_345 },
        None => Decided { policy, input: None, answer: Answer::NotCalled, fuel: 0 },
    }
}

/// The key of a validator, and its signature: the kernel verifies it.
fn key(number: u64) -> SigningKey {
    SigningKey::from_bytes(&[number as u8; 32])
}

fn id(number: u64) -> NodeId {
    NodeId(key(number).verifying_key().to_bytes())
}

fn sign(number: u64, payload_type: &str, payload: &[u8]) -> Signature {
    Signature(key(number).sign(&pae(payload_type, payload)).to_bytes())
}

/// The key of a member. No rule of the state looks at the point of the curve.
pub(crate) fn node(member: u64) -> NodeId {
    NodeId(Digest::of(&member.to_be_bytes()).0)
}

fn component(number: u64) -> Vec<u8> {
    (0..1_000 + number).flat_map(|at| (at * (number + 3)).to_be_bytes()).collect()
}
