//! A follower or validator takes users' records in and hands them to a super (PROTOCOLS 10.2, 10.3).
//!
//! Records that come within a moment go under one signature. A super that dies or does not answer costs a retry with
//! another one: a record is named by its digest, so it gets one place however often it is handed on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::envelope::FORWARD_TYPE;
use kernel::id::ClusterId;
use kernel::limits::FORWARD_RECORDS;
use kernel::records::order::Ordered;
use kernel::records::record::{Forward, Forwarded, Record};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use wire::pb;
use wire::pb::intake_client::IntakeClient;
use wire::records::{self, Handed};

use super::Refused;
use super::lots::{Bounds, Lots};
use super::validator::Way;
use crate::config::PeerAddress;

/// Records that wait to be handed on; past it whoever hands in waits, and then is told to come again.
const QUEUE: usize = 2_048;
/// Bytes of one forward.
const FORWARD_BYTES: usize = 1 << 20;
/// While forwards are under way the next one waits so long to become fuller.
const GATHER: Duration = Duration::from_millis(2);
/// Forwards under way at once.
const IN_FLIGHT: usize = 2;
/// A super has so long for an answer before another one is asked.
const ANSWER: Duration = Duration::from_secs(3);
/// Whoever handed in is answered within this time, if only with "not known".
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(100);
/// A forward lives so long: it is handed on within moments.
const FORWARD_MS: u64 = 10 * 60 * 1_000;

/// The way in. Clones are the same.
#[derive(Clone, Debug)]
pub struct Ingress {
    queue: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    record: Record,
    answer: oneshot::Sender<Result<Ordered, Refused>>,
}

/// Where records go: the supers, the one that leads first.
pub type Supers = watch::Receiver<Vec<PeerAddress>>;

impl Ingress {
    /// An ingress, and the work that is to run beside it until `stop`.
    pub fn new(way: Way, supers: Supers, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let link = Arc::new(Link { way, supers, current: tokio::sync::Mutex::new(None), turn: Mutex::new(0) });
        (Self { queue }, hand_on(link, jobs, stop))
    }

    /// Hands a record on, whose author's signature was checked. The answer comes when its place is durable.
    ///
    /// # Errors
    /// A word and a text.
    pub async fn take(&self, record: Record) -> Result<Ordered, Refused> {
        let (answer, answered) = oneshot::channel();
        let busy = || ("busy".to_owned(), "as many records wait here as this node holds; try again".to_owned());
        match timeout(ANSWER, self.queue.send(Job { record, answer })).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(("stopping".into(), "this node is stopping".into())),
            Err(_) => return Err(busy()),
        }
        match timeout(PATIENCE + ANSWER, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err((
                "outcome_unknown".into(),
                "no super answered in time: the record may have its place or not".into(),
            )),
        }
    }
}

async fn hand_on(link: Arc<Link>, jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
    let mut lots = Lots::new(jobs, IN_FLIGHT, |job| (1, job.record.payload.len()));
    let bounds = || Bounds { records: FORWARD_RECORDS, bytes: FORWARD_BYTES, wait: GATHER };
    while let Some(Some((lot, way))) = stop.run_until_cancelled(lots.next(bounds)).await {
        let link = Arc::clone(&link);
        tokio::spawn(async move {
            link.deliver(lot).await;
            drop(way);
        });
    }
}

/// The way to a super.
struct Link {
    way: Way,
    supers: Supers,
    current: tokio::sync::Mutex<Option<Arc<Open>>>,
    turn: Mutex<usize>,
}

/// A stream to a super.
struct Open {
    cluster: ClusterId,
    out: mpsc::Sender<pb::ForwardRecords>,
    waiting: Arc<Mutex<Waiting>>,
    broken: CancellationToken,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    calls: BTreeMap<u64, oneshot::Sender<Result<Vec<Ordered>, Refused>>>,
}

impl Link {
    /// Delivers records, with as many attempts as there is time for.
    async fn deliver(&self, batch: Vec<Job>) {
        let deadline = Instant::now() + PATIENCE;
        let (records, answers): (Vec<Record>, Vec<_>) = batch.into_iter().map(|job| (job.record, job.answer)).unzip();
        let mut last: Refused = ("no_super".into(), "no super can be reached".into());
        let told = loop {
            if Instant::now() >= deadline {
                break Err(last);
            }
            match self.attempt(&records).await {
                Ok(answers) => break Ok(answers),
                // Nobody leads just now, or it is unknown what became of it: the same again is harmless.
                Err(Tried::Again(why)) => last = why,
                Err(Tried::Refused(why)) => break Err(why),
            }
            sleep(AGAIN).await;
        };
        match told {
            Ok(told) => {
                for (answer, ordered) in answers.into_iter().zip(told) {
                    let _gone = answer.send(Ok(ordered));
                }
            }
            Err(why) => {
                for answer in answers {
                    let _gone = answer.send(Err(why.clone()));
                }
            }
        }
    }

    async fn attempt(&self, records: &[Record]) -> Result<Vec<Ordered>, Tried> {
        let open = self.open().await.map_err(|why| Tried::Again(("no_super".into(), why)))?;
        let forward = self.forward(&open.cluster, records)?;
        let (answer, answered) = oneshot::channel();
        let call = {
            let mut waiting = open.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.next += 1;
            let call = waiting.next;
            waiting.calls.insert(call, answer);
            call
        };
        let handed = records::handed_pb(&Handed { call, forward, records: records.to_vec() });
        let unknown = || Tried::Again(("outcome_unknown".into(), "the super went before it answered".into()));
        if open.out.send(handed).await.is_err() {
            open.broken.cancel();
            return Err(unknown());
        }
        match timeout(ANSWER, answered).await {
            Ok(Ok(Ok(told))) if told.len() == records.len() => Ok(told),
            Ok(Ok(Ok(_))) => Err(Tried::Refused(("internal".into(), "the super answered for other records".into()))),
            Ok(Ok(Err((code, detail)))) => {
                let again =
                    ["no_leader", "outcome_unknown", "stopping", "not_a_node", "refused"].contains(&code.as_str());
                if again {
                    // Another super may do better.
                    open.broken.cancel();
                }
                Err(if again { Tried::Again((code, detail)) } else { Tried::Refused((code, detail)) })
            }
            Ok(Err(_)) => Err(unknown()),
            Err(_) => {
                open.broken.cancel();
                Err(unknown())
            }
        }
    }

    fn forward(&self, cluster: &ClusterId, records: &[Record]) -> Result<Forward, Tried> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)
            .map_err(|error| Tried::Refused(("internal".into(), format!("no randomness: {error}"))))?;
        let digests = records.iter().map(Record::digest).collect();
        let expires_ms = now_ms().saturating_add(FORWARD_MS);
        let forwarded = Forwarded { cluster: cluster.clone(), nonce, expires_ms, digests };
        // Writing to memory does not fail.
        let payload = forwarded.payload();
        let signature = self.way.key.sign(FORWARD_TYPE, &payload);
        Ok(Forward { ingress: self.way.key.id(), payload, signature })
    }

    /// The stream that is open, or a new one to the next super.
    async fn open(&self) -> Result<Arc<Open>, String> {
        let mut current = self.current.lock().await;
        if let Some(open) = current.as_ref().filter(|open| !open.broken.is_cancelled()) {
            return Ok(Arc::clone(open));
        }
        *current = None;
        let supers = self.supers.borrow().clone();
        let turn = {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let now = *turn;
            *turn = turn.wrapping_add(1);
            now
        };
        let to = supers.get(turn.checked_rem(supers.len()).unwrap_or(0)).ok_or("no super is known here yet")?;
        let open = Arc::new(self.connect(to).await?);
        *current = Some(Arc::clone(&open));
        Ok(open)
    }

    async fn connect(&self, to: &PeerAddress) -> Result<Open, String> {
        let cluster = self.way.known.cluster().ok_or("this node was welcome at no super yet")?;
        let (channel, _) = self.way.to(to).await?;
        let mut client = IntakeClient::new(channel)
            .max_decoding_message_size(records::MESSAGE_BYTES)
            .max_encoding_message_size(records::MESSAGE_BYTES);
        let (out, outbound) = mpsc::channel(IN_FLIGHT);
        let answer = timeout(ANSWER, client.forward(ReceiverStream::new(outbound))).await;
        let answer = answer.map_err(|_| "no answer in time".to_owned())?;
        let mut inbound = answer.map_err(|status| status.message().to_owned())?.into_inner();
        let open = Open { cluster, out, waiting: Arc::default(), broken: CancellationToken::new() };
        let (waiting, broken) = (Arc::clone(&open.waiting), open.broken.clone());
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = broken.cancelled() => break,
                    message = inbound.message() => message,
                };
                let Ok(Some(message)) = message else { break };
                let Ok(told) = records::handed_answer(message) else { break };
                let call = waiting.lock().unwrap_or_else(PoisonError::into_inner).calls.remove(&told.call);
                if let Some(answer) = call {
                    let _gone = answer.send(told.what);
                }
            }
            // Whoever waits for an answer asks elsewhere.
            broken.cancel();
            waiting.lock().unwrap_or_else(PoisonError::into_inner).calls.clear();
        });
        Ok(open)
    }
}

enum Tried {
    Again(Refused),
    Refused(Refused),
}

/// ms since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
