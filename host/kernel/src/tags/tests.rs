use super::*;
use crate::command::{Command, Operate, Operator, SettingChange};
use crate::decide::Slot;
use crate::outcome::Outcome;
use crate::scripts::world::{Seen, World, node, policy};
use crate::settings::Settings;

fn cluster() -> World {
    let mut world = World::found(Settings::default(), &["flat", "strikes"]);
    let join = world.join("A");
    world.apply(Command::Join(join));
    world.settle(&Seen::default());
    world
}

fn decide(world: &mut World, tag: Digest, what: Operation) -> Outcome {
    let operate = Operate { by: Operator::Token, reason: "why".into(), now_ms: world.now_ms, what };
    world.apply(Command::OperateIf(OperateIf { tag, operate }))
}

fn set(value: &str) -> Operation {
    Operation::Set(alloc::vec![SettingChange { key: "round.interval_ms".into(), value: value.into() }])
}

#[test]
fn a_decision_counts_only_while_what_was_read_is_still_so() {
    let mut world = cluster();
    let read = world.state.settings_tag();
    assert!(decide(&mut world, read, set("5000")).reply.is_ok());
    let now = world.state.settings_tag();
    assert_ne!(read, now, "a change that is to come is a change");
    // Two decided on the same read: the second one is told, and changes nothing.
    let before = world.state.meta.settings_next.clone();
    let second = decide(&mut world, read, set("7000"));
    assert_eq!(second.reply, Err(Reject::Changed { tag: now }));
    assert_eq!((world.state.meta.settings_next.clone(), second.notices), (before, Vec::new()));
    // The same value again, some rounds later, is another version.
    for _ in 0..3 {
        world.settle(&Seen::default());
    }
    let (read, version) = (world.state.settings_tag(), world.state.meta.settings_version);
    assert!(decide(&mut world, read, set("6000")).reply.is_ok());
    for _ in 0..3 {
        world.settle(&Seen::default());
    }
    let now = world.state.settings_tag();
    assert!(decide(&mut world, now, set("5000")).reply.is_ok());
    for _ in 0..3 {
        world.settle(&Seen::default());
    }
    assert!(world.state.meta.settings_version > version);
    assert_eq!(decide(&mut world, read, set("8000")).reply, Err(Reject::Changed { tag: world.state.settings_tag() }));
}

#[test]
fn rounds_alone_change_no_tag() {
    let mut world = cluster();
    let tags = |world: &World| {
        let state = &world.state;
        (state.settings_tag(), state.policies_tag(), state.class_tag(&node("A")))
    };
    let before = tags(&world);
    for _ in 0..5 {
        world.settle(&Seen::default());
    }
    assert_eq!(tags(&world), before);
}

#[test]
fn policies_and_classes_have_tags_of_their_own() {
    let mut world = cluster();
    let (settings, policies, class) =
        (world.state.settings_tag(), world.state.policies_tag(), world.state.class_tag(&node("A")).unwrap());
    let to = |class| Operation::SetClass { node: node("A"), class };
    assert_eq!(decide(&mut world, settings, to(2)).reply, Err(Reject::Changed { tag: class }));
    assert!(decide(&mut world, class, to(2)).reply.is_ok());
    assert_eq!((world.state.settings_tag(), world.state.policies_tag()), (settings, policies));
    let now = world.state.class_tag(&node("A")).unwrap();
    assert_eq!(decide(&mut world, class, to(3)).reply, Err(Reject::Changed { tag: now }));
    assert_eq!(world.state.members[&node("A")].profile.class, 2);

    let active = world.state.slot(Slot::Ban).row.active.unwrap();
    world.stage("tyrant", true);
    let staged = world.state.policies_tag();
    assert_ne!(staged, policies, "a candidate that was read by nobody is a change");
    let activate = |policy| Operation::Activate { slot: Slot::Ban, policy, round: None };
    assert_eq!(decide(&mut world, policies, activate(active)).reply, Err(Reject::Changed { tag: staged }));
    assert!(decide(&mut world, staged, activate(policy("tyrant"))).reply.is_ok());
}

#[test]
fn what_has_no_tag_cannot_be_made_to_depend_on_one() {
    let mut world = cluster();
    let tag = world.state.settings_tag();
    let refused = decide(&mut world, tag, Operation::AcceptRound).reply;
    assert!(matches!(refused, Err(Reject::Malformed { .. })), "{refused:?}");
    let nobody = decide(&mut world, tag, Operation::SetClass { node: node("Z"), class: 1 }).reply;
    assert_eq!(nobody, Err(Reject::UnknownNode));
}
