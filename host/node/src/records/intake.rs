//! A super takes records that nodes hand on: it checks who vouches for them, and puts them through the log in batches
//! (PROTOCOLS 10.3, 10.4).
//!
//! Whoever hands on waits for its answer in its own stream: a flood fills its sender's window and nobody else's memory.
//! Signatures are checked here, once; the log takes what was checked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kernel::command::Command;
use kernel::id::NodeId;
use kernel::outcome::Reply;
use kernel::records::order::{Arrived, Order, Ordered};
use kernel::records::record::Forward;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wire::records::{Handed, HandedAnswer};

use super::lots::{Bounds, Lots};
use super::{Refused, header};
use crate::group::{Group, GroupError};
use crate::rest::problem::Problem;

/// Pieces that wait for a batch.
const QUEUE: usize = 256;
/// Batches of one super on their way at once, from their order to their seal. What comes meanwhile makes the next one fuller, and
/// a full batch costs everybody hardly more than an empty one.
const IN_FLIGHT: usize = 2;
/// One that is not sealed after this time, because too few validators are there, keeps the next ones waiting no longer.
const LINGER: Duration = Duration::from_millis(50);
/// Signatures are checked on so many threads at once.
const CHECKS: usize = 2;

/// The way in. Clones are the same.
#[derive(Clone, Debug)]
pub struct Intake {
    group: Group,
    queue: mpsc::Sender<Piece>,
    checks: Arc<Semaphore>,
}

/// Records of one forward that fit into one batch.
#[derive(Debug)]
struct Piece {
    forward: Arc<Forward>,
    records: Vec<Arrived>,
    bytes: usize,
    answer: oneshot::Sender<Result<Vec<Ordered>, Refused>>,
}

fn refused(code: &str, detail: impl Into<String>) -> Refused {
    (code.into(), detail.into())
}

impl Intake {
    /// An intake, and the work that is to run beside it until `stop`.
    pub fn new(group: Group, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, pieces) = mpsc::channel(QUEUE);
        let work = order_all(group.clone(), pieces, stop);
        (Self { group, queue, checks: Arc::new(Semaphore::new(CHECKS)) }, work)
    }

    /// Takes what a node hands on. The answer comes when it is durable.
    pub async fn take(&self, by: NodeId, handed: Handed) -> HandedAnswer {
        let call = handed.call;
        HandedAnswer { call, what: self.order(by, handed).await }
    }

    async fn order(&self, by: NodeId, handed: Handed) -> Result<Vec<Ordered>, Refused> {
        self.may_hand_on(&by)?;
        let (batch_records, batch_bytes) = self.group.read(|state| {
            (state.meta.settings.batch_records.max(1) as usize, state.meta.settings.batch_bytes as usize)
        });
        let (forward, arrived) = self.check(handed).await?;
        let forward = Arc::new(forward);
        let mut answers = Vec::new();
        let mut rest = VecDeque::from(arrived);
        while !rest.is_empty() {
            let (mut records, mut bytes) = (Vec::new(), 0);
            while let Some(next) = rest.front().map(|next| next.record.payload.len()) {
                if !records.is_empty() && (records.len() >= batch_records || bytes + next > batch_bytes) {
                    break;
                }
                bytes += next;
                records.extend(rest.pop_front());
            }
            let (answer, answered) = oneshot::channel();
            let piece = Piece { forward: Arc::clone(&forward), records, bytes, answer };
            self.queue.send(piece).await.map_err(|_| refused("stopping", "this super is stopping"))?;
            answers.push(answered);
        }
        let mut all = Vec::new();
        for answered in answers {
            all.extend(answered.await.map_err(|_| refused("stopping", "this super is stopping"))??);
        }
        Ok(all)
    }

    /// Only nodes of the cluster hand records on: keys are free.
    fn may_hand_on(&self, by: &NodeId) -> Result<(), Refused> {
        self.group.read(|state| {
            let member = state.members.get(by).map(|member| !member.hot.place.is_out());
            if member == Some(true) || state.validators.get(by).is_some() {
                return Ok(());
            }
            let why = "only followers in the queue and validators hand records on; a banned or unknown node does not";
            Err(refused("not_a_node", why))
        })
    }

    /// Checks the signatures and lines of all records.
    async fn check(&self, handed: Handed) -> Result<(Forward, Vec<Arrived>), Refused> {
        let cluster = self.group.read(|state| state.meta.cluster.clone());
        let now_ms = self.group.now_ms();
        let permit = Arc::clone(&self.checks).acquire_owned().await;
        let permit = permit.map_err(|_| refused("stopping", "this super is stopping"))?;
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let Handed { forward, records, .. } = handed;
            let forged = |why: String| refused("forged", why);
            let all: Vec<_> = records.iter().collect();
            let forwarded = forward.check(&cluster, &all).map_err(|why| forged(why.to_string()))?;
            if forwarded.expires_ms <= now_ms {
                return Err(refused("expired", "the forward has expired: check the forwarding node's clock"));
            }
            let arrived = records.into_iter().map(|record| {
                let header = header::read(&record, &cluster).map_err(|why| forged(why.to_string()))?;
                Ok(Arrived { record, forward: 0, expires_ms: header.expires_ms })
            });
            Ok((forward, arrived.collect::<Result<_, Refused>>()?))
        });
        checked.await.map_err(|_| refused("internal", "checking the records failed"))?
    }
}

/// Puts pieces into batches.
async fn order_all(group: Group, pieces: mpsc::Receiver<Piece>, stop: CancellationToken) {
    let mut lots = Lots::new(pieces, IN_FLIGHT, |piece| (piece.records.len(), piece.bytes));
    let bounds = || {
        group.read(|state| {
            let settings = &state.meta.settings;
            Bounds {
                records: usize::try_from(settings.batch_records).unwrap_or(usize::MAX),
                bytes: usize::try_from(settings.batch_bytes).unwrap_or(usize::MAX),
                wait: Duration::from_millis(settings.batch_ms),
            }
        })
    };
    while let Some(Some((pieces, way))) = stop.run_until_cancelled(lots.next(bounds)).await {
        let group = group.clone();
        tokio::spawn(async move {
            if let Some(batch) = order_one(&group, pieces).await {
                let _late = timeout(LINGER, sealed(&group, batch)).await;
            }
            drop(way);
        });
    }
}

/// Waits until a batch is sealed.
async fn sealed(group: &Group, batch: u64) {
    let mut applied = group.applied();
    while group.read(|state| state.known.pending.contains(&batch)) {
        if applied.changed().await.is_err() {
            return;
        }
    }
}

/// Orders the records of some pieces. Gives their batch, where there is a new one.
async fn order_one(group: &Group, pieces: Vec<Piece>) -> Option<u64> {
    let mut order = Order { now_ms: group.now_ms(), ..Order::default() };
    let mut answers = Vec::new();
    for Piece { forward, records, answer, .. } in pieces {
        let at = u16::try_from(order.forwards.len()).unwrap_or(u16::MAX);
        order.forwards.push(Arc::unwrap_or_clone(forward));
        answers.push((answer, records.len()));
        order.records.extend(records.into_iter().map(|arrived| Arrived { forward: at, ..arrived }));
    }
    let reply = group.propose(Command::Order(Box::new(order))).await;
    let mut batch = None;
    let mut told = match reply {
        Ok(Ok(Reply::Ordered(told))) => {
            // A record that was there before names an older one.
            let batches = told.iter().filter_map(|told| match told {
                Ordered::At { batch, .. } => Some(*batch),
                Ordered::Refused(_) => None,
            });
            batch = batches.max();
            Ok(told.into_iter())
        }
        Ok(Ok(_)) => Err(refused("internal", "the log answered something else")),
        // Of all of them at once: their number, under a setting that has just changed.
        Ok(Err(reject)) => Err(refused("refused", Problem::from(reject).words())),
        Err(GroupError::Unknown) => Err(refused("outcome_unknown", "no answer came in time: it may count or not")),
        Err(error) => Err(refused("no_leader", error.to_string())),
    };
    for (answer, count) in answers {
        let part = told.as_mut().map(|told| told.by_ref().take(count).collect());
        let _gone = answer.send(part.map_err(|refused| refused.clone()));
    }
    batch
}
