//! Preparing what the state knows, and what becomes of a failure.

use kernel::command::{Found, Super};
use kernel::id::{ClusterId, Genesis};
use kernel::settings::Settings;
use tokio::time::timeout;

use super::*;
use crate::config::Config;
use crate::group::{self, Disks};
use crate::keys::NodeKey;
use crate::metrics::Metrics;
use crate::tasks::Tasks;

/// A hang is a failure; nothing else depends on it.
const HANG: Duration = Duration::from_secs(60);

/// A super whose slots are filled from a config, and its policies.
async fn filled(disk: &Disks) -> (Tasks, Group, Policies) {
    let (tasks, node) = (Tasks::new(), NodeKey::from_seed(&[1; 32]).id());
    let found = Found {
        cluster: ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) },
        founder: Super { node, name: "super-1".into(), address: "127.0.0.1:7001".into() },
        settings: Settings::default(),
        now_ms: 0,
    };
    let store = Arc::new(disk.open(1 << 20).unwrap());
    let (group, _) = group::alone(disk, store, found, Arc::new(Metrics::new()), &tasks).await.unwrap();
    let policies = Policies::new(group.clone(), node, Engine::new().unwrap());
    (tasks, group, policies)
}

fn config() -> Config {
    Config::in_memory(crate::config::Role::Super, "super-1", Path::new(""))
}

fn active(group: &Group) -> Digest {
    group.read(|state| state.active(Slot::Ban).unwrap().0)
}

async fn end(tasks: &Tasks, group: &Group) {
    tasks.kill();
    group.stopped().cancelled().await;
}

#[tokio::test]
async fn a_policy_that_could_not_be_prepared_is_tried_again_by_itself_and_at_once_when_asked() {
    let (tasks, group, policies) = filled(&Disks::memory()).await;
    policies.take_file(&config()).await.unwrap();
    let active = active(&group);
    let fails = |wait| Preparation::Failed { tries: 3, again: Instant::now() + wait };

    // Of a policy that is not in the state any more: it is not waited for.
    policies.change(|all| all.insert(Digest::of(b"gone"), fails(Duration::ZERO)));
    policies.change(|all| all.insert(active, fails(Duration::from_millis(500))));
    assert!(policies.prepared(&active).is_none());
    tasks.spawn("preparing policies", policies.clone().keep_up(tasks.draining()));
    timeout(HANG, async {
        while policies.prepared(&active).is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(policies.due(), None);

    policies.change(|all| all.insert(active, fails(HANG * 10)));
    policies.catch_up(&mut BTreeSet::new()).await.unwrap();
    assert!(policies.prepared(&active).is_none(), "not before its time");
    policies.try_again().await.unwrap();
    assert!(policies.prepared(&active).is_some());
    end(&tasks, &group).await;
}

#[test]
fn the_wait_doubles_up_to_its_bound() {
    let (mut all, policy) = (BTreeMap::new(), Digest::of(b"x"));
    let waits: Vec<u64> = (0..12).map(|_| failed(&mut all, policy).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
}

#[tokio::test]
async fn an_active_policy_comes_back_at_a_restart_although_a_bound_was_lowered_below_it() {
    let disk = Disks::memory();
    let (tasks, group, policies) = filled(&disk).await;
    policies.take_file(&config()).await.unwrap();
    let active = active(&group);
    end(&tasks, &group).await;
    drop((group, policies));

    let (tasks, group, policies) = filled(&disk).await;
    let limits = LimitSettings { state_bytes: 0, memory_base_bytes: 1 << 20, ..LimitSettings::default() };
    let (bytes, config) = group.read(|state| {
        let row = &state.policies[&active];
        (Arc::clone(&state.components[&row.component]), row.config.clone())
    });
    assert!(policies.try_to_prepare(Slot::Ban, Arc::clone(&bytes), config.clone(), limits, false).await.is_err());
    assert!(policies.try_to_prepare(Slot::Ban, bytes, config, limits, true).await.is_ok());
    policies.catch_up(&mut BTreeSet::new()).await.unwrap();
    assert!(policies.prepared(&active).is_some());
    end(&tasks, &group).await;
}
