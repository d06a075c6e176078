//! What a replica asks another one besides openraft's own calls.
//!
//! Whether something was sent matters: what never left may be tried again, of what left and was not answered nobody knows
//! whether it counts. So these connections are made before they are used, and a broken one is not mended behind a call.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kernel::id::NodeId;
use store::Replica;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use wire::message::Malformed;
use wire::pb::raft_client::RaftClient;
use wire::raft::{Answer, Change, Changed, Forward, Invite, Invited, Led, Place, Route, convert};

use super::{CHANNELS, CONNECT_WITHIN, Connector, KEEP_ALIVE, KEEP_ALIVE_ANSWER, Lane, WINDOW_BYTES, client};

/// For the answer to an invitation: the other side writes one row.
const INVITE_WITHIN: Duration = Duration::from_secs(10);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nothing left this machine.
    #[error("{address} cannot be reached: {source}")]
    NotSent {
        /// Whom.
        address: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// The other side will not do it, and has not begun.
    #[error("{address} refuses: {why}")]
    Refused {
        /// Who.
        address: String,
        /// What it says.
        why: String,
    },
    /// It left, and no answer came that can be read.
    #[error("{address} did not answer: {why}")]
    Lost {
        /// Who.
        address: String,
        /// What is known.
        why: String,
    },
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connector: Arc<dyn Connector>,
    channels: Mutex<Channels>,
}

/// By number and key, each with its address.
type Channels = BTreeMap<(u64, NodeId), (String, Channel)>;

impl Calls {
    pub(crate) fn new(connector: Arc<dyn Connector>) -> Self {
        Self { inner: Arc::new(Inner { connector, channels: Mutex::default() }) }
    }

    /// Hands commands to the leader.
    pub(crate) async fn forward(
        &self,
        route: Route,
        to: &Replica,
        commands: Vec<Vec<u8>>,
        until: Instant,
    ) -> Result<Led<Vec<Answer>>, CallError> {
        let count = commands.len();
        let message = convert::forward_pb(Forward { route, commands });
        let call = |mut client: RaftClient<Channel>| async move { client.forward(message).await };
        let answer = self.call(route.to, to, until, call).await?;
        readable(to, convert::forwarded(answer, count))
    }

    /// Asks the leader up to where a read must see.
    pub(crate) async fn read_index(
        &self,
        route: Route,
        to: &Replica,
        until: Instant,
    ) -> Result<Led<Option<Place>>, CallError> {
        let message = convert::read_index_pb(route);
        let call = |mut client: RaftClient<Channel>| async move { client.read_index(message).await };
        let answer = self.call(route.to, to, until, call).await?;
        readable(to, convert::read_until(answer))
    }

    /// Hands a change of the group to the leader.
    pub(crate) async fn change(
        &self,
        route: Route,
        to: &Replica,
        (change, only_at): (Change, Option<u64>),
        until: Instant,
    ) -> Result<Led<Changed>, CallError> {
        let message = convert::change_pb(route, change, only_at);
        let call = |mut client: RaftClient<Channel>| async move { client.change(message).await };
        let answer = self.call(route.to, to, until, call).await?;
        readable(to, convert::changed(answer))
    }

    /// Tells an empty super which replica it is: `Err` with its reason where it will not be.
    pub(crate) async fn invite(&self, to: &Replica, invite: &Invite) -> Result<Result<Invited, String>, CallError> {
        let message = convert::invite_pb(invite);
        let call = |mut client: RaftClient<Channel>| async move { client.invite(message).await };
        let answer = self.call(invite.replica, to, Instant::now() + INVITE_WITHIN, call).await?;
        readable(to, convert::invited(answer))
    }

    async fn call<T, F>(
        &self,
        id: u64,
        to: &Replica,
        until: Instant,
        call: impl FnOnce(RaftClient<Channel>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let channel = self.channel(id, to).await?;
        let address = to.address.clone();
        let failed = match timeout_at(until, call(client(channel))).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            // Said by the other side's own code, which refuses before it does anything.
            Ok(Err(status)) if status.source().is_none() => {
                return Err(CallError::Refused { address, why: status.message().to_owned() });
            }
            Ok(Err(status)) => Err(status),
            Err(_) => Ok(()),
        };
        self.inner.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(&(id, to.key));
        match failed {
            Err(status) if was_not_sent(&status) => Err(CallError::Refused { address, why: "it hung up".into() }),
            Err(status) => Err(CallError::Lost { address, why: status.to_string() }),
            Ok(()) => Err(CallError::Lost { address, why: "it took too long".into() }),
        }
    }

    async fn channel(&self, id: u64, to: &Replica) -> Result<Channel, CallError> {
        let known = |channels: &Channels| {
            channels.get(&(id, to.key)).filter(|(address, _)| address == &to.address).map(|(_, to)| to.clone())
        };
        if let Some(channel) = known(&self.inner.channels.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(channel);
        }
        let mut connecting = Some(self.inner.connector.connect(to, Lane::Calls));
        let once = service_fn(move |_: Uri| {
            let connecting = connecting.take();
            async move {
                let connecting = connecting.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
                let connected = timeout(CONNECT_WITHIN, connecting).await;
                connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_static("http://pingward.node")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect_with_connector(once)
            .await
            .map_err(|source| CallError::NotSent { address: to.address.clone(), source })?;
        let mut channels = self.inner.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.len() >= CHANNELS {
            channels.clear();
        }
        channels.insert((id, to.key), (to.address.clone(), channel.clone()));
        Ok(channel)
    }
}

fn readable<T>(to: &Replica, answer: Result<T, Malformed>) -> Result<T, CallError> {
    answer.map_err(|error| CallError::Lost { address: to.address.clone(), why: error.to_string() })
}

/// A broken connection is noticed before a call goes out on it: then a new one would be made, and there is none.
fn was_not_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::NotConnected;
        }
        source = error.source();
    }
    false
}
