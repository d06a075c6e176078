use super::*;

const BAN: &[u8] = include_bytes!("../../../../plugins/prebuilt/ban-strikes.wasm");
const REWARD: &[u8] = include_bytes!("../../../../plugins/prebuilt/reward-flat.wasm");

fn play(slot: Slot, text: &str) -> Vec<Played> {
    let engine = Engine::new().unwrap();
    let component = if slot == Slot::Ban { BAN } else { REWARD };
    cases(text).unwrap().iter().map(|case| case.play(&engine, slot, component).unwrap()).collect()
}

#[test]
fn a_life_is_played_through_the_hosts_own_rules() {
    let played = play(
        Slot::Ban,
        r#"
        [[case]]
        name = "a ban, and the way back"
        config = { warn = 1, suspend = 2, ban = 3, ban_rounds = 4 }
        rounds = ["+-+ x 3", "++? x 4", "+++ x 2"]
        expect.standing = ["good", "probation", "good"]
        expect.strikes = [0, 0, 0]

        [[case]]
        name = "the third miss bans through round 7"
        config = { warn = 1, suspend = 2, ban = 3, ban_rounds = 4 }
        rounds = ["+-", "+?", "!+-", "+-", "+-"]
        expect.standing = ["good", "banned"]
        expect.until = [0, 9]
        expect.reason = ["", "banned for 4 rounds after 3 misses in a row"]
        "#,
    );
    for case in &played {
        assert!(case.passed(), "{case:?}");
    }
}

#[test]
fn points_are_those_of_the_ledger() {
    let played = play(
        Slot::Reward,
        r#"
        [[case]]
        name = "who answers is paid"
        config = { points_per_round = 7, min_age_rounds = 2 }
        rounds = ["+-? x 3", "!+-?"]
        start.age = [5, 5, 5]
        start.earned = 100
        expect.points = [28, 0, 0]
        "#,
    );
    assert!(played[0].passed(), "{played:?}");
}

#[test]
fn what_differs_is_told_member_by_member() {
    let played = play(
        Slot::Ban,
        "[[case]]\nname = \"wrong\"\nrounds = [\"+-\", \"+-\"]\nexpect.standing = [\"good\", \"good\"]\nexpect.strikes = [0, 1]\n",
    );
    assert_eq!(
        played[0].differences,
        ["member 2: standing should be good, but is warned", "member 2: strikes should be 1, but is 2"]
    );
}

#[test]
fn a_case_may_have_settings_of_its_own() {
    let case = |settings: &str| {
        let text = format!(
            "[[case]]\nname = \"c\"\nconfig = {{ warn = 1, suspend = 1, ban = 1, ban_rounds = 1 }}\nrounds = [\"-\", \"-\", \"+ x 3\"]\n\
             settings = {settings}\nexpect.standing = [\"good\"]\n"
        );
        cases(&text).unwrap()[0].play(&Engine::new().unwrap(), Slot::Ban, BAN)
    };
    assert!(case("{ \"guardrails.probation_rounds\" = 1 }").unwrap().passed());
    assert!(!case("{ \"guardrails.probation_rounds\" = 9 }").unwrap().passed());
    let error = case("{ \"guardrails.probation\" = 9 }").unwrap_err().to_string();
    assert!(error.contains("guardrails.probation"), "{error}");
}

#[test]
fn a_file_that_is_wrong_says_where() {
    let case = |text: &str| cases(&format!("[[case]]\nname = \"c\"\n{text}\n")).unwrap_err().to_string();
    for (text, said) in [
        ("rounds = [\"+\"]", "missing field `expect`"),
        ("rounds = [\"+\"]\nexpect.standing = [\"fine\"]", "`fine` is no standing; they are good"),
        ("rounds = [\"+\"]\nexpect.strikes = [1, 2]", "one value for each of the 1 members"),
        ("rounds = [\"+\", \"+-\"]\nexpect.strikes = [0]", "other members than the first round's 1"),
        ("rounds = [\"+*\"]\nexpect.strikes = [0, 0]", "`*` is none of + - ?"),
        ("rounds = [\"+ x many\"]\nexpect.strikes = [0]", "how often"),
        ("rounds = [\"+ x 200000\"]\nexpect.strikes = [0]", "at most 100000 rounds"),
        ("rounds = []\nexpect.strikes = []", "a letter for each member"),
        ("rounds = [\"+\"]\nstart.age = [1, 2]\nexpect.strikes = [0]", "`start`: a list has one value"),
        ("rounds = [\"+\"]\nexpect = {}", "`expect` says nothing"),
        ("rounds = [\"+\"]\nexpct.strikes = [0]", "unknown field `expct`"),
    ] {
        let error = case(text);
        assert!(error.contains(said), "{text}: {error}");
    }
    let engine = Engine::new().unwrap();
    let fraction =
        cases("[[case]]\nname = \"c\"\nconfig = { warn = 1.5 }\nrounds = [\"+\"]\nexpect.strikes = [0]\n").unwrap();
    let error = fraction[0].play(&engine, Slot::Ban, BAN).unwrap_err().to_string();
    assert!(error.contains("the fraction 1.5"), "{error}");
}
