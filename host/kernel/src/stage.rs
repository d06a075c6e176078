//! How a policy comes in: its bytes in pieces, then the candidate, then the acknowledgement of each super (PROTOCOLS 11.2,
//! 11.3). Nothing here counts before it is activated.
//!
//! Invariant: every row is bounded: so many uploads, so many candidates a slot, and what nothing refers to goes in time.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::command::{Chunk, Ready, Stage};
use crate::decide::Slot;
use crate::id::{Digest, RoundId};
use crate::limits::{CHUNK_BYTES, COMPONENT_BYTES, CONFIG_BYTES, STAGED, STAGED_ROUNDS, UPLOADS};
use crate::outcome::{Change, Notice, Reject, Reply, Write};
use crate::policies::PolicyRow;
use crate::state::{Effects, State};

impl State {
    pub(crate) fn chunk(&mut self, chunk: &Chunk, fx: &mut Effects) -> Result<Reply, Reject> {
        if self.components.contains_key(&chunk.component) {
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
        if !self.uploads.contains_key(&chunk.component) && self.uploads.len() >= UPLOADS {
            return Err(Reject::TooManyStaged { bound: UPLOADS as u32 });
        }
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
        let config_digest = Digest::of(stage.config.as_bytes());
        let policy = Digest::of_policy(stage.component, config_digest);
        if self.policies.get(&policy).is_some_and(|row| row.slot != stage.slot) {
            return Err(Reject::Malformed { what: "this component fills another slot".into() });
        }
        // The size of stored memory follows from the description, so that it must not change under a digest.
        if self.policies.get(&policy).is_some_and(|row| row.description != stage.description) {
            return Err(Reject::Malformed { what: "this policy described itself otherwise before".into() });
        }
        let ready = self.policies.get(&policy).map(|row| row.ready.clone()).unwrap_or_default();
        let row = PolicyRow {
            slot: stage.slot,
            component: stage.component,
            config: stage.config.clone(),
            config_digest,
            description: stage.description.clone(),
            ready,
            staged: self.meta.settled,
        };
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
            fx.writes.push(Write::Policy(ready.policy, Some(Box::new(row.clone()))));
        }
        Ok(Reply::Done)
    }

    /// Drops what has been staged for long and is referred to by nothing.
    pub(crate) fn drop_stale_policies(&mut self, settled: RoundId, fx: &mut Effects) {
        let stale = |(digest, row): &(&Digest, &PolicyRow)| {
            settled.since(row.staged) > STAGED_ROUNDS && !self.refers(row.slot, digest)
        };
        let gone: Vec<Digest> = self.policies.iter().filter(stale).map(|(digest, _)| *digest).collect();
        for digest in &gone {
            self.policies.remove(digest);
            fx.writes.push(Write::Policy(*digest, None));
        }
        if !gone.is_empty() || settled.0.is_multiple_of(STAGED_ROUNDS) {
            self.drop_components(|_| true, fx);
        }
        if settled.0.is_multiple_of(STAGED_ROUNDS) {
            for (component, _) in core::mem::take(&mut self.uploads) {
                fx.writes.push(Write::Upload(component, None));
            }
        }
    }

    /// Drops the candidate that has waited longest where there is no room for another one; gives its component. Whoever mends a rule stages one
    /// after the other, and must not be told to wait a thousand rounds for the next.
    fn make_room(&mut self, slot: Slot, fx: &mut Effects) -> Option<Digest> {
        let waiting = |(digest, row): &(&Digest, &PolicyRow)| row.slot == slot && !self.refers(slot, digest);
        let waiting: Vec<(RoundId, Digest)> =
            self.policies.iter().filter(waiting).map(|(digest, row)| (row.staged, *digest)).collect();
        let (_, oldest) = waiting.iter().min().filter(|_| waiting.len() >= STAGED)?;
        fx.writes.push(Write::Policy(*oldest, None));
        self.policies.remove(oldest).map(|row| row.component)
    }

    /// Drops those of the components that no policy uses.
    fn drop_components(&mut self, those: impl Fn(&Digest) -> bool, fx: &mut Effects) {
        let used = |component: &Digest| self.policies.values().any(|row| row.component == *component);
        let unused = self.components.keys().filter(|component| those(component) && !used(component));
        let unused: Vec<Digest> = unused.copied().collect();
        for component in unused {
            self.components.remove(&component);
            fx.writes.push(Write::Component(component, None));
        }
    }
}
