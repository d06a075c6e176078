//! One stream, from the hello to its end.

use std::time::Duration;

use kernel::id::RoundId;
use kernel::members::Refusal;
use kernel::standing::Standing;
use tokio::sync::{SemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use wire::codec::MESSAGE_BYTES;
use wire::convert;
use wire::message::{FromFollower, Hello, Own, Ping, Pong, Role, ToFollower, Welcome};
use wire::pb;
use wire::pb::node_client::NodeClient;
use wire::version;

use super::dial::{self, DialError};
use super::link::Shared;
use super::words;
use crate::config::PeerAddress;
use crate::known::KnownError;

/// Messages on their way to the super.
const OUT_ROOM: usize = 16;
/// For the answer to the hello: a join is a log entry, and a disk may be slow.
const WELCOME_WITHIN: Duration = Duration::from_secs(15);
/// However short rounds are: a change of leader is waited out.
const WELCOME_AT_LEAST: Duration = Duration::from_secs(2);
/// Until a welcome tells it.
const LONGEST_INTERVAL: Duration = Duration::from_secs(3_600);
/// For the super to take note of a goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);
/// A line about the points so often.
const POINTS_EVERY_ROUNDS: u64 = 10;

/// How a stream ended.
pub enum Ended {
    /// We were asked to stop, and said goodbye.
    Stopped,
    /// We hung up on purpose.
    Offline,
    /// Turned away, at the hello or later.
    Refused(Refusal),
    /// There was none.
    Unreachable(DialError),
    /// The super belongs to another cluster than this node.
    OtherCluster(KnownError),
    /// It broke off.
    Lost {
        /// What is known of the reason.
        why: String,
        /// We had been welcome.
        welcomed: bool,
    },
}

/// Says hello on a connection and stays until the stream ends.
/// `dialing` is given back when the answer to the hello is there.
pub async fn run(
    shared: &Shared,
    to: &PeerAddress,
    channel: Channel,
    port: u16,
    dialing: SemaphorePermit<'_>,
) -> Ended {
    let lost = |why: String| Ended::Lost { why, welcomed: false };
    let (out, from) = mpsc::channel(OUT_ROOM);
    let mut stream = Attached { shared, to, is_welcome: false, out };
    stream.say(FromFollower::Hello(hello(shared, port)));
    let mut client =
        NodeClient::new(channel).max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES);
    let opening = async {
        let mut inbound = client.attach(ReceiverStream::new(from)).await?.into_inner();
        let first = inbound.message().await?;
        Ok::<_, tonic::Status>((inbound, first))
    };
    // Where there is another super to ask, this one is not waited for as long.
    let has_others = shared.choose(|choice| choice.has_others());
    let within = if has_others { shared.patience().max(WELCOME_AT_LEAST) } else { WELCOME_WITHIN };
    let opened = tokio::select! {
        opened = timeout(within, opening) => opened,
        () = shared.stop.cancelled() => return Ended::Stopped,
    };
    let (mut inbound, first) = match opened {
        Ok(Ok((inbound, Some(first)))) => (inbound, first),
        Ok(Ok((_, None))) => return lost("the super hung up without an answer".into()),
        Ok(Err(status)) => return lost(said(&status)),
        Err(_) => return lost(format!("no answer to the hello within {} ms", within.as_millis())),
    };
    match convert::to_follower(first, shared.settings.key.id()) {
        Ok(ToFollower::Welcome(welcome)) => {
            if let Err(error) = stream.welcomed(welcome) {
                return Ended::OtherCluster(error);
            }
        }
        Ok(ToFollower::Refused(refusal)) => return Ended::Refused(refusal),
        Ok(ToFollower::Ping(_) | ToFollower::Pong { .. } | ToFollower::Own(_) | ToFollower::Alive) => {
            return lost("the super answered the hello with something else".into());
        }
        Err(malformed) => return lost(format!("the super speaks another language: {malformed}")),
    }
    drop(dialing);
    stream.stay(&mut inbound).await
}

fn hello(shared: &Shared, port: u16) -> Hello {
    let settings = &shared.settings;
    let faults = settings.faults.now();
    Hello {
        cluster: settings.known.cluster().map_or_else(|| settings.cluster.clone(), |known| known.to_string()),
        role: Role::Follower,
        name: settings.name.clone(),
        version: faults.version.unwrap_or(version::OURS),
        software: version::SOFTWARE.to_owned(),
        port: faults.port.unwrap_or(port),
        rest: settings.rest.clone(),
    }
}

/// A stream on which the hello was said.
struct Attached<'a> {
    shared: &'a Shared,
    to: &'a PeerAddress,
    is_welcome: bool,
    out: mpsc::Sender<pb::FromFollower>,
}

impl Attached<'_> {
    /// Never waits: what does not get through now would be too late.
    fn say(&self, what: FromFollower) {
        if let Some(message) = convert::from_follower_pb(what)
            && self.out.try_send(message).is_err()
        {
            tracing::debug!("the super does not read");
        }
    }

    fn welcomed(&mut self, welcome: Welcome) -> Result<(), KnownError> {
        let shared = self.shared;
        shared.settings.known.learn_cluster(&welcome.cluster)?;
        shared.interval.send_replace(Some(Duration::from_millis(welcome.interval_ms)));
        let was_out = shared.view.borrow().refused.is_some();
        shared.choose(|choice| choice.welcomed(self.to, &welcome));
        let (address, interval_ms) = (dial::address(self.to), welcome.interval_ms);
        if std::mem::replace(&mut self.is_welcome, true) {
            tracing::debug!(address, interval_ms, "the super says what is new");
        } else {
            tracing::info!(address, cluster = %welcome.cluster, interval_ms, "attached: pinged once in each round");
        }
        shared.view.send_modify(|view| {
            view.cluster = Some(welcome.cluster);
            view.leader = welcome.leader;
            view.set_version = welcome.set_version;
            view.refused = None;
            view.failed = None;
        });
        if let Some(policies) = welcome.policies {
            shared.learn(policies, welcome.interval_ms);
        }
        if was_out {
            self.say(FromFollower::Return);
        }
        Ok(())
    }

    async fn stay(mut self, inbound: &mut Streaming<pb::ToFollower>) -> Ended {
        let lost = |why: String| Ended::Lost { why, welcomed: true };
        let (mut heard, mut asked) = (Instant::now(), None::<Instant>);
        loop {
            let interval = self.shared.interval.borrow().unwrap_or(LONGEST_INTERVAL);
            let due = asked.map_or(heard + interval / 2, |asked| asked + interval / 4 * 3);
            let next = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return self.leave(inbound).await,
                next = inbound.message() => next,
                () = sleep_until(due) => {
                    if asked.is_none() {
                        self.say(FromFollower::Alive);
                    } else if self.shared.choose(|choice| choice.has_others()) {
                        return lost("the super says nothing any more".into());
                    }
                    // Where there is no other one, it is asked again.
                    asked = Some(Instant::now());
                    continue;
                }
            };
            (heard, asked) = (Instant::now(), None);
            let message = match next {
                Ok(Some(message)) => message,
                Ok(None) => return lost("the super closed it".into()),
                Err(status) => return lost(said(&status)),
            };
            match convert::to_follower(message, self.shared.settings.key.id()) {
                Ok(ToFollower::Ping(ping)) => self.answer(ping),
                Ok(ToFollower::Own(own)) => self.told(own),
                // It answers a ping of ours; the super's word for it is the next line about us. Or it is there.
                Ok(ToFollower::Pong { .. } | ToFollower::Alive) => {}
                // Settings, the supers, the leader or the rules changed.
                Ok(ToFollower::Welcome(welcome)) => {
                    if let Err(error) = self.welcomed(welcome) {
                        return Ended::OtherCluster(error);
                    }
                }
                Ok(ToFollower::Refused(refusal)) => return Ended::Refused(refusal),
                Err(malformed) => return lost(format!("the super speaks another language: {malformed}")),
            }
        }
    }

    fn answer(&self, ping: Ping) {
        let settings = &self.shared.settings;
        let faults = settings.faults.now();
        if faults.mute {
            return;
        }
        self.say(FromFollower::Pong(Pong {
            round: ping.round,
            term: ping.term,
            nonce: ping.nonce,
            version: faults.version.unwrap_or(version::OURS),
            data: self.shared.uptime_s(),
            address: settings.address.clone(),
        }));
    }

    /// A line about ourselves: kept for the API; said where something changed.
    fn told(&self, own: Own) {
        let told = &own.told;
        let (stood, warned, round) = {
            let view = self.shared.view.borrow();
            let last = view.own.as_ref();
            (
                last.map_or(Standing::Good, |last| last.told.standing),
                last.and_then(|last| last.warning.clone()),
                last.map_or(RoundId(0), |last| last.told.round),
            )
        };
        // Two supers tell the same; a slow one tells what is over.
        if told.round < round {
            return;
        }
        let (at, earned, wallet) = (told.round.0, told.earned.0, told.wallet.0);
        if told.standing != stood {
            let text = words::standing(&own);
            if told.standing.is_out() || told.standing == Standing::Warned {
                tracing::warn!(round = at, standing = %told.standing, earned, "{text}");
            } else {
                tracing::info!(round = at, standing = %told.standing, earned, "{text}");
            }
        }
        if let Some(warning) = own.warning.as_ref().filter(|warning| Some(*warning) != warned.as_ref()) {
            tracing::warn!(round = at, "{warning}");
        }
        if told.round != round && at % POINTS_EVERY_ROUNDS == 0 {
            tracing::info!(round = at, standing = %told.standing, earned, wallet, "points");
        }
        if told.standing == Standing::Suspended && told.until.is_none_or(|until| until <= told.round) {
            self.say(FromFollower::Return);
        }
        self.shared.view.send_modify(|view| view.own = Some(own));
    }

    /// Says goodbye and waits until the super has read it.
    async fn leave(self, inbound: &mut Streaming<pb::ToFollower>) -> Ended {
        self.say(FromFollower::Goodbye);
        drop(self.out);
        let read = async { while let Ok(Some(_)) = inbound.message().await {} };
        if timeout(GOODBYE_WITHIN, read).await.is_ok() {
            tracing::info!("said goodbye: out of the queue at the next settlement, without a strike");
        } else {
            tracing::warn!("the super did not take note of the goodbye in time");
        }
        Ended::Stopped
    }
}

/// The reason of a broken stream: the super's own words, where it is not the connection that broke.
fn said(status: &tonic::Status) -> String {
    if let Some(cause) = std::error::Error::source(status) {
        tracing::debug!(%status, cause, "the connection broke");
        return "the connection broke: that super, or the way to it, is gone".into();
    }
    if status.message().is_empty() { status.code().description().to_owned() } else { status.message().to_owned() }
}
