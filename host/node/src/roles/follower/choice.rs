//! Which super to dial next, and when: in rendezvous order, one attempt at a time, the next one at once after one that
//! came to nothing, and all of them again after a wait.
//!
//! A follower may not choose (PROTOCOLS 2.6): the order follows from the keys. It knows the supers of its config and those
//! that a welcome named.

use std::cmp::Reverse;
use std::time::Duration;

use kernel::id::{Digest, NodeId};
use kernel::members::Refusal;
use tokio::time::Instant;
use wire::message::{SuperAt, Welcome};

use super::wait::{Backoff, Dice};
use super::{Link, OBSERVERS, dial};
use crate::config::{self, PeerAddress};
use crate::known::Known;

/// Supers that a follower knows: those of its config, and as many as a group has.
const SUPERS: usize = 32;

/// A super that a follower knows.
#[derive(Clone, Debug)]
struct Row {
    to: PeerAddress,
    /// Its key, once it is known.
    key: Option<NodeId>,
    /// From the config: it stays, whatever a welcome says.
    configured: bool,
    /// A link has it, or dials it.
    taken: bool,
    attached: bool,
    /// Since the last wait.
    tried: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Choice {
    me: NodeId,
    rows: Vec<Row>,
    backoff: Backoff,
    dice: Dice,
    due: Instant,
    /// To how many supers it attaches at once.
    observers: usize,
}

impl Choice {
    /// With the supers of the config; the first attempt is due now.
    #[must_use]
    pub fn new(me: NodeId, supers: &[PeerAddress], known: &Known, dice: Dice) -> Self {
        let row = |to: &PeerAddress| Row {
            key: to.key.or_else(|| known.key(&dial::address(to))),
            to: to.clone(),
            configured: true,
            taken: false,
            attached: false,
            tried: false,
        };
        let rows = supers.iter().take(SUPERS).map(row).collect();
        let mut choice =
            Self { me, rows, backoff: Backoff::default(), dice, due: Instant::now(), observers: OBSERVERS };
        choice.sort();
        choice
    }

    /// When the next attempt may begin.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Whether there is another super than those that are taken.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.rows.iter().any(|row| !row.taken)
    }

    /// Takes the next super.
    pub fn take(&mut self) -> Option<PeerAddress> {
        if self.rows.iter().filter(|row| row.taken).count() >= self.observers {
            return None;
        }
        let row = self.rows.iter_mut().filter(|row| !row.taken).min_by_key(|row| row.tried)?;
        row.taken = true;
        Some(row.to.clone())
    }

    /// The taken super showed this key.
    pub fn shown(&mut self, to: &PeerAddress, key: NodeId) {
        if let Some(row) = self.row(to) {
            row.key = Some(key);
        }
    }

    /// The taken super welcomed us: what it says of waits and supers counts.
    pub fn welcomed(&mut self, to: &PeerAddress, welcome: &Welcome) {
        self.backoff.welcomed(welcome);
        // A super of an earlier release does not say.
        if welcome.observers > 0 {
            self.observers = usize::try_from(welcome.observers).unwrap_or(usize::MAX);
        }
        self.rows.iter_mut().for_each(|row| row.tried = false);
        if let Some(row) = self.row(to) {
            row.attached = true;
        }
        self.merge(&welcome.supers);
    }

    /// The stream to the taken super was lost: the next attempt is somewhere in the spread, as everybody's.
    pub fn lost(&mut self, to: &PeerAddress) -> Duration {
        self.free(to);
        let wait = self.backoff.after_loss(&mut self.dice);
        self.wait(wait)
    }

    /// The attempt at the taken super came to nothing. `is_ours`: only an operator can mend it.
    pub fn failed(&mut self, to: &PeerAddress, is_ours: bool) -> Duration {
        if self.next(to) {
            return self.wait(Duration::ZERO);
        }
        let wait =
            if is_ours { self.backoff.after_error(&mut self.dice) } else { self.backoff.after_failure(&mut self.dice) };
        self.wait(wait)
    }

    /// The taken super refused us. What is about that super alone is no reason not to ask the next one.
    pub fn refused(&mut self, to: &PeerAddress, refusal: &Refusal, now_ms: u64) -> Duration {
        let elsewhere = matches!(refusal, Refusal::Busy { .. } | Refusal::PortTaken | Refusal::WrongCluster { .. });
        if elsewhere && self.next(to) {
            return self.wait(Duration::ZERO);
        }
        if !elsewhere {
            self.free(to);
            self.rows.iter_mut().for_each(|row| row.tried = false);
        }
        let wait = self.backoff.after_refusal(refusal, now_ms, &mut self.dice);
        self.wait(wait)
    }

    /// The taken super is let go, and may be taken again at once.
    pub fn free(&mut self, to: &PeerAddress) {
        if let Some(row) = self.row(to) {
            row.taken = false;
            row.attached = false;
        }
    }

    /// All supers that it knows, in the order in which they are dialled.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        let link = |row: &Row| Link { address: dial::address(&row.to), key: row.key, attached: row.attached };
        self.rows.iter().map(link).collect()
    }

    /// Lets go of a super that was tried in vain: whether there is one that was not.
    fn next(&mut self, to: &PeerAddress) -> bool {
        self.free(to);
        if let Some(row) = self.row(to) {
            row.tried = true;
        }
        let is_more = self.rows.iter().any(|row| !row.taken && !row.tried);
        if !is_more {
            self.rows.iter_mut().for_each(|row| row.tried = false);
        }
        is_more
    }

    fn wait(&mut self, wait: Duration) -> Duration {
        self.due = Instant::now() + wait;
        wait
    }

    fn row(&mut self, to: &PeerAddress) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.to == *to)
    }

    /// Takes the supers that a welcome names.
    fn merge(&mut self, supers: &[SuperAt]) {
        if supers.is_empty() {
            return;
        }
        self.rows.retain(|row| row.configured || row.taken || supers.iter().any(|at| Some(at.key) == row.key));
        for at in supers {
            let Ok(to) = config::address(&at.address) else { continue };
            let is_same = |row: &&mut Row| {
                row.key == Some(at.key) || row.key.is_none() && (&row.to.host, row.to.port) == (&to.host, to.port)
            };
            if let Some(row) = self.rows.iter_mut().find(is_same) {
                row.key = Some(at.key);
            } else if self.rows.len() < SUPERS && !is_nowhere(&to) {
                let to = PeerAddress { key: Some(at.key), ..to };
                let (configured, taken, attached, tried) = (false, false, false, false);
                self.rows.push(Row { to, key: Some(at.key), configured, taken, attached, tried });
            }
        }
        self.sort();
    }

    fn sort(&mut self) {
        let me = self.me;
        self.rows.sort_by_cached_key(|row| Reverse(rank(me, row.key, &row.to)));
    }
}

/// Rendezvous order: which supers a follower attaches to follows from the keys alone. A super whose key is not known yet
/// is ranked by its address.
fn rank(me: NodeId, key: Option<NodeId>, to: &PeerAddress) -> Digest {
    match key {
        Some(key) => Digest::of_parts(&[&me.0, &key.0]),
        None => Digest::of_parts(&[&me.0, dial::address(to).as_bytes()]),
    }
}

/// An address to listen on, and not to reach.
fn is_nowhere(to: &PeerAddress) -> bool {
    to.port == 0 || to.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use kernel::id::{ClusterId, RoundId};

    use super::*;
    use crate::keys::NodeKey;

    fn id(seed: u8) -> NodeId {
        NodeKey::from_seed(&[seed; 32]).id()
    }

    fn at(seed: u8) -> PeerAddress {
        PeerAddress { key: Some(id(seed)), host: format!("10.0.0.{seed}"), port: 7001 }
    }

    fn choice(supers: &[PeerAddress]) -> Choice {
        Choice::new(id(99), supers, &Known::in_memory(), Dice::from_seed(1))
    }

    fn welcome(seeds: &[u8]) -> Welcome {
        let supers = seeds.iter().map(|seed| SuperAt { key: id(*seed), address: format!("10.0.0.{seed}:7001") });
        Welcome {
            cluster: ClusterId::default(),
            leader: None,
            interval_ms: 1_000,
            timeout_ms: 250,
            settings_version: 1,
            reconnect_spread_ms: 1_000,
            backoff_cap_ms: 1_500,
            supers: supers.collect(),
            observers: 2,
            set_version: 0,
            policies: None,
        }
    }

    #[test]
    fn the_order_follows_from_the_keys_and_not_from_the_config() {
        let orders = [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3]].map(|seeds| {
            let mut choice = choice(&seeds.map(at));
            [choice.take().unwrap(), choice.take().unwrap()]
        });
        assert!(orders.iter().all(|order| *order == orders[0]));
        let firsts: std::collections::BTreeSet<String> = (100..120)
            .map(|me| {
                let mut own = Choice::new(id(me), &[1, 2, 3].map(at), &Known::in_memory(), Dice::from_seed(1));
                own.take().unwrap().host
            })
            .collect();
        assert_eq!(firsts.len(), 3, "followers spread over the supers");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_the_next_super_is_due_at_once_and_all_of_them_after_a_wait() {
        let mut choice = choice(&[1, 2, 3].map(at));
        let first = choice.take().unwrap();
        choice.welcomed(&first, &welcome(&[1, 2, 3]));
        let second = choice.take().unwrap();
        assert_eq!(choice.failed(&second, false), Duration::ZERO);
        let third = choice.take().unwrap();
        assert!(third != second && third != first);
        let wait = choice.failed(&third, false);
        assert!(wait >= Duration::from_millis(250), "{wait:?}");
        assert_eq!(choice.take().unwrap(), second, "from the beginning");
        assert!(choice.take().is_none(), "two are taken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_is_about_the_follower_is_waited_out_and_one_about_the_super_is_not() {
        let mut choice = choice(&[1, 2].map(at));
        let first = choice.take().unwrap();
        assert_eq!(choice.refused(&first, &Refusal::Busy { retry_ms: 5_000 }, 0), Duration::ZERO);
        let second = choice.take().unwrap();
        assert_ne!(first, second);
        assert!(choice.refused(&second, &Refusal::Busy { retry_ms: 5_000 }, 0) >= Duration::from_secs(5));
        let first = choice.take().unwrap();
        let banned = Refusal::Banned { until: RoundId(9), until_ms: 7_000, reason: String::new() };
        assert!(choice.refused(&first, &banned, 0) >= Duration::from_secs(7), "every super says the same");
    }

    #[test]
    fn it_takes_as_many_supers_as_the_cluster_wants() {
        let mut choice = choice(&[1, 2, 3, 4].map(at));
        let first = choice.take().unwrap();
        assert!(choice.take().is_some() && choice.take().is_none(), "two before anybody says another number");
        choice.welcomed(&first, &Welcome { observers: 3, ..welcome(&[1, 2, 3, 4]) });
        assert!(choice.take().is_some() && choice.take().is_none());
        choice.free(&first);
        choice.welcomed(&first, &Welcome { observers: 0, ..welcome(&[]) });
        assert!(choice.take().is_some(), "what is not said changes nothing");
    }

    #[test]
    fn supers_that_a_welcome_names_are_known_and_those_that_are_gone_are_forgotten() {
        let unpinned = PeerAddress { key: None, ..at(1) };
        let mut choice = choice(&[unpinned]);
        let first = choice.take().unwrap();
        choice.shown(&first, id(1));
        choice.welcomed(&first, &welcome(&[1, 2, 3]));
        let keys = |choice: &Choice| {
            let mut keys: Vec<_> = choice.links().iter().filter_map(|link| link.key).collect();
            keys.sort_unstable();
            keys
        };
        let all = |seeds: &[u8]| {
            let mut keys: Vec<_> = seeds.iter().map(|seed| id(*seed)).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys(&choice), all(&[1, 2, 3]), "the one of the config is not there twice");
        choice.welcomed(&first, &welcome(&[2, 4]));
        assert_eq!(keys(&choice), all(&[1, 2, 4]), "the config's own stays");
        assert!(choice.links().iter().filter(|link| link.attached).count() == 1);
        let nowhere = SuperAt { key: id(5), address: "0.0.0.0:7001".into() };
        choice.welcomed(&first, &Welcome { supers: vec![nowhere], ..welcome(&[]) });
        assert_eq!(keys(&choice), all(&[1]), "an address to listen on is none to dial");
    }
}
