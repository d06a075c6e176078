//! A super and two followers as separate processes: who is put out, who comes back, who never loses a point.

use rustix::process::Signal;

use crate::support::{Site, get, member, round, round_of, run, settled, standing, until};

const RULE: &str = "[policy.ban]\ncomponent = \"builtin:ban-strikes\"\n\
                    config = { warn = 2, suspend = 3, ban = 4, ban_rounds = 6 }\n[guardrails]\nprobation_rounds = 3\n";

/// The changes of standing of a member, as the super's log tells them: (round, new standing).
fn moves_of(log: &[String], key: &str) -> Vec<(u64, String)> {
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}="))?;
        Some(rest.split(' ').next()?.trim_matches('"').to_string())
    };
    log.iter()
        .filter(|line| line.contains(": standing ") && field(line, "node").as_deref() == Some(key))
        .map(|line| (field(line, "round").unwrap().parse().unwrap(), field(line, "to").unwrap()))
        .collect()
}

#[test]
fn a_killed_follower_is_put_out_as_its_policy_says_and_comes_back_on_probation() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::of_super(folder.path(), "super-1", 1_000, RULE);
    let (steady, victim) =
        (Site::of_follower(folder.path(), "steady", &site), Site::of_follower(folder.path(), "victim", &site));
    let super_process = site.start();
    let _steady = steady.start();
    let victim_process = victim.start();
    standing(&site.api, "victim", "good");
    until("the victim to be paid", || member(&site.api, "victim").filter(|m| m["earned"].as_i64() > Some(0)));

    victim_process.kill();
    let died = round(&site.api);
    standing(&site.api, "victim", "warned");
    standing(&site.api, "victim", "suspended");
    let banned = standing(&site.api, "victim", "banned");
    let until_round = banned["ban"]["until_round"].as_u64().unwrap();
    let moves = moves_of(&super_process.printed(), banned["node"].as_str().unwrap());
    let at = |wanted: &str| moves.iter().find(|(_, s)| s == wanted).unwrap_or_else(|| panic!("{wanted}: {moves:?}")).0;
    // Suspended by the settlement of the third round that began after its death, at the latest; then one more miss.
    assert!((died + 2..=died + 4).contains(&at("suspended")), "died after {died}: {moves:?}");
    assert_eq!(at("banned"), at("suspended") + 1, "{moves:?}");
    assert_eq!(until_round, at("banned") + 6);

    // Too early: it is refused, says until when, and keeps waiting by itself.
    let victim_process = victim.start();
    victim_process.line("that it is banned, and until when", |line| line.contains("banned") && line.contains("round"));
    assert_eq!(member(&site.api, "victim").unwrap()["standing"], "banned");
    let status = get(&victim.api, "/v1/status");
    assert_eq!(status["standing"], "banned", "{status}");
    assert!(status["earliest_return"].is_number(), "{status}");

    standing(&site.api, "victim", "probation");
    assert!(round(&site.api) >= until_round, "it came back before its ban was over");
    standing(&site.api, "victim", "good");
    until("its own view to follow", || (get(&victim.api, "/v1/status")["standing"] == "good").then_some(()));

    // The other one never lost a point: it was paid for every round since it was in the queue.
    let last = round(&site.api);
    let steady_key = member(&site.api, "steady").unwrap()["node"].as_str().unwrap().to_string();
    let paid = get(&site.api, &format!("/v1/accounts/{steady_key}/entries?limit=1000"));
    let rounds: Vec<u64> = paid["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["kind"] == "reward")
        .map(|entry| entry["round"].as_u64().unwrap())
        .collect();
    let first = *rounds.iter().min().unwrap();
    for number in first..=last {
        assert!(rounds.contains(&number), "no pay for round {number}: {}", round_of(&site.api, number));
    }
    assert_eq!(member(&site.api, "steady").unwrap()["standing"], "good");
}

#[test]
fn a_goodbye_costs_nothing_and_the_way_back_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::of_super(folder.path(), "super-1", 1_000, RULE);
    let leaver = Site::of_follower(folder.path(), "leaver", &site);
    let _super = site.start();
    let process = leaver.start();
    until("it to be paid", || member(&site.api, "leaver").filter(|m| m["earned"].as_i64() > Some(0)));
    let (status, printed) = process.stop();
    assert!(status.success(), "{status}\n{}", printed.join("\n"));
    let left = round(&site.api);
    settled(&site.api, left + 7);
    let after = member(&site.api, "leaver").unwrap();
    assert_eq!((after["standing"].as_str(), after["strikes"].as_u64()), (Some("good"), Some(0)), "{after}");
    let earned = after["earned"].as_i64().unwrap();
    let _process = leaver.start();
    until("it to be paid again", || member(&site.api, "leaver").filter(|m| m["earned"].as_i64() > Some(earned)));
}

/// A claim of one point under a sequence of its own. `Some(true)`: paid; `Some(false)`: the sequence was used up before;
/// `None`: no answer. Who claims too often for one round tries again.
fn claim(claimer: &Site, api: &str, sequence: u64) -> Option<bool> {
    let sequence = sequence.to_string();
    let arguments =
        ["claim", "--key", "node.key", "--amount", "1", "--sequence", &sequence, "--api", api, "--output", "json"];
    until("room for a claim", || {
        let output = run(&claimer.folder, &arguments);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let refusal = String::from_utf8_lossy(&output.stderr);
        match answer["paid"] == 1 {
            true => Some(Some(true)),
            false if refusal.contains("slow_down") => None,
            false => Some(refusal.contains("stale_sequence").then_some(false)),
        }
    })
}

#[test]
fn a_super_that_is_killed_twenty_times_under_claims_loses_and_doubles_nothing() {
    const CLAIMS: u64 = 4;
    let folder = tempfile::tempdir().unwrap();
    let site = Site::of_super(folder.path(), "super-1", 500, RULE);
    let claimers: Vec<Site> =
        (1..=2).map(|i| Site::of_follower(folder.path(), &format!("claimer-{i}"), &site)).collect();
    let mut process = site.start();
    let followers: Vec<_> = claimers.iter().map(Site::start).collect();
    for claimer in &claimers {
        // Enough for all claims: none may ask too much.
        until("pay", || member(&site.api, &claimer.name).filter(|m| m["earned"].as_i64() >= Some(80)));
    }
    let (mut answered, mut unanswered) = (0, 0);
    for kill in 0..20 {
        // Claims go out while the process dies.
        let first = kill * CLAIMS + 1;
        let racing: Vec<_> = claimers
            .iter()
            .map(|claimer| {
                let (claimer, api) = (claimer.clone(), site.api.clone());
                std::thread::spawn(move || {
                    let claims = (first..first + CLAIMS).map(|sequence| (sequence, claim(&claimer, &api, sequence)));
                    claims.collect::<Vec<_>>()
                })
            })
            .collect();
        let before = round(&site.api);
        if kill % 3 == 0 {
            // Some die in the middle of a settlement, some in the middle of a claim, some between.
            until("a settlement", || (round(&site.api) > before).then_some(()));
        }
        process.signal(Signal::KILL);
        process.ends();
        let outcomes: Vec<_> = racing.into_iter().map(|thread| thread.join().unwrap()).collect();
        process = site.start();
        let after = get(&site.api, "/v1/status")["round"].as_u64().unwrap();
        assert!(after >= before, "round {before} was settled before kill {kill}, and the last one is {after} after it");
        for (claimer, outcomes) in claimers.iter().zip(outcomes) {
            for (sequence, outcome) in outcomes {
                match outcome {
                    Some(paid) => {
                        assert!(paid, "{}: sequence {sequence} was new", claimer.name);
                        answered += 1;
                        // What was acknowledged is not forgotten: the sequence is used up.
                        assert_eq!(claim(claimer, &site.api, sequence), Some(false), "{}: {sequence}", claimer.name);
                    }
                    // Nobody knows: asking again settles it, and pays once in either case.
                    None => {
                        unanswered += 1;
                        claim(claimer, &site.api, sequence).unwrap();
                    }
                }
            }
        }
    }
    let now = round(&site.api);
    settled(&site.api, now + 2);
    for claimer in &claimers {
        let shown = member(&site.api, &claimer.name).unwrap();
        assert_eq!(shown["wallet"], 20 * CLAIMS, "one point for each sequence: {shown}");
        assert_eq!((shown["standing"].as_str(), shown["strikes"].as_u64()), (Some("good"), Some(0)), "{shown}");
    }
    assert!(answered > 10 && unanswered > 10, "{answered} claims were answered, {unanswered} were not");
    books_close(&site.api);
    drop(followers);
}

/// The sum over treasury, earned and wallets is zero, as anyone can add it up from the API.
pub fn books_close(api: &str) {
    let status = get(api, "/v1/accounts/treasury");
    let treasury = status["balance"].as_i64().unwrap();
    let rewards = get(api, "/v1/rewards?limit=1000");
    let mut sum = treasury;
    for line in rewards["rewards"].as_array().unwrap() {
        sum += line["earned"].as_i64().unwrap();
        let key = line["node"].as_str().unwrap();
        sum += get(api, &format!("/v1/accounts/{key}"))["wallet"].as_i64().unwrap_or(0);
    }
    assert_eq!(sum, 0, "the books do not close");
}
