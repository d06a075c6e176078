use super::*;
use crate::command::{Command, Operation};
use crate::scripts::world::{Seen, World, node};
use crate::settings::Settings;

fn hello(world: &World, name: &str) -> Hello {
    let join = world.join(name);
    let cluster = world.state.meta.cluster.to_string();
    Hello { source_port: join.port, join, cluster, port_taken: false, busy_ms: None }
}

#[test]
fn a_hello_is_refused_for_the_first_thing_that_is_wrong() {
    let mut settings = Settings::default();
    settings.put("guardrails.members", "2").unwrap();
    let mut world = World::found(settings, &[]);
    for name in ["A", "B"] {
        let join = world.join(name);
        world.apply(Command::Join(join));
    }
    world.settle(&Seen::default());
    world.operate("by hand", Operation::Ban { node: node("A"), rounds: 5 });
    let mut hello = hello(&world, "A");
    let good = hello.clone();
    hello.cluster = "lab#00000000000000000000000000000000".into();
    hello.join.version = ProtocolVersion { major: 9, minor: 0 };
    hello.source_port += 1;
    hello.port_taken = true;
    hello.busy_ms = Some(700);
    let code = |hello: &Hello| world.state.admits(hello).map_err(|refusal| refusal.code());
    assert_eq!(code(&hello), Err("wrong_cluster"));
    hello.cluster = "lab".into();
    assert_eq!(code(&hello), Err("outdated"));
    hello.join.version = good.join.version;
    assert_eq!(code(&hello), Err("banned"));
    hello.join.node = node("C");
    assert_eq!(code(&hello), Err("port_mismatch"));
    hello.source_port = good.source_port;
    assert_eq!(code(&hello), Err("port_taken"));
    hello.port_taken = false;
    assert_eq!(code(&hello), Err("busy"));
    hello.busy_ms = None;
    assert_eq!(code(&hello), Err("full"));
    hello.join.node = node("super");
    assert_eq!(code(&hello), Err("wrong_role"));
    hello.join.node = node("B");
    hello.join.software = "new\nline".into();
    assert_eq!(code(&hello), Err("malformed"));
}

#[test]
fn who_finds_no_room_is_told_when_to_come_back() {
    for (interval_ms, retry_ms) in [(1_000, 10_000), (10_000, 100_000), (3_600_000, REFUSED_WAIT_MS)] {
        let mut settings = Settings::default();
        settings.put("guardrails.members", "1").unwrap();
        settings.put("round.interval_ms", &interval_ms.to_string()).unwrap();
        let mut world = World::found(settings, &[]);
        let join = world.join("A");
        world.apply(Command::Join(join));
        world.settle(&Seen::default());
        let refusal = world.state.admits(&hello(&world, "B")).unwrap_err();
        assert_eq!(refusal, Refusal::Full { what: "the queue: 1 members".into(), retry_ms });
    }
}

#[test]
fn a_ban_names_the_earliest_return() {
    let mut world = World::found(Settings::default(), &[]);
    let join = world.join("A");
    world.apply(Command::Join(join));
    world.settle(&Seen::default());
    world.operate("too loud", Operation::Ban { node: node("A"), rounds: 5 });
    let refusal = world.state.admits(&hello(&world, "A")).unwrap_err();
    let until_ms = world.now_ms + 5 * world.state.meta.settings.interval_ms;
    assert_eq!(refusal, Refusal::Banned { until: RoundId(6), until_ms, reason: "too loud".into() });
}

#[test]
fn only_news_of_a_member_goes_through_the_log() {
    let mut world = World::found(Settings::default(), &[]);
    let first = hello(&world, "A");
    assert_eq!(world.state.admits(&first), Ok(true));
    world.apply(Command::Join(first.join.clone()));
    assert_eq!(world.state.admits(&first), Ok(false));
    world.settle(&Seen::default());
    assert_eq!(world.state.admits(&first), Ok(false));
    let mut newer = first.clone();
    newer.join.software = "0.2.0".into();
    assert_eq!(world.state.admits(&newer), Ok(true));
    world.apply(Command::Leave(Leave { node: node("A"), now_ms: world.now_ms }));
    assert_eq!(world.state.admits(&first), Ok(true), "a goodbye is taken back through the log");
}

#[test]
fn the_log_hears_so_many_hellos_of_a_member_in_a_round() {
    let mut world = World::found(Settings::default(), &[]);
    let mut hello = hello(&world, "A");
    world.apply(Command::Join(hello.join.clone()));
    for n in 1..HELLOS_ROUND {
        hello.join.software = format!("0.1.{n}");
        assert_eq!(world.state.admits(&hello), Ok(true));
        world.apply(Command::Join(hello.join.clone()));
    }
    let retry_ms = world.state.meta.settings.interval_ms;
    let (same, old) = (hello.clone(), ProtocolVersion { major: 9, minor: 9 });
    hello.join.software = "0.2.0".into();
    assert_eq!(world.state.admits(&hello), Err(Refusal::SlowDown { retry_ms }));
    assert_eq!(world.state.admits(&same), Ok(false), "no news are no entry");
    let outdated = Outdated { node: node("A"), version: old, now_ms: world.now_ms };
    assert!(!world.state.is_outdated_by(&node("A"), old));
    assert_eq!(world.apply(Command::Outdated(outdated)).reply, Err(Reject::SlowDown));
    world.settle(&Seen::default());
    assert_eq!(world.state.admits(&hello), Ok(true));
    assert!(world.state.is_outdated_by(&node("A"), old));
    world.apply(Command::Outdated(outdated));
    assert!(!world.state.is_outdated_by(&node("A"), old), "told once");
    assert!(!world.state.is_outdated_by(&node("B"), old), "no member");
}

#[test]
fn without_the_port_rule_any_port_will_do() {
    let mut settings = Settings::default();
    settings.put("round.require_declared_port", "false").unwrap();
    let world = World::found(settings, &[]);
    let hello = Hello { source_port: 1, port_taken: true, ..hello(&world, "A") };
    assert_eq!(world.state.admits(&hello), Ok(true));
}
