//! Load: clients that claim into wallets and read them, from any super, and write down what they were told and when.
//!
//! A claim whose end is unknown is sent again with the same content, to any super, until it is known: then it is one
//! operation, from its first call to its last answer. Some are left alone instead, and stay without an answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use http::Method;
use kernel::envelope::CLAIM_TYPE;
use node::client::Api;
use node::keys::NodeKey;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use crate::dice::Dice;
use crate::linear::{Operation, check};
use crate::supers::get;
use crate::wallet::{Answer, Call, Wallet};

/// Clients.
const CLIENTS: usize = 8;
/// Wallets: each one is an object whose history is checked.
const WALLETS: usize = 8;
/// Nodes that claim into a wallet, at most.
const CLAIMERS: usize = 8;
/// A client's rest between two operations.
const REST: Duration = Duration::from_millis(15);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(20);
/// For an answer; the super that was asked may be stopped.
const ANSWER: Duration = Duration::from_secs(2);
/// A write that has no answer by then has failed.
const FAILED: Duration = Duration::from_secs(60);
/// One in so many claims without an answer is left alone.
const LEFT_ALONE: u64 = 8;
/// Long enough for every attempt.
const EXPIRES: Duration = Duration::from_secs(600);

type Row = Operation<Call, Answer>;

/// A wallet's owner is the first of its claimers.
struct Object {
    keys: Vec<NodeKey>,
    history: Mutex<Vec<Row>>,
}

struct Shared {
    began: Instant,
    cluster: String,
    objects: Vec<Object>,
    supers: Mutex<Vec<Api>>,
    /// Held to read by whoever asks; held to write, nobody does.
    gate: RwLock<()>,
    stop: AtomicBool,
    /// When paid claims were called and answered, µs.
    paid: Mutex<Vec<(u64, u64)>>,
    wrong: Mutex<Vec<String>>,
    retries: AtomicU64,
    lost_reads: AtomicU64,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

/// What the clients did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Operations with an answer.
    pub answered: usize,
    /// Claims that were left alone.
    pub unanswered: usize,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Reads that nobody answered: they count for nothing.
    pub lost_reads: u64,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts the clients. `keys` are members that have earned something; `cluster` is `id#genesis`.
    #[must_use]
    pub fn start(cluster: &str, keys: &[NodeKey], supers: Vec<Api>, seed: u64) -> Self {
        let wallets = WALLETS.min(keys.len()).max(1);
        let claimers = (keys.len() / wallets).clamp(1, CLAIMERS);
        let objects = keys.chunks(claimers).take(wallets);
        let objects = objects.map(|keys| Object { keys: keys.to_vec(), history: Mutex::default() });
        let shared = Arc::new(Shared {
            began: Instant::now(),
            cluster: cluster.into(),
            objects: objects.collect(),
            supers: Mutex::new(supers),
            gate: RwLock::new(()),
            stop: AtomicBool::new(false),
            paid: Mutex::default(),
            wrong: Mutex::default(),
            retries: AtomicU64::new(0),
            lost_reads: AtomicU64::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            // A claimer belongs to one client, so its sequences rise.
            let mut own = Vec::new();
            for (object, of) in shared.objects.iter().enumerate() {
                own.extend((0..of.keys.len()).map(|claimer| Claimer { object, claimer, next: 1 }));
            }
            let own: Vec<Claimer> = own.into_iter().skip(number).step_by(CLIENTS).collect();
            let dice = Dice::new(seed.wrapping_add(number as u64));
            let client = Client { name: format!("client-{number}"), shared: Arc::clone(&shared), own, dice };
            clients.spawn(client.run());
        }
        Self { shared, clients }
    }

    /// µs of the history's clock.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.shared.now_us()
    }

    /// The supers that are asked from now on.
    pub fn asks(&self, supers: Vec<Api>) {
        *held(&self.shared.supers) = supers;
    }

    /// The first claim that was called after a moment and paid: when it was answered, µs. `None` so far.
    #[must_use]
    pub fn first_paid_after(&self, us: u64) -> Option<u64> {
        let paid = held(&self.shared.paid);
        // The latest stand at the end; those of before the moment that are answered later are a handful.
        let late = paid.iter().rev().take_while(|(_, answered)| *answered >= us);
        late.filter(|(called, _)| *called >= us).map(|(_, answered)| *answered).min()
    }

    /// Runs something while nobody asks.
    pub async fn quiet<T>(&self, work: impl Future<Output = T>) -> T {
        let _closed = self.shared.gate.write().await;
        work.await
    }

    /// Operations so far.
    #[must_use]
    pub fn done(&self) -> Done {
        let mut done = Done {
            retries: self.shared.retries.load(Ordering::Relaxed),
            lost_reads: self.shared.lost_reads.load(Ordering::Relaxed),
            ..Done::default()
        };
        for object in &self.shared.objects {
            let history = held(&object.history);
            let answered = history.iter().filter(|row| row.answered.is_some()).count();
            done.answered += answered;
            done.unanswered += history.len() - answered;
        }
        done
    }

    /// Stops the clients; asks all wallets once more; gives all that is wrong.
    ///
    /// # Errors
    /// A client broke, or nobody answers any more.
    pub async fn finish(&mut self) -> Result<Vec<String>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        let mut wrong = held(&self.shared.wrong).clone();
        let apis = held(&self.shared.supers).clone();
        for (number, object) in self.shared.objects.iter().enumerate() {
            for api in &apis {
                let row = self.shared.balance("the end", object, api).await.context("a wallet at the end")?;
                held(&object.history).push(row);
            }
            let history = held(&object.history).clone();
            if let Err(error) = check(&Wallet { claimers: object.keys.len() }, &history) {
                wrong.push(format!("wallet {number}: {error}"));
            }
            let api = apis.first().context("nobody to ask")?;
            wrong.extend(lines(object, &history, api).await?.map(|line| format!("wallet {number}: {line}")));
        }
        Ok(wrong)
    }
}

/// Whether the ledger has each paid claim of a wallet once, and no others than those whose end is unknown.
async fn lines(object: &Object, history: &[Row], api: &Api) -> Result<Option<String>> {
    let key = object.keys.first().context("a wallet has an owner")?.id();
    let account = format!("wallet:{key}");
    let (mut count, mut points, mut after) = (0, 0, Some(String::from("0")));
    while let Some(place) = after {
        let page = get(api, &format!("/v1/accounts/{key}/entries?limit=1000&after={place}")).await?;
        let entries = page["entries"].as_array().context("entries")?;
        let claims = entries.iter().filter(|entry| entry["kind"] == "claim" && entry["to"] == account);
        for claim in claims {
            count += 1;
            points += claim["points"].as_i64().context("points")?;
        }
        after = page["next"].as_str().map(str::to_owned);
    }
    let is_claim = |row: &&Row| matches!(row.call, Call::Claim { .. });
    let claims = history.iter().filter(is_claim);
    let paid = claims.clone().filter(|row| matches!(row.answered, Some((Answer::Paid(_), _)))).count();
    let unknown = claims.filter(|row| row.answered.is_none()).count();
    let balance = history.iter().rev().find_map(|row| match row.answered {
        Some((Answer::Balance(balance), _)) => Some(balance),
        _ => None,
    });
    let is_right = (paid..=paid + unknown).contains(&count) && Some(points) == balance;
    Ok((!is_right).then(|| {
        format!(
            "its ledger has {count} claims of {points} points; {paid} were paid, {unknown} have no known end, and it holds \
             {balance:?}"
        )
    }))
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn account(&self, key: &NodeKey, api: &Api) -> Option<Value> {
        let route = format!("/v1/accounts/{}?read=linearizable", key.id());
        tokio::time::timeout(ANSWER, api.get(&route)).await.ok()?.ok()
    }

    async fn balance(&self, by: &str, object: &Object, api: &Api) -> Option<Row> {
        let called_us = self.now_us();
        let balance = self.account(object.keys.first()?, api).await?["wallet"].as_i64()?;
        let answered = Some((Answer::Balance(balance), self.now_us()));
        Some(Operation { by: format!("{by} at {}", api.shown()), call: Call::Balance, called_us, answered })
    }

    async fn next(&self, by: &str, object: &Object, claimer: usize, api: &Api) -> Option<Row> {
        let called_us = self.now_us();
        let next = self.account(object.keys.get(claimer)?, api).await?["next_sequence"].as_u64()?;
        let answered = Some((Answer::Next(next), self.now_us()));
        let call = Call::Next { claimer };
        Some(Operation { by: format!("{by} at {}", api.shown()), call, called_us, answered })
    }
}

/// A node that claims.
#[derive(Clone, Copy)]
struct Claimer {
    object: usize,
    claimer: usize,
    next: u64,
}

struct Client {
    name: String,
    shared: Arc<Shared>,
    own: Vec<Claimer>,
    dice: Dice,
}

/// How an attempt at a claim ended.
enum Attempt {
    Answer(Answer),
    /// Nothing was done, and nothing will be.
    Nothing,
    /// The key claimed too often in this round.
    SlowDown,
    /// It may have been done, or be done later.
    Unknown,
    Wrong(String),
}

impl Client {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while !shared.stop.load(Ordering::Relaxed) {
            let asking = shared.gate.read().await;
            match self.dice.below(10) {
                0..5 if !self.own.is_empty() => self.claim().await,
                0..8 => self.read(false).await,
                _ => self.read(true).await,
            }
            drop(asking);
            tokio::time::sleep(REST).await;
        }
    }

    fn api(&mut self) -> Option<Api> {
        let supers = held(&self.shared.supers);
        let at = self.dice.below(supers.len());
        supers.get(at).cloned()
    }

    async fn read(&mut self, next: bool) {
        let at = self.dice.below(self.shared.objects.len());
        let (Some(api), Some(object)) = (self.api(), self.shared.objects.get(at)) else { return };
        let claimer = self.dice.below(object.keys.len());
        let row = if next {
            self.shared.next(&self.name, object, claimer, &api).await
        } else {
            self.shared.balance(&self.name, object, &api).await
        };
        match row {
            Some(row) => held(&object.history).push(row),
            None => drop(self.shared.lost_reads.fetch_add(1, Ordering::Relaxed)),
        }
    }

    async fn claim(&mut self) {
        let at = self.dice.below(self.own.len());
        let Some(Claimer { object: of, claimer, next: sequence }) = self.own.get(at).copied() else { return };
        let shared = Arc::clone(&self.shared);
        let Some(object) = shared.objects.get(of) else { return };
        let amount = 1 + self.dice.below(3) as i64;
        let Some(body) = signed(&shared.cluster, object, claimer, sequence, amount) else { return };
        let (since, called_us) = (Instant::now(), shared.now_us());
        let mut is_open = false;
        let answered = loop {
            let Some(api) = self.api() else { return };
            match attempt(&api, &body).await {
                Attempt::Answer(answer) => break Some((answer, shared.now_us())),
                // Its sequence is as it was: nothing happened.
                Attempt::SlowDown if !is_open => return,
                Attempt::Nothing | Attempt::SlowDown => {}
                Attempt::Unknown => is_open = true,
                Attempt::Wrong(why) => {
                    held(&shared.wrong).push(format!("{} was to be paid {amount}: {why}", self.name));
                    break None;
                }
            }
            if is_open && self.dice.below(LEFT_ALONE as usize) == 0 {
                break None;
            }
            if since.elapsed() > FAILED {
                held(&shared.wrong).push(format!("{}: a claim got no answer in {} s", self.name, FAILED.as_secs()));
                break None;
            }
            shared.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(AGAIN).await;
        };
        if let Some((Answer::Paid(_), us)) = answered {
            held(&shared.paid).push((called_us, us));
        }
        let call = Call::Claim { claimer, sequence, amount };
        held(&object.history).push(Operation { by: self.name.clone(), call, called_us, answered });
        if let Some(own) = self.own.get_mut(at) {
            own.next += 1;
        }
    }
}

/// A claim into a wallet, signed by the claimer: the same bytes however often it is sent.
fn signed(cluster: &str, object: &Object, claimer: usize, sequence: u64, amount: i64) -> Option<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let expires_ms = u64::try_from((now + EXPIRES).as_millis()).ok()?;
    let to = object.keys.first()?.id().to_string();
    let payload = json!({
        "cluster": cluster, "sequence": sequence, "expires_ms": expires_ms, "amount": amount, "to": to,
    });
    let envelope = object.keys.get(claimer)?.envelope(CLAIM_TYPE, payload.to_string().as_bytes());
    serde_json::to_value(envelope).ok()
}

async fn attempt(api: &Api, body: &Value) -> Attempt {
    let Ok(answered) = tokio::time::timeout(ANSWER, api.send(Method::POST, "/v1/claims", body)).await else {
        return Attempt::Unknown;
    };
    match answered {
        Ok(paid) => match paid["wallet"].as_i64() {
            Some(wallet) => Attempt::Answer(Answer::Paid(wallet)),
            None => Attempt::Wrong(format!("an answer without a balance: {paid}")),
        },
        Err(failure) => match failure.code.as_deref() {
            Some("stale_sequence") => Attempt::Answer(Answer::Stale),
            Some("slow_down") => Attempt::SlowDown,
            Some("no_leader" | "not_in_group" | "starting") => Attempt::Nothing,
            Some(
                "overclaim" | "nothing_to_pay" | "bad_payload" | "bad_signature" | "wrong_cluster" | "unknown_node",
            ) => Attempt::Wrong(failure.to_string()),
            // No code: no answer, or none that could be read.
            Some(_) | None => Attempt::Unknown,
        },
    }
}
