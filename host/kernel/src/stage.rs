//! How a policy comes in: its bytes in pieces, then the candidate, then the acknowledgement of each super (PROTOCOLS 11.2,
//! 11.3). Nothing here counts before it is activated.
//!
//! Invariant: every row is bounded: so many uploads, so many candidates a slot, and what nothing refers to goes in time.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::command::{Chunk, Ready, Stage, Unready};
use crate::decide::Slot;
use crate::id::{Digest, RoundId, Seat};
use crate::limits::{CHUNK_BYTES, COMPONENT_BYTES, CONFIG_BYTES, REASON_BYTES, STAGED, STAGED_ROUNDS, UPLOADS};
use crate::outcome::{Change, Notice, Reject, Reply, Write};
use crate::policies::{PolicyRow, SlotRow};
use crate::state::{Effects, State};

impl State {
    pub(crate) fn chunk(&mut self, chunk: &Chunk, fx: &mut Effects) -> Result<Reply, Reject> {
        if self.components.contains_key(&chunk.component) {
            if self.is_loose(&chunk.component) {
                self.keep_loose(chunk.component);
            }
            return Ok(Reply::Received { bytes: chunk.size });
        }
        let received = self.uploads.get(&chunk.component).map_or(0, |(_, bytes)| bytes.len());
        let bad = |why: &str| Err(Reject::BadChunk { received: received as u32, why: why.to_string() });
        let offset = chunk.offset as usize;
        if chunk.size as usize > COMPONENT_BYTES || chunk.size == 0 {
            return bad("a component has 1 byte to 4 MiB");
        }
        if chunk.bytes.is_empty() || chunk.bytes.len() > CHUNK_BYTES {
            return bad("a piece has 1 byte to 256 KiB");
        }
        if self.uploads.get(&chunk.component).is_some_and(|(size, _)| *size != chunk.size) {
            return bad("another size was named before");
        }
        if offset.saturating_add(chunk.bytes.len()) <= received {
            return Ok(Reply::Received { bytes: received as u32 });
        }
        if offset != received {
            return bad("pieces come in order");
        }
        if received + chunk.bytes.len() > chunk.size as usize {
            return bad("more bytes than the size that was named");
        }
        self.keep_loose(chunk.component);
        self.drop_loose(|at, _| at >= UPLOADS, fx);
        let (_, bytes) = self.uploads.entry(chunk.component).or_insert_with(|| (chunk.size, Vec::new()));
        bytes.extend_from_slice(&chunk.bytes);
        if bytes.len() < chunk.size as usize {
            let row = (chunk.size, bytes.clone());
            let bytes = row.1.len() as u32;
            fx.writes.push(Write::Upload(chunk.component, Some(row)));
            return Ok(Reply::Received { bytes });
        }
        let whole = self.uploads.remove(&chunk.component).map(|(_, bytes)| bytes).unwrap_or_default();
        fx.writes.push(Write::Upload(chunk.component, None));
        if Digest::of(&whole) != chunk.component {
            self.meta.loose.retain(|(component, _)| *component != chunk.component);
            return Err(Reject::BadChunk { received: 0, why: "the whole has another digest".into() });
        }
        let whole: Arc<[u8]> = whole.into();
        self.components.insert(chunk.component, whole.clone());
        fx.writes.push(Write::Component(chunk.component, Some(whole)));
        Ok(Reply::Received { bytes: chunk.size })
    }

    pub(crate) fn stage(&mut self, stage: &Stage, fx: &mut Effects) -> Result<Reply, Reject> {
        let now_ms = self.stamp(stage.now_ms);
        if !self.components.contains_key(&stage.component) {
            return Err(Reject::UnknownPolicy);
        }
        if stage.config.len() > CONFIG_BYTES {
            return Err(Reject::Malformed { what: alloc::format!("the config is longer than {CONFIG_BYTES} bytes") });
        }
        if u64::from(stage.description.memory_bytes) > self.meta.settings.state_bytes {
            let what = alloc::format!("memory-bytes is above {}", self.meta.settings.state_bytes);
            return Err(Reject::Malformed { what });
        }
        if stage.slot == Slot::Signing && stage.description.memory_bytes != 0 {
            return Err(Reject::Malformed { what: "a signing policy remembers nothing: memory-bytes is 0".into() });
        }
        let config_digest = Digest::of(stage.config.as_bytes());
        let policy = Digest::of_policy(stage.component, config_digest);
        if self.policies.get(&policy).is_some_and(|row| row.slot != stage.slot) {
            return Err(Reject::Malformed { what: "this component fills another slot".into() });
        }
        // The size of stored memory follows from the description, so that it must not change under a digest.
        if self.policies.get(&policy).is_some_and(|row| row.description != stage.description) {
            return Err(Reject::Malformed { what: "this policy described itself otherwise before".into() });
        }
        let known = self.policies.get(&policy);
        let (ready, unready) = known.map(|row| (row.ready.clone(), row.unready.clone())).unwrap_or_default();
        let (able, unable) = known.map(|row| (row.able.clone(), row.unable.clone())).unwrap_or_default();
        let row = PolicyRow {
            slot: stage.slot,
            component: stage.component,
            config: stage.config.clone(),
            config_digest,
            description: stage.description.clone(),
            ready,
            staged: self.meta.settled,
            unused_since: self.meta.settled,
            unready,
            able,
            unable,
        };
        self.meta.loose.retain(|(component, _)| *component != stage.component);
        let gone = if self.policies.contains_key(&policy) { None } else { self.make_room(stage.slot, fx) };
        fx.writes.push(Write::Policy(policy, Some(Box::new(row.clone()))));
        self.policies.insert(policy, row);
        if let Some(component) = gone {
            self.drop_components(|unused| *unused == component, fx);
        }
        fx.change(Change {
            now_ms,
            by: Some(stage.by),
            what: alloc::format!("policy {} staged", stage.slot),
            to: policy.to_string(),
            reason: stage.description.name.clone(),
            ..Change::default()
        });
        fx.notices.push(Notice::Policy {
            slot: stage.slot,
            policy: Some(policy),
            what: "staged",
            round: self.meta.settled,
            detail: stage.description.name.clone(),
        });
        Ok(Reply::Staged { policy, memory_empty: self.memory_empty(stage.slot, policy) })
    }

    pub(crate) fn ready(&mut self, ready: Ready, fx: &mut Effects) -> Result<Reply, Reject> {
        if !self.meta.seats.iter().any(|row| row.seat == ready.seat) {
            return Err(Reject::UnknownNode);
        }
        let row = self.policies.get_mut(&ready.policy).ok_or(Reject::UnknownPolicy)?;
        if !row.ready.contains(&ready.seat) {
            row.ready.push(ready.seat);
            row.ready.sort();
            row.unready.retain(|(seat, _)| *seat != ready.seat);
            let slot = row.slot;
            fx.writes.push(Write::Policy(ready.policy, Some(Box::new(row.clone()))));
            self.note_replica(slot, (ready.policy, "ready"), ready.seat, "", fx);
        }
        Ok(Reply::Done)
    }

    /// A super says that it cannot run a policy. Whoever could before counts no more for its activation; what decides goes
    /// on all the same.
    pub(crate) fn unready(&mut self, unready: &Unready, fx: &mut Effects) -> Result<Reply, Reject> {
        if !self.meta.seats.iter().any(|row| row.seat == unready.seat) {
            return Err(Reject::UnknownNode);
        }
        let row = self.policies.get_mut(&unready.policy).ok_or(Reject::UnknownPolicy)?;
        let why = cut(&unready.why, REASON_BYTES);
        let said = (unready.seat, why.to_string());
        if row.unready.contains(&said) {
            return Ok(Reply::Done);
        }
        row.ready.retain(|seat| *seat != unready.seat);
        row.unready.retain(|(seat, _)| *seat != unready.seat);
        row.unready.push(said);
        row.unready.sort();
        let slot = row.slot;
        fx.writes.push(Write::Policy(unready.policy, Some(Box::new(row.clone()))));
        self.note_replica(slot, (unready.policy, "unready"), unready.seat, why, fx);
        Ok(Reply::Done)
    }

    /// Whether it would change nothing: it was said before, or there is no such policy any more.
    #[must_use]
    pub fn knows(&self, said: &Unready) -> bool {
        let why = cut(&said.why, REASON_BYTES);
        let row = self.policies.get(&said.policy);
        row.is_none_or(|row| row.unready.iter().any(|(seat, known)| *seat == said.seat && known == why))
    }

    /// Tells watchers what became of a policy on a super.
    fn note_replica(
        &self,
        slot: Slot,
        (policy, what): (Digest, &'static str),
        seat: Seat,
        why: &str,
        fx: &mut Effects,
    ) {
        let row = self.meta.seats.iter().find(|row| row.seat == seat);
        let who = row.map_or_else(String::new, |row| row.holder.shown());
        let detail = if why.is_empty() { who } else { alloc::format!("{who}: {why}") };
        fx.notices.push(Notice::Policy { slot, policy: Some(policy), what, round: self.meta.settled, detail });
    }

    fn is_loose(&self, component: &Digest) -> bool {
        self.meta.loose.iter().any(|(loose, _)| loose == component)
    }

    /// Something came of a component that no policy uses yet: it is the latest of them.
    fn keep_loose(&mut self, component: Digest) {
        self.meta.loose.retain(|(loose, _)| *loose != component);
        self.meta.loose.insert(0, (component, self.meta.settled));
    }

    /// Drops those of the components that no policy uses yet, complete or not, by place, the latest first, and round.
    fn drop_loose(&mut self, those: impl Fn(usize, RoundId) -> bool, fx: &mut Effects) {
        let loose = core::mem::take(&mut self.meta.loose);
        let (gone, kept): (Vec<_>, Vec<_>) =
            loose.into_iter().enumerate().partition(|(at, (_, since))| those(*at, *since));
        self.meta.loose = kept.into_iter().map(|(_, loose)| loose).collect();
        for (_, (component, _)) in gone {
            if self.uploads.remove(&component).is_some() {
                fx.writes.push(Write::Upload(component, None));
            }
            self.drop_components(|unused| *unused == component, fx);
        }
    }

    /// Nothing in the slot refers any more to what `before` referred to: its time as a candidate begins anew.
    pub(crate) fn note_unused(&mut self, slot: Slot, before: &SlotRow, fx: &mut Effects) {
        let settled = self.meta.settled;
        for policy in before.policies() {
            if self.refers(slot, &policy) {
                continue;
            }
            if let Some(row) = self.policies.get_mut(&policy).filter(|row| row.unused_since != settled) {
                row.unused_since = settled;
                fx.writes.push(Write::Policy(policy, Some(Box::new(row.clone()))));
            }
        }
    }

    /// Drops what nothing has referred to for long.
    pub(crate) fn drop_stale_policies(&mut self, settled: RoundId, fx: &mut Effects) {
        let stale = |(digest, row): &(&Digest, &PolicyRow)| {
            settled.since(row.unused_since) > STAGED_ROUNDS && !self.refers(row.slot, digest)
        };
        let gone: Vec<Digest> = self.policies.iter().filter(stale).map(|(digest, _)| *digest).collect();
        for digest in &gone {
            self.policies.remove(digest);
            fx.writes.push(Write::Policy(*digest, None));
        }
        if !gone.is_empty() {
            self.drop_components(|_| true, fx);
        }
        self.drop_loose(|_, since| settled.since(since) > STAGED_ROUNDS, fx);
    }

    /// Drops the candidate that has waited longest where there is no room for another one; gives its component. Whoever
    /// mends a rule stages one after the other, and must not be told to wait a thousand rounds for the next.
    fn make_room(&mut self, slot: Slot, fx: &mut Effects) -> Option<Digest> {
        let waiting = |(digest, row): &(&Digest, &PolicyRow)| row.slot == slot && !self.refers(slot, digest);
        let waiting: Vec<(RoundId, Digest)> =
            self.policies.iter().filter(waiting).map(|(digest, row)| (row.unused_since, *digest)).collect();
        let (_, oldest) = waiting.iter().min().filter(|_| waiting.len() >= STAGED)?;
        fx.writes.push(Write::Policy(*oldest, None));
        self.policies.remove(oldest).map(|row| row.component)
    }

    /// Drops those of the components that no policy uses and that do not wait for one.
    fn drop_components(&mut self, those: impl Fn(&Digest) -> bool, fx: &mut Effects) {
        let used = |component: &Digest| {
            self.is_loose(component) || self.policies.values().any(|row| row.component == *component)
        };
        let unused = self.components.keys().filter(|component| those(component) && !used(component));
        let unused: Vec<Digest> = unused.copied().collect();
        for component in unused {
            self.components.remove(&component);
            fx.writes.push(Write::Component(component, None));
        }
    }
}

/// The beginning of a text, at most so many bytes of it.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Operation};
    use crate::scripts::world::{Seen, World, policy};
    use crate::settings::Settings;

    /// A piece of `len` bytes, from the start, of a component of 9 bytes.
    fn piece(world: &mut World, text: &str, len: usize) -> Result<Reply, Reject> {
        let component = Digest::of(text.as_bytes());
        let bytes = text.as_bytes()[..len].to_vec();
        world.apply(Command::Chunk(Chunk { component, size: text.len() as u32, offset: 0, bytes })).reply
    }

    fn held(world: &World) -> (usize, usize) {
        (world.state.uploads.len(), world.state.components.len())
    }

    #[test]
    fn uploads_that_were_given_up_make_room_and_age() {
        let mut world = World::found(Settings::default(), &[]);
        for text in ["aaaaaaaaa", "bbbbbbbbb", "ccccccccc", "ddddddddd"] {
            assert_eq!(piece(&mut world, text, 3), Ok(Reply::Received { bytes: 3 }));
        }
        assert_eq!(piece(&mut world, "eeeeeeeee", 3), Ok(Reply::Received { bytes: 3 }));
        assert_eq!(held(&world), (UPLOADS, 0));
        assert!(!world.state.uploads.contains_key(&Digest::of(b"aaaaaaaaa")), "the oldest went");
        // Complete ones that nobody stages are bounded with them.
        for text in ["fff", "ggg", "hhh", "iii", "jjj"] {
            assert_eq!(piece(&mut world, text, 3), Ok(Reply::Received { bytes: 3 }));
        }
        assert_eq!(held(&world), (0, UPLOADS));
        world.settle(&Seen::default());
        piece(&mut world, "kkkkkkkkk", 3).unwrap();
        for _ in 1..=STAGED_ROUNDS {
            world.settle(&Seen::default());
        }
        assert_eq!(held(&world), (1, 0), "by age, whatever the number of the round");
        world.settle(&Seen::default());
        assert_eq!(held(&world), (0, 0));
    }

    #[test]
    fn a_component_that_waits_for_its_config_is_not_dropped_with_others() {
        let mut world = World::found(Settings::default(), &[]);
        world.stage("all:1", true);
        for _ in 0..STAGED_ROUNDS {
            world.settle(&Seen::default());
        }
        piece(&mut world, "flat", 4).unwrap();
        world.settle(&Seen::default());
        assert_eq!(held(&world), (0, 1), "the candidate went");
        world.stage("flat", true);
        assert!(world.state.policies.contains_key(&policy("flat")) && world.state.meta.loose.is_empty());
    }

    #[test]
    fn a_candidate_ages_from_when_the_last_slot_let_go_of_it() {
        let mut world = World::found(Settings::default(), &["all:1"]);
        for _ in 0..=STAGED_ROUNDS {
            world.settle(&Seen::default());
        }
        let activate = |world: &mut World, rule: &str| {
            world.stage(rule, true);
            let what = Operation::Activate { slot: Slot::Reward, policy: policy(rule), round: None };
            world.operate("", what).reply.unwrap();
            world.settle(&Seen::default());
        };
        activate(&mut world, "all:2");
        activate(&mut world, "all:3");
        let gone_from = world.state.meta.settled.plus(STAGED_ROUNDS);
        while world.state.policies.contains_key(&policy("all:1")) {
            world.settle(&Seen::default());
        }
        assert_eq!(world.state.meta.settled, gone_from.next());
    }
}
