//! One link: dial, attach, and after each end the right wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::members::Refusal;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::attached::{self, Ended};
use super::wait::{Backoff, Dice};
use super::{FollowerError, FollowerView, Link, Refused, Settings, dial, now_ms, words};
use crate::config::PeerAddress;

/// What all links of a follower share.
pub struct Shared {
    pub settings: Settings,
    pub view: watch::Sender<FollowerView>,
    pub stop: CancellationToken,
    pub started: Instant,
}

impl Shared {
    /// Changes what is shown of one link.
    pub fn show(&self, index: usize, change: impl FnOnce(&mut Link)) {
        self.view.send_modify(|view| {
            if let Some(link) = view.supers.get_mut(index) {
                change(link);
            }
        });
    }

    /// How long the follower has been running, s: the `data` of its pongs.
    pub fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

/// Runs one link until the follower stops; the first failure when it is to try once.
pub async fn run(shared: Arc<Shared>, index: usize, to: PeerAddress, port: u16) -> Result<(), FollowerError> {
    let address = dial::address(&to);
    let mut dice = Dice::seeded().map_err(|error| FollowerError::System(std::io::Error::other(error)))?;
    let mut backoff = Backoff::default();
    let mut port = port;
    loop {
        let faults = &shared.settings.faults;
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = faults.until_offline(false) => {}
        }
        let ended = tokio::select! {
            // Once attached it says goodbye before it stops; until then there is nobody to say it to.
            ended = attempt(&shared, index, &to, port, &mut backoff) => ended,
            () = faults.until_offline(true) => Ended::Offline,
        };
        shared.show(index, |link| link.attached = false);
        let wait = match ended {
            Ended::Stopped => return Ok(()),
            Ended::Offline => {
                tracing::info!(%address, "offline on purpose");
                continue;
            }
            Ended::Refused(refusal) => refused(&shared, &refusal, &mut backoff, &mut dice)?,
            Ended::Unreachable(error) => {
                let wait =
                    if error.is_ours() { backoff.after_error(&mut dice) } else { backoff.after_failure(&mut dice) };
                let why = with_source(&error);
                if shared.settings.once {
                    return Err(FollowerError::Unreachable(Box::new(error)));
                }
                if shared.settings.connect_port == 0 && matches!(error, dial::DialError::Port { .. }) {
                    // Nobody asked for this port: another one will do.
                    port = dial::free_port().map_err(FollowerError::System)?;
                }
                failed(&shared, &address, why, wait)
            }
            Ended::OtherCluster(error) => {
                if shared.settings.once {
                    return Err(FollowerError::OtherCluster(Box::new(error)));
                }
                failed(&shared, &address, error.to_string(), backoff.after_error(&mut dice))
            }
            Ended::Lost { why, welcomed } => {
                if shared.settings.once {
                    return Err(FollowerError::Lost { address, why });
                }
                let wait = if welcomed { backoff.after_loss(&mut dice) } else { backoff.after_failure(&mut dice) };
                failed(&shared, &address, format!("the stream ended: {why}"), wait)
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => return Ok(()),
            () = sleep(wait) => {}
        }
    }
}

async fn attempt(shared: &Shared, index: usize, to: &PeerAddress, port: u16, backoff: &mut Backoff) -> Ended {
    let settings = &shared.settings;
    let dialled = tokio::select! {
        dialled = dial::dial(&settings.key, &settings.known, to, port) => dialled,
        () = shared.stop.cancelled() => return Ended::Stopped,
    };
    match dialled {
        Ok((channel, key)) => {
            shared.show(index, |link| link.key = Some(key));
            attached::run(shared, index, channel, port, backoff).await
        }
        Err(error) => Ended::Unreachable(error),
    }
}

fn refused(
    shared: &Shared,
    refusal: &Refusal,
    backoff: &mut Backoff,
    dice: &mut Dice,
) -> Result<Duration, FollowerError> {
    let words = words::refusal(refusal, &shared.settings.known.file());
    let code = refusal.code();
    if shared.settings.once {
        return Err(FollowerError::Refused { code, what: words.what, cure: words.cure });
    }
    let wait = backoff.after_refusal(refusal, now_ms(), dice);
    tracing::warn!(code, why = words.what, cure = words.cure, retry_in_s = whole_seconds(wait), "refused");
    let retry_ms = now_ms().saturating_add(millis(wait));
    shared.view.send_modify(|view| {
        view.refused = Some(Refused { refusal: refusal.clone(), words, retry_ms });
        view.failed = None;
    });
    Ok(wait)
}

fn failed(shared: &Shared, address: &str, why: String, wait: Duration) -> Duration {
    // The same failure again is no news.
    let news = shared.view.borrow().failed.as_ref() != Some(&why);
    if news {
        tracing::warn!(%address, why, retry_in_s = whole_seconds(wait), "not attached");
        shared.view.send_modify(|view| view.failed = Some(why));
    } else {
        tracing::debug!(%address, why, retry_in_s = whole_seconds(wait), "not attached");
    }
    wait
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
