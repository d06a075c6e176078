//! A whole cluster in one process: a super, followers, and some that misbehave so that the rules can be watched at work.
//!
//! Everything is real: the nodes speak gRPC over TLS on loopback, the rules are the components that a cluster on many
//! machines runs, and claims go through the REST API. Only the disks are in memory, unless a folder is named.
//!
//! What is shown is read from the super as any watcher reads it; the script of the flaky followers and the console are
//! the only hands in it.

mod cluster;
mod console;
mod screen;
mod script;
mod tally;
mod user;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kernel::command::Operation;
use kernel::decide::Slot;
use kernel::id::NodeId;
use kernel::outcome::Notice;
use policy::Compiler;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::printable;
use crate::config::PolicySource;
use crate::failure::Failure;

use cluster::Cluster;
pub use cluster::source;
use console::Order;
use screen::Screen;
use script::{Act, Flaky, Seen};
use tally::Tally;
use user::User;

/// What the demo is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Supers.
    pub supers: u16,
    /// Validators.
    pub validators: u16,
    /// Followers.
    pub followers: u16,
    /// How many of them play the script.
    pub flaky: u16,
    /// Length of a round.
    pub round_ms: u64,
    /// Where the super's REST listens.
    pub rest: SocketAddr,
    /// When to end by itself.
    pub duration: Option<Duration>,
    /// Rules instead of the default ones.
    pub policies: Vec<(Slot, PolicySource)>,
    /// Where to keep everything; in memory without it.
    pub data_dir: Option<PathBuf>,
    /// How the super compiles components of others.
    pub compiler: Compiler,
}

/// Rounds of the script's steps are counted by settled rounds; this is how often the screen is drawn besides.
const REDRAW: Duration = Duration::from_millis(500);

/// Runs the demo until its time is over, `quit`, or a signal.
///
/// # Errors
/// A failure with its cure when the cluster cannot start or cannot go on.
pub async fn run(options: Options) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let end = options.duration.map(|duration| tokio::time::Instant::now() + duration);
    let mut cluster = Box::pin(Cluster::start_super(&options)).await?;
    let screen = Screen::new(io::stdout().is_terminal());
    screen.first(&cluster.rest_url())?;
    let starting = async {
        Box::pin(cluster.start_supers(&options)).await?;
        Box::pin(cluster.start_validators(&options)).await?;
        cluster.start_followers(&options).await
    };
    let started = tokio::select! {
        started = starting => started.map(|()| true),
        () = signals.ended() => Ok(false),
    };
    if !matches!(started, Ok(true)) {
        let stopped = cluster.stop().await;
        // Why it did not begin says more than how it ended.
        return started.and(stopped);
    }
    let mut demo = Demo {
        flaky: cluster.flaky().into_iter().enumerate().map(|(at, name)| Flaky::new(name, at)).collect(),
        cluster,
        screen,
        tally: Tally::default(),
        swaps: JoinSet::new(),
        user: User::new()?,
    };
    let played = Box::pin(demo.play(end, &mut signals)).await;
    let Demo { cluster, mut screen, tally, .. } = demo;
    screen.leave();
    let stopped = cluster.stop().await;
    screen.last(&tally.summary())?;
    played.and(stopped)
}

struct Demo {
    cluster: Cluster,
    screen: Screen,
    tally: Tally,
    flaky: Vec<Flaky>,
    /// Rules that are being checked and compiled: the screen and the script go on meanwhile.
    swaps: JoinSet<Result<String, Failure>>,
    /// Hands records in, one in each round.
    user: User,
}

impl Demo {
    async fn play(&mut self, end: Option<tokio::time::Instant>, signals: &mut Signals) -> Result<(), Failure> {
        self.screen.say(&self.cluster.greeting())?;
        self.draw(true)?;
        let mut orders = console::read();
        let mut notices = self.cluster.notices();
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            let over = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            // Who leads knows most; who is killed says nothing.
            if notices.as_ref().map(|(of, _)| *of) != self.cluster.teller() {
                notices = self.cluster.notices();
            }
            tokio::select! {
                () = over => return Ok(()),
                () = signals.ended() => return Ok(()),
                notice = next_notice(&mut notices) => match notice {
                    Ok(notice) => self.seen(&notice).await?,
                    // Whatever was missed can be read again from the table.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => notices = self.cluster.notices(),
                },
                order = next(&mut orders) => match order {
                    Some(Ok(Order::Quit)) => return Ok(()),
                    Some(Ok(order)) => {
                        self.screen.typed();
                        let said = Box::pin(self.obey(order)).await;
                        self.screen.say(&said)?;
                    }
                    Some(Err(wrong)) => {
                        self.screen.typed();
                        self.screen.say(&wrong)?;
                    }
                    // A console that is closed ends alone.
                    None => orders = None,
                },
                Some(Ok(done)) = self.swaps.join_next() => self.screen.say(&words(done))?,
                why = self.cluster.failed() => {
                    return Err(Failure::new(format!("a super cannot go on: {why}"), "the log above says more; start the demo again"));
                }
                _ = redraw.tick() => self.draw(false)?,
            }
        }
    }

    async fn seen(&mut self, notice: &Arc<Notice>) -> Result<(), Failure> {
        let tally = &mut self.tally;
        let lines = self.cluster.read(|state| tally.take(notice, state));
        for line in lines.into_iter().flatten() {
            self.screen.say(&line)?;
        }
        if let Notice::Round(_) = **notice {
            self.draw(false)?;
            self.user.write(&self.cluster);
            self.step().await?;
        }
        Ok(())
    }

    /// One step of the script for each flaky follower that runs.
    async fn step(&mut self) -> Result<(), Failure> {
        let mut acts = Vec::new();
        for flaky in &mut self.flaky {
            let Some(key) = self.cluster.key_of(flaky.name()) else { continue };
            let is_up = self.cluster.is_up(flaky.name());
            let seen = self.cluster.read(|state| {
                let member = state.members.get(&key)?;
                Some(Seen {
                    standing: member.hot.standing,
                    earned: member.hot.earned.0,
                    is_queued: member.hot.place.is_queued(),
                })
            });
            if let Some(seen) = seen.flatten().filter(|_| is_up)
                && let Some(act) = flaky.step(seen)
            {
                acts.push((flaky.name().to_string(), act));
            }
        }
        for (name, act) in acts {
            self.act(&name, act).await?;
        }
        Ok(())
    }

    async fn act(&mut self, name: &str, act: Act) -> Result<(), Failure> {
        match act {
            Act::FallSilent => {
                self.cluster.silence(name, true);
                self.screen
                    .say(&format!("script      {name} stops answering: expect a warning, a suspension, then a ban"))
            }
            Act::Return { banned } => {
                self.cluster.silence(name, false);
                let what =
                    if banned { "wants to come back: it is refused until its ban is over" } else { "answers again" };
                self.screen.say(&format!("script      {name} {what}"))
            }
            Act::Overclaim => {
                self.screen.say(&format!("script      {name} claims more than it earned"))?;
                self.claim(name, Some(script::EXCESS)).await
            }
            Act::ClaimAll => {
                self.screen.say(&format!("script      {name} claims what it earned"))?;
                self.claim(name, None).await
            }
        }
    }

    /// What became of the claim comes as a notice; only what the API refuses otherwise is said here.
    async fn claim(&mut self, name: &str, excess: Option<u64>) -> Result<(), Failure> {
        match self.cluster.claim(name, excess).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.code.as_deref() == Some("overclaim") => Ok(()),
            Err(failure) => self.screen.say(&format!("claim       {name}: {}", printable(&failure.what))),
        }
    }

    async fn obey(&mut self, order: Order) -> String {
        let done = match order {
            Order::Kill(name) => self.cluster.kill(&name).await,
            Order::Restart(name) => self.cluster.restart(&name).await,
            Order::Lag { name, late } => self.cluster.lag(&name, late),
            Order::Partition(islands) => self.cluster.partition(&islands),
            Order::Heal => Ok(self.cluster.heal()),
            Order::Overclaim(name) => match self.cluster.claim(&name, Some(script::EXCESS)).await {
                Ok(()) => Ok(format!("{name} claimed more than it earned, and was paid")),
                Err(failure) if failure.code.as_deref() == Some("overclaim") => Ok(format!(
                    "{name} claimed {} more than it earned: nothing is paid, and the penalty stands in the table",
                    script::EXCESS
                )),
                Err(failure) => Err(failure),
            },
            Order::Swap { slot, component, config } => {
                self.cluster.swap(slot, &component, config.as_deref()).map(|swap| {
                    self.swaps.spawn(swap);
                    format!("the {slot} rule {component} is checked and compiled")
                })
            }
            Order::Accept(None) => self.cluster.operate(Operation::AcceptRound).await,
            Order::Accept(Some(slot)) => self.cluster.operate(Operation::AcceptPolicy(slot)).await,
            Order::Rollback(slot) => self.cluster.operate(Operation::Rollback(slot)).await,
            Order::Status => Ok(screen::table(&self.cluster.rows(), self.cluster.headline()).join("\n")),
            Order::Help => Ok(console::HELP.to_string()),
            Order::Quit => Ok(String::new()),
        };
        words(done)
    }

    fn draw(&mut self, first: bool) -> Result<(), Failure> {
        self.screen.draw(first, || screen::table(&self.cluster.rows(), self.cluster.headline()))
    }
}

fn words(done: Result<String, Failure>) -> String {
    match done {
        Ok(said) => said,
        Err(failure) => match failure.hint {
            Some(hint) => format!("cannot: {}; {hint}", printable(&failure.what)),
            None => format!("cannot: {}", printable(&failure.what)),
        },
    }
}

async fn next(orders: &mut Option<mpsc::Receiver<Result<Order, String>>>) -> Option<Result<Order, String>> {
    match orders {
        Some(orders) => orders.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_notice(notices: &mut Option<(NodeId, Receiver<Arc<Notice>>)>) -> Result<Arc<Notice>, RecvError> {
    match notices {
        Some((_, notices)) => notices.recv().await,
        None => std::future::pending().await,
    }
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error: io::Error| Failure::plain(format!("signals cannot be watched: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn ended(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
