//! Our own faults: nobody is struck for them.

use std::time::Duration;

use rustix::process::Signal;

use crate::lives::books_close;
use crate::support::{Process, Site, get, member, round, settled, until};

const STRICT: &str = "[policy.ban]\ncomponent = \"builtin:ban-strikes\"\n\
                      config = { warn = 1, suspend = 2, ban = 3, ban_rounds = 10 }\n";

/// Strikes of all members; a member that is gone counts as struck.
fn struck(api: &str) -> Vec<String> {
    let nodes = get(api, "/v1/nodes?limit=1000");
    let followers = nodes["nodes"].as_array().unwrap().iter().filter(|node| node["role"] == "follower");
    followers
        .map(|node| node["name"].as_str().unwrap().to_string())
        .filter(|name| {
            let member = member(api, name).unwrap();
            member["standing"] != "good" || member["strikes"] != 0
        })
        .collect()
}

fn with_followers(site: &Site, parent: &std::path::Path, count: usize) -> Vec<(Site, Process)> {
    let followers: Vec<Site> = (1..=count).map(|i| Site::of_follower(parent, &format!("f-{i}"), site)).collect();
    let running: Vec<(Site, Process)> = followers
        .into_iter()
        .map(|follower| {
            let process = follower.start();
            (follower, process)
        })
        .collect();
    until("everybody to be paid", || {
        let paid =
            running.iter().filter(|(f, _)| member(&site.api, &f.name).is_some_and(|m| m["earned"].as_i64() > Some(0)));
        (paid.count() == count).then_some(())
    });
    running
}

/// Stops the super's process for five seconds, until two rounds were marked for it.
fn a_paused_super_strikes_nobody(interval_ms: u64) {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::of_super(folder.path(), "super-1", interval_ms, STRICT);
    let process = site.start();
    let _followers = with_followers(&site, folder.path(), 3);
    let suspect = || {
        let rounds = get(&site.api, "/v1/rounds?limit=1000");
        rounds["rounds"].as_array().unwrap().iter().filter(|round| round["suspect"] == true).count()
    };
    for pause in 1..=4 {
        // The last turn is at two thirds of the window: where the pause begins so long after a settlement, it reaches
        // into the turns of the next round. Where it does not, it costs nobody anything, and the next one may.
        let now = round(&site.api);
        settled(&site.api, now + 1);
        std::thread::sleep(Duration::from_millis(interval_ms * 3 / 10));
        process.signal(Signal::STOP);
        // The pause itself is what is tested: nothing to wait for.
        std::thread::sleep(Duration::from_secs(5));
        process.signal(Signal::CONT);
        let now = round(&site.api);
        settled(&site.api, now + 3);
        assert_eq!(struck(&site.api), Vec::<String>::new(), "after pause {pause}");
        if suspect() >= 2 {
            break;
        }
    }
    assert!(suspect() >= 2, "pauses are noticed");
    books_close(&site.api);
}

#[test]
fn a_super_paused_for_five_seconds_at_two_second_rounds_strikes_nobody() {
    a_paused_super_strikes_nobody(2_000);
}

#[test]
fn a_super_paused_for_five_seconds_at_ten_second_rounds_strikes_nobody() {
    a_paused_super_strikes_nobody(10_000);
}

#[test]
fn a_third_really_gone_costs_those_that_stay_nothing_and_an_operator_can_accept_it() {
    let folder = tempfile::tempdir().unwrap();
    let rule = format!("ping_timeout_ms = 1000\nsuspect_share_bp = 3000\n{STRICT}");
    let site = Site::of_super(folder.path(), "super-1", 2_000, &rule);
    let _super = site.start();
    let mut followers = with_followers(&site, folder.path(), 15);
    // A round is settled as soon as all have answered, which is in its first half (the timeout is the other half): those
    // that die right then are missing in the same round.
    let now = round(&site.api);
    settled(&site.api, now + 1);
    let gone = followers.split_off(10);
    gone.iter().for_each(|(_, process)| process.signal(Signal::KILL));
    until("a suspect round", || (get(&site.api, "/v1/status")["suspect"] == true).then_some(()));
    let first = round(&site.api);
    let before = member(&site.api, "f-1").unwrap()["earned"].as_i64().unwrap();
    settled(&site.api, first + 4);
    // Those present are paid meanwhile, nobody is struck, the round says why it is doubted.
    assert_eq!(struck(&site.api), Vec::<String>::new());
    assert!(member(&site.api, "f-1").unwrap()["earned"].as_i64().unwrap() >= before + 30);
    let doubted = crate::support::round_of(&site.api, first + 1);
    assert!(doubted.to_string().contains("many_missing"), "{doubted}");

    site.operates(&["rounds", "accept", "--reason", "the hall burnt down"]);
    until("the loss to count", || (struck(&site.api).len() == 5).then_some(()));
    let last = round(&site.api);
    settled(&site.api, last + 2);
    assert_eq!(get(&site.api, "/v1/status")["suspect"], false);
    for i in 1..=10 {
        assert_eq!(member(&site.api, &format!("f-{i}")).unwrap()["standing"], "good");
    }
    books_close(&site.api);
}
