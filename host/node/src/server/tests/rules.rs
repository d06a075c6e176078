//! What a follower is told of the rules: those in force, and those that are to come.

use kernel::command::{Operate, Operation, Operator, Stage};
use serde_json::Value;

use super::*;
use crate::client::Api;
use crate::events::{Event, Kind, Subscription};

async fn propose(node: &Node, command: Command) -> Reply {
    group(node).propose(command).await.unwrap().unwrap()
}

async fn operate(node: &Node, what: Operation) -> Reply {
    let now_ms = group(node).now_ms();
    let operate = Operate { by: Operator::Console, reason: "test".into(), now_ms, what };
    propose(node, Command::Operate(operate)).await
}

/// The reward rule with another config: staged, ready, and it does not count.
async fn stage(node: &Node) -> Digest {
    let row = group(node).read(|state| state.active(Slot::Reward).unwrap().1.clone());
    let stage = Stage {
        slot: Slot::Reward,
        component: row.component,
        config: r#"{"points_per_round":25}"#.into(),
        description: row.description,
        by: Operator::Console,
        now_ms: group(node).now_ms(),
    };
    let Reply::Staged { policy, .. } = propose(node, Command::Stage(stage)).await else { panic!("not staged") };
    until(node, "ready", |state| (!state.policies.get(&policy)?.ready.is_empty()).then_some(())).await;
    policy
}

async fn activate(node: &Node, policy: Digest, in_rounds: u64) -> u64 {
    let round = group(node).read(|state| state.meta.settled.plus(in_rounds));
    operate(node, Operation::Activate { slot: Slot::Reward, policy, round: Some(round) }).await;
    round.0
}

/// The next event about a rule.
async fn next(events: &mut Subscription) -> Value {
    let event = async {
        loop {
            let event: Arc<Event> = events.live.recv().await.unwrap();
            if event.kind == Kind::Policy {
                return serde_json::from_str(&event.data).unwrap();
            }
        }
    };
    timeout(HANG, event).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_of_a_rule_before_it_counts_of_its_end_and_of_its_beginning() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    let follower = lab.follower(0, &super_1).await;
    let context = follower.context();
    let mut own = context.as_follower().unwrap().own.clone();
    timeout(HANG, own.wait_for(|view| view.policies.is_some() && view.own.is_some())).await.unwrap().unwrap();
    let mut events = context.events.subscribe(None).unwrap();
    let api = Api::url(&follower.rest_address().to_string()).unwrap();
    let reward = async || api.get("/v1/status").await.unwrap()["rules"]["reward"].clone();
    let before = group(&super_1).read(|state| state.active(Slot::Reward).unwrap().0.to_string());
    let policy = stage(&super_1).await;
    let digest = policy.to_string();
    let rules = reward().await;
    assert_eq!((&rules["active"]["digest"], &rules["scheduled"]), (&before.clone().into(), &Value::Null));

    // So far ahead that nothing here waits for it.
    let round = activate(&super_1, policy, 1_000).await;
    let told = next(&mut events).await;
    assert_eq!(
        (&told["slot"], &told["what"], &told["policy"]),
        (&"reward".into(), &"scheduled".into(), &digest.clone().into())
    );
    assert_eq!((&told["round"], &told["name"]), (&round.into(), &"reward-flat".into()));
    let notice = told["notice_rounds"].as_u64().unwrap();
    assert!((1..=1_000).contains(&notice) && told["notice_ms"] == notice * lab.settings.interval_ms, "{told}");
    let rules = reward().await;
    assert_eq!(rules["active"]["digest"], before.clone(), "it is not in force yet");
    let coming = &rules["scheduled"];
    assert_eq!((&coming["digest"], &coming["round"]), (&digest.clone().into(), &round.into()));
    assert_eq!((&coming["notice_rounds"], &coming["kind"]), (&notice.into(), &"scheduled".into()));

    operate(&super_1, Operation::Rollback(Slot::Reward)).await;
    let told = next(&mut events).await;
    assert_eq!(
        (&told["what"], &told["policy"], &told["round"]),
        (&"cancelled".into(), &digest.clone().into(), &round.into())
    );
    assert_eq!(reward().await["scheduled"], Value::Null);

    let round = activate(&super_1, policy, 6).await;
    let told = next(&mut events).await;
    assert_eq!((&told["what"], &told["round"]), (&"scheduled".into(), &round.into()));
    let told = next(&mut events).await;
    assert_eq!(
        (&told["what"], &told["policy"], &told["round"]),
        (&"active".into(), &digest.clone().into(), &round.into())
    );
    let rules = reward().await;
    assert_eq!((&rules["active"]["digest"], &rules["scheduled"]), (&digest.into(), &Value::Null));
    end(vec![follower]).await;
    super_1.stop().await.unwrap();
}
