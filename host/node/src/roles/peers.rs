//! What a super says to the others about rounds: that one begins, and what it saw in one.
//!
//! Messages are lost with their connections, so each is said again until it is answered or the round is over. Whoever
//! hears it twice takes it once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::id::NodeId;
use kernel::round::{OpenRound, SignedPartial};
use raft::{Connector, Lane};
use store::Replica;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;
use wire::pb::super_client::SuperClient;
use wire::rounds;

use crate::group::Group;

/// Connections that are kept: one to each super that there may be in the middle of a change.
const CHANNELS: usize = raft::REPLICAS;
/// After an attempt that failed the next one comes after this part of the time that one may take.
const AGAIN_DIVISOR: u32 = 8;

/// The other supers of a group. Clones are the same.
#[derive(Clone)]
pub struct Peers {
    group: Group,
    connector: Arc<dyn Connector>,
    channels: Arc<Mutex<BTreeMap<NodeId, (String, Channel)>>>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

impl Peers {
    /// Connections are made when they are first used.
    #[must_use]
    pub fn new(group: Group, connector: Arc<dyn Connector>) -> Self {
        Self { group, connector, channels: Arc::default() }
    }

    /// The keys of the voters besides `us`.
    #[must_use]
    pub fn others(&self, us: NodeId) -> Vec<NodeId> {
        let members = self.group.members().unwrap_or_default();
        let mut keys: Vec<_> =
            members.iter().filter(|member| member.voter && member.key != us).map(|member| member.key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Says that a round begins, until it is heard or the round is over. `within`: how long an answer is waited for; a slow
    /// way is no reason to say it twice.
    pub async fn tell(self, to: NodeId, open: OpenRound, within: Duration) {
        let say = || {
            let client = self.client(to);
            async move { client?.open(rounds::open_pb(open)).await.map(|_| true) }
        };
        self.until_over(open, within, say).await;
    }

    /// Hands a report to the leader of its round, until that takes it or the round is over.
    pub async fn report(self, to: NodeId, open: OpenRound, signed: SignedPartial, within: Duration) {
        let say = || {
            let (client, report) = (self.client(to), rounds::report_pb(&signed));
            async move { client?.report(report).await.map(|answer| answer.into_inner().taken) }
        };
        self.until_over(open, within, say).await;
    }

    async fn until_over<F>(&self, open: OpenRound, within: Duration, say: impl Fn() -> F)
    where
        F: Future<Output = Result<bool, Status>>,
    {
        let saying = async {
            loop {
                match timeout(within, say()).await {
                    Ok(Ok(true)) => return,
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => tracing::debug!(round = open.round.0, %error, "a super did not hear"),
                    Err(_) => tracing::debug!(round = open.round.0, "a super does not answer"),
                }
                sleep(within / AGAIN_DIVISOR).await;
            }
        };
        tokio::select! {
            () = saying => {}
            () = self.over(open) => {}
        }
    }

    /// Waits until a round is settled, or its term is over.
    async fn over(&self, open: OpenRound) {
        let (mut applied, mut leadership) = (self.group.applied(), self.group.leadership());
        let settled = applied.wait_for(|now| now.settled >= open.round);
        let led = leadership.wait_for(|now| now.term > open.term);
        // A group that has ended is over too.
        tokio::select! {
            _ = settled => {}
            _ = led => {}
        }
    }

    fn client(&self, to: NodeId) -> Result<SuperClient<Channel>, Status> {
        let members = self.group.members().map_err(|error| Status::unavailable(error.to_string()))?;
        // Of two replicas of one key the newer one is the one that runs.
        let member = members.into_iter().rfind(|member| member.key == to);
        let member = member.ok_or_else(|| Status::not_found("no super of this group"))?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&to) {
            Some((address, channel)) if *address == member.address => channel.clone(),
            Some(_) | None => {
                if channels.len() >= CHANNELS {
                    channels.clear();
                }
                let (name, address) = (String::new(), member.address.clone());
                let replica = Replica { key: to, address, name };
                let channel = raft::connect(Arc::clone(&self.connector), &replica, Lane::Rounds);
                channels.insert(to, (member.address, channel.clone()));
                channel
            }
        };
        Ok(SuperClient::new(channel)
            .max_decoding_message_size(rounds::MESSAGE_BYTES)
            .max_encoding_message_size(rounds::MESSAGE_BYTES))
    }
}
