//! One link: dial, attach, and after each end the right wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::members::Refusal;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use wire::message::Policies;

use super::attached::{self, Ended};
use super::choice::Choice;
use super::policies::KnownPolicies;
use super::{FollowerError, FollowerView, Refused, Settings, dial, now_ms, words};
use crate::config::PeerAddress;

/// A dial takes at most half a round and no longer than this.
const DIAL_AT_MOST: Duration = Duration::from_secs(5);
/// However short rounds are, a dial has so long.
const DIAL_AT_LEAST: Duration = Duration::from_secs(1);

/// What all links of a follower share.
pub struct Shared {
    pub settings: Settings,
    pub view: watch::Sender<FollowerView>,
    pub stop: CancellationToken,
    pub started: Instant,
    pub choice: Mutex<Choice>,
    /// What it knows of the rules.
    pub policies: Mutex<KnownPolicies>,
    /// One attempt at a time: two would take the same turn in the order.
    pub dialing: Semaphore,
    /// The port that it connects from.
    pub port: watch::Sender<u16>,
    /// Round interval, as the last welcome told it; none before the first.
    pub interval: watch::Sender<Option<Duration>>,
}

impl Shared {
    /// Changes the choice, and shows it.
    pub fn choose<T>(&self, change: impl FnOnce(&mut Choice) -> T) -> T {
        let mut choice = self.choice.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut choice);
        let links = choice.links();
        drop(choice);
        self.view.send_if_modified(|view| {
            let news = view.supers != links;
            view.supers = links;
            news
        });
        changed
    }

    /// Takes what a super says of the rules: shows it, and says what of it is new.
    pub fn learn(&self, told: Policies, interval_ms: u64) {
        // Held until all is said: another link's news come after these.
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        let news = policies.learn(told, interval_ms);
        self.view.send_modify(|view| view.policies = Some(policies.clone()));
        for news in news {
            self.settings.events.policy_news(now_ms(), &news);
            let (slot, round) = (news.slot.name(), news.round.map(|round| round.0));
            tracing::info!(slot, round, what = news.word(), "{}", words::policy(&news));
        }
    }

    /// How long the follower has been running, s: the `data` of its pongs.
    pub fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// For a dial.
    pub fn patience(&self) -> Duration {
        self.interval.borrow().map_or(DIAL_AT_MOST, |interval| (interval / 2).clamp(DIAL_AT_LEAST, DIAL_AT_MOST))
    }

    /// Waits until an attempt may begin, and takes the next super.
    async fn next(&self) -> (PeerAddress, SemaphorePermit<'_>) {
        let mut view = self.view.subscribe();
        loop {
            let due = self.choose(|choice| choice.due());
            // Another link may have had a loss or a failure meanwhile.
            sleep_until(due).await;
            let Ok(permit) = self.dialing.acquire().await else { return std::future::pending().await };
            view.mark_unchanged();
            if self.choose(|choice| choice.due()) > tokio::time::Instant::now() {
                continue;
            }
            if let Some(to) = self.choose(Choice::take) {
                return (to, permit);
            }
            drop(permit);
            // All are taken: until a welcome names another one, or a stream is lost.
            if view.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Runs one link until the follower stops; the first failure when it is to try once.
pub async fn run(shared: Arc<Shared>) -> Result<(), FollowerError> {
    loop {
        let faults = &shared.settings.faults;
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = faults.until_offline(false) => {}
        }
        let (to, dialing) = tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = faults.until_offline(true) => continue,
            next = shared.next() => next,
        };
        let address = dial::address(&to);
        let ended = tokio::select! {
            // Once attached it says goodbye before it stops; until then there is nobody to say it to.
            ended = attempt(&shared, &to, dialing) => ended,
            () = faults.until_offline(true) => Ended::Offline,
        };
        match ended {
            Ended::Stopped => {
                shared.choose(|choice| choice.free(&to));
                return Ok(());
            }
            Ended::Offline => {
                shared.choose(|choice| choice.free(&to));
                tracing::info!(%address, "offline on purpose");
            }
            Ended::Refused(refusal) => {
                let wait = shared.choose(|choice| choice.refused(&to, &refusal, now_ms()));
                refused(&shared, &refusal, wait)?;
            }
            Ended::Unreachable(error) => {
                let wait = shared.choose(|choice| choice.failed(&to, error.is_ours()));
                let why = with_source(&error);
                if shared.settings.once {
                    return Err(FollowerError::Unreachable(Box::new(error)));
                }
                if shared.settings.connect_port == 0 && matches!(error, dial::DialError::Port { .. }) {
                    // Nobody asked for this port: another one will do.
                    shared.port.send_replace(dial::free_port().map_err(FollowerError::System)?);
                }
                failed(&shared, &address, why, wait);
            }
            Ended::OtherCluster(error) => {
                let wait = shared.choose(|choice| choice.failed(&to, true));
                if shared.settings.once {
                    return Err(FollowerError::OtherCluster(Box::new(error)));
                }
                failed(&shared, &address, error.to_string(), wait);
            }
            Ended::Lost { why, welcomed } => {
                let wait = shared.choose(|choice| if welcomed { choice.lost(&to) } else { choice.failed(&to, false) });
                if shared.settings.once {
                    return Err(FollowerError::Lost { address, why });
                }
                failed(&shared, &address, format!("the stream ended: {why}"), wait);
            }
        }
    }
}

async fn attempt(shared: &Shared, to: &PeerAddress, dialing: SemaphorePermit<'_>) -> Ended {
    let settings = &shared.settings;
    let port = *shared.port.borrow();
    let from = dial::Source { address: settings.connect_from, port };
    let dialled = tokio::select! {
        dialled = dial::dial(&settings.key, &settings.known, &settings.wires, to, from, shared.patience()) => dialled,
        () = shared.stop.cancelled() => return Ended::Stopped,
    };
    match dialled {
        Ok((channel, key)) => {
            shared.choose(|choice| choice.shown(to, key));
            attached::run(shared, to, channel, port, dialing).await
        }
        Err(error) => Ended::Unreachable(error),
    }
}

fn refused(shared: &Shared, refusal: &Refusal, wait: Duration) -> Result<(), FollowerError> {
    let words = words::refusal(refusal, &shared.settings.known.file());
    let code = refusal.code();
    if shared.settings.once {
        return Err(FollowerError::Refused { code, what: words.what, cure: words.cure });
    }
    // One that is attached elsewhere has its turns: a super that has no time is no news.
    if shared.view.borrow().is_attached() && matches!(refusal, Refusal::Busy { .. }) {
        tracing::debug!(code, why = words.what, retry_in_s = whole_seconds(wait), "refused");
        return Ok(());
    }
    tracing::warn!(code, why = words.what, cure = words.cure, retry_in_s = whole_seconds(wait), "refused");
    let retry_ms = now_ms().saturating_add(millis(wait));
    shared.view.send_modify(|view| {
        view.refused = Some(Refused { refusal: refusal.clone(), words, retry_ms });
        view.failed = None;
    });
    Ok(())
}

fn failed(shared: &Shared, address: &str, why: String, wait: Duration) {
    // The same failure again is no news.
    let news = shared.view.borrow().failed.as_ref() != Some(&why);
    if news {
        tracing::warn!(%address, why, retry_in_s = whole_seconds(wait), "not attached");
        shared.view.send_modify(|view| view.failed = Some(why));
    } else {
        tracing::debug!(%address, why, retry_in_s = whole_seconds(wait), "not attached");
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} ({cause})");
        source = cause.source();
    }
    text
}

/// For people: never less than the wait.
fn whole_seconds(time: Duration) -> u64 {
    millis(time).div_ceil(1_000)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_in_whole_seconds() {
        for (ms, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (100_200, 101)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms}");
        }
    }
}
