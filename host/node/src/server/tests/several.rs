//! Several supers and their followers in one process.

use std::collections::BTreeMap;

use kernel::limits::SEATS;
use kernel::round::Presence;

use super::*;
use crate::roles::follower::OBSERVERS;

mod rules;

/// Supers that were started one after the other, each added by the first.
pub(super) struct Several {
    dir: TempDir,
    supers: Vec<Super>,
    settings: Settings,
}

struct Super {
    key: NodeKey,
    config: Config,
    disks: Disks,
    node: Option<Node>,
}

impl Several {
    /// A founder that is alone.
    async fn new(interval_ms: u64) -> Self {
        // As long as may be: this process is busy with many nodes.
        let settings = Settings { interval_ms, ping_timeout_ms: interval_ms / 2, ..Settings::default() };
        let mut several = Self { dir: tempfile::tempdir().unwrap(), supers: Vec::new(), settings };
        several.start_new().await;
        several
    }

    /// A group of so many voters.
    pub(super) async fn of(count: usize, interval_ms: u64) -> Self {
        let mut several = Self::new(interval_ms).await;
        while several.supers.len() < count {
            several.start_new().await;
            several.add(several.supers.len() - 1).await;
        }
        several
    }

    /// Starts one more: the first founds, the others wait.
    async fn start_new(&mut self) {
        let number = self.supers.len() as u8 + 1;
        let name = format!("super-{number}");
        let mut config = Config::in_memory(Role::Super, &name, &self.dir.path().join(&name));
        config.settings = self.settings.clone();
        config.settings_said = vec![("round.interval_ms".into(), self.settings.interval_ms.to_string())];
        config.supers = self.supers.iter().map(Super::at).collect();
        let key = NodeKey::from_seed(&[number; 32]);
        self.supers.push(Super { key, config, disks: Disks::memory(), node: None });
        let at = self.supers.len() - 1;
        self.start(at).await;
        // It comes back where it was.
        let one = &mut self.supers[at];
        one.config.grpc = one.node().grpc_address().unwrap();
    }

    pub(super) async fn start(&mut self, at: usize) {
        let one = &mut self.supers[at];
        let parts = StartParts { disk: Some(one.disks.clone()), key: Some(one.key.clone()), ..StartParts::default() };
        one.node = Some(Node::start(one.config.clone(), parts).await.unwrap());
    }

    pub(super) async fn kill(&mut self, at: usize) {
        self.supers[at].node.take().unwrap().kill().await;
    }

    /// Adds a super that waits, and makes it a voter.
    async fn add(&self, at: usize) {
        let (key, address) = (self.supers[at].key.id(), self.supers[at].config.grpc.to_string());
        let leader = self.leader().await;
        leader.add(key, address).await.unwrap();
        let promoted = timeout(HANG, async {
            // It has to catch up first.
            while let Err(error) = leader.promote(key).await {
                // On a busy machine one that was there a moment ago is not heard just now.
                let passes = ["later", "answer", "bring one back first"];
                assert!(passes.iter().any(|words| error.to_string().contains(words)), "{error}");
                tokio::task::yield_now().await;
            }
        });
        promoted.await.unwrap();
    }

    /// The group as seen from who leads it.
    pub(super) async fn leader(&self) -> Group {
        let (_, group) = self.leading().await;
        group
    }

    pub(super) async fn leading(&self) -> (usize, Group) {
        timeout(HANG, async {
            loop {
                for (at, one) in self.supers.iter().enumerate() {
                    let Some(node) = &one.node else { continue };
                    let group = group(node);
                    if group.leadership().borrow().ready && group.leadership().borrow().leader == Some(one.key.id()) {
                        return (at, group);
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap()
    }

    pub(super) async fn follower(&self, number: u8) -> Node {
        let supers = self.supers.iter().map(Super::at).collect();
        let name = format!("follower-{number}");
        let dir = self.dir.path().join(&name);
        let config = Config { supers, ..Config::in_memory(Role::Follower, &name, &dir) };
        let key = Some(NodeKey::from_seed(&[100 + number; 32]));
        Node::start(config, StartParts { key, ..StartParts::default() }).await.unwrap()
    }

    pub(super) async fn followers(&self, count: u8) -> Vec<Node> {
        let mut all = Vec::new();
        for number in 0..count {
            all.push(self.follower(number).await);
        }
        all
    }

    /// The supers that run.
    pub(super) fn supers(&self) -> Vec<&Node> {
        self.supers.iter().filter_map(|one| one.node.as_ref()).collect()
    }

    /// Where the supers are.
    pub(super) fn addresses(&self) -> Vec<PeerAddress> {
        self.supers.iter().map(Super::at).collect()
    }

    /// A folder of this lab.
    pub(super) fn folder(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Ends all supers that run.
    pub(super) async fn stop(self) {
        for one in self.supers {
            if let Some(node) = one.node {
                node.stop().await.unwrap();
            }
        }
    }

    /// Waits until so many more rounds are settled on every super that runs.
    async fn rounds(&self, more: u64) {
        let running: Vec<Group> = self.supers.iter().filter_map(|one| one.node.as_ref()).map(group).collect();
        let goal = running.iter().map(|group| group.read(|state| state.meta.settled.0)).max().unwrap() + more;
        for group in running {
            let mut applied = group.applied();
            timeout(HANG, applied.wait_for(|applied| applied.settled.0 >= goal)).await.unwrap().unwrap();
        }
    }
}

impl Super {
    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn at(&self) -> PeerAddress {
        let at = self.config.grpc;
        PeerAddress { key: Some(self.key.id()), host: at.ip().to_string(), port: at.port() }
    }
}

/// Waits until a group's state is so.
async fn until(group: &Group, so: impl Fn(&State) -> bool) {
    let mut applied = group.applied();
    let came = timeout(HANG, async {
        while !group.read(&so) {
            applied.changed().await.unwrap();
        }
    });
    if came.await.is_err() {
        let told = group.read(|state| {
            let rows = state.policies.values().map(|row| (row.slot, row.ready.clone(), row.unready.clone()));
            (state.meta.settled, state.meta.term, rows.collect::<Vec<_>>())
        });
        panic!("it never came to be so: {told:?}");
    }
}

fn all_up(state: &State, count: usize) -> bool {
    let up = state.queued().filter(|(_, member)| member.hot.presence == Presence::Up).count();
    up == count && state.queue.len() == count
}

/// Nobody was warned, struck or put out.
fn nobody_was_blamed(group: &Group) {
    group.read(|state| {
        for (node, member) in &state.members {
            assert_eq!((member.hot.standing, member.hot.strikes), (Standing::Good, 0), "{node}");
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn three_supers_observe_followers_and_lose_nobody_when_one_of_them_dies() {
    let mut several = Several::of(3, 1_000).await;
    let followers = several.followers(6).await;
    let leader = several.leader().await;
    until(&leader, |state| all_up(state, 6)).await;
    several.rounds(2).await;
    // Each follower is attached to two of the three, and each super reports.
    for node in &followers {
        let own = node.context().as_follower().unwrap().own.clone();
        let attached = own.borrow().supers.iter().filter(|link| link.attached).count();
        assert_eq!(attached, OBSERVERS);
    }
    let seats =
        leader.read(|state| state.meta.seats.iter().map(|row| (row.seat.0, row.came)).collect::<BTreeMap<_, _>>());
    assert_eq!(seats, BTreeMap::from([(0, true), (1, true), (2, true)]), "{SEATS} seats at most");
    nobody_was_blamed(&leader);

    // The leader dies: another one goes on, and comes to know of all followers.
    let (dead, old) = several.leading().await;
    let settled = old.read(|state| state.meta.settled);
    several.kill(dead).await;
    let leader = several.leader().await;
    until(&leader, |state| state.meta.settled.0 >= settled.0 + 3 && all_up(state, 6)).await;
    several.rounds(8).await;
    nobody_was_blamed(&leader);

    // It comes back with its disk and reports again.
    several.start(dead).await;
    let back = several.supers[dead].key.id();
    until(&leader, |state| state.meta.seats.iter().any(|row| row.holder.node == back && row.came)).await;
    several.rounds(3).await;
    nobody_was_blamed(&several.leader().await);
    let states: Vec<_> = several.supers.iter().map(|one| group(one.node()).read(|state| state.members.len())).collect();
    assert_eq!(states, [6, 6, 6]);
    for node in followers {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_the_lead_on_although_a_super_is_dead() {
    let mut several = Several::of(3, 1_000).await;
    let (at, _) = several.leading().await;
    let dead = (at + 1) % 3;
    several.kill(dead).await;
    several.rounds(1).await;
    // A round is open, and the dead one is told of it again and again.
    several.supers[at].node.take().unwrap().stop().await.unwrap();
    // Two of three are a majority again.
    several.start(dead).await;
    let (next, group) = several.leading().await;
    assert_ne!(next, at);
    let settled = group.read(|state| state.meta.settled.0);
    until(&group, |state| state.meta.settled.0 > settled + 1).await;
}
