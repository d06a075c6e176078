use super::*;

const BAN: &[u8] = include_bytes!("../../../../plugins/prebuilt/ban-strikes.wasm");
const REWARD: &[u8] = include_bytes!("../../../../plugins/prebuilt/reward-flat.wasm");
const SIGNING: &[u8] = include_bytes!("../../../../plugins/prebuilt/sign-basic.wasm");

fn play(slot: Slot, text: &str) -> Vec<Played> {
    let engine = Engine::new().unwrap();
    let component = match slot {
        Slot::Ban => BAN,
        Slot::Reward => REWARD,
        Slot::Signing => SIGNING,
    };
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
        ("rounds = [\"+\"]\nexpect.standing = [\"fine\"]", "`fine` is no standing; there are good"),
        ("rounds = [\"+\"]\nexpect.strikes = [1, 2]", "one value for each of the 1 members"),
        ("rounds = [\"+\", \"+-\"]\nexpect.strikes = [0]", "other members than the first round's 1"),
        ("rounds = [\"+*\"]\nexpect.strikes = [0, 0]", "`*` is none of + - ?"),
        ("rounds = [\"+ x many\"]\nexpect.strikes = [0]", "how often"),
        ("rounds = [\"+ x 200000\"]\nexpect.strikes = [0]", "at most 100000 rounds"),
        ("rounds = []\nexpect.strikes = []", "say what happens: `rounds` has a letter for each member"),
        ("rounds = [\"\"]\nexpect.strikes = []", "a letter for each member"),
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

fn place_and_cure(text: &str) -> (Option<(usize, usize)>, Option<String>, String) {
    let error = cases(text).unwrap_err();
    (error.place(), error.cure().map(ToString::to_string), error.to_string())
}

#[test]
fn what_is_wrong_has_its_line_and_column_and_what_was_meant() {
    let head = "[[case]]\nname = \"c\"\n";
    for (text, place, cure, said) in [
        ("expct.strikes = [0]", (3, 1), Some("did you mean `expect`?"), "unknown field `expct`"),
        ("rounds = [\"+\"]\nstart.agee = 1\nexpect.strikes = [0]", (4, 7), Some("did you mean `age`?"), "`agee`"),
        ("rounds = [\"+\"]\nstart.age = \"old\"\nexpect.strikes = [0]", (4, 13), None, "or a list with one for each"),
        ("rounds = [\"+\"]\nstart.strikes = 70000\nexpect.strikes = [0]", (4, 17), None, "70000"),
        ("rounds = [\"+\",\n  \"*\"]\nexpect.strikes = [0]", (4, 3), None, "`*` is none of + - ?"),
        ("rounds = [\"+\"]\nexpect.standing = [\"baned\"]", (2, 8), None, "did you mean `banned`?"),
        ("rounds = [\"+\"]\nexpect.fault = \"trip\"", (2, 8), None, "did you mean `trap`?"),
        (
            "members = [\n  { },\n  { presence = \"dawn\" },\n]\nexpect.strikes = [0, 0]",
            (5, 16),
            Some("did you mean `down`?"),
            "`dawn`",
        ),
        (
            "members = [\n  { },\n  { facts = [\"absnt\"] },\n]\nexpect.strikes = [0, 0]",
            (5, 3),
            None,
            "did you mean `absent`?",
        ),
        ("members = [{ memory = \"0\" }]\nexpect.strikes = [0]", (3, 12), None, "`memory` is hex"),
        ("members = [{ }]\nrounds = [\"+\"]\nexpect.strikes = [0]", (2, 8), None, "and not both"),
        ("members = [{ }]\nstart.age = 1\nexpect.strikes = [0]", (2, 8), None, "`round.interval_ms`"),
        ("members = [{ }]\nround.seed = \"00\"\nexpect.strikes = [0]", (2, 8), None, "64 hex digits"),
        ("rounds = [\"+\"]\nround.number = 1\nexpect.strikes = [0]", (2, 8), None, "beside `members`"),
        ("rounds = [\"+\"]\nexpect.memory = [\"00\"]", (2, 8), None, "are of one call"),
        ("slot = \"bann\"\nmembers = [{ }]\nexpect.strikes = [0]", (2, 8), None, "did you mean `ban`?"),
        ("records = [{ body = \"a\" }]\nexpect.verdict = [\"sing\"]", (2, 8), None, "did you mean `sign`?"),
        (
            "records = [\n  { },\n]\nexpect.verdict = [\"sign\"]",
            (4, 3),
            None,
            "a record has a `body`, or bytes as `hex`",
        ),
        ("records = [{ hex = \"0\" }]\nexpect.verdict = [\"sign\"]", (3, 12), None, "two digits a byte"),
        ("records = [{ body = \"a\", hex = \"00\" }]\nexpect.verdict = [\"sign\"]", (3, 12), None, "and not both"),
        ("records = [{ body = \"a\", digest = \"00\" }]\nexpect.verdict = [\"sign\"]", (3, 12), None, "64 hex digits"),
        ("records = [{ body = \"a\", times = 65_537 }]\nexpect.verdict = [\"sign\"]", (3, 12), None, "at most 65536"),
        ("records = [{ bdy = \"a\" }]\nexpect.verdict = [\"sign\"]", (3, 14), Some("did you mean `body`?"), "`bdy`"),
        ("records = []\nexpect.verdict = []", (2, 8), None, "1 to 512"),
        ("records = [{ body = \"a\" }]\nexpect.verdict = []", (2, 8), None, "each of the 1 records"),
        ("records = [{ body = \"a\" }]\nexpect.standing = [\"good\"]", (2, 8), None, "of records there are verdict"),
        ("records = [{ body = \"a\" }]\nexpect = { }", (2, 8), None, "name verdict, reason or fault"),
        (
            "records = [{ body = \"a\" }]\nrounds = [\"+\"]\nexpect.verdict = [\"sign\"]",
            (2, 8),
            None,
            "one of them only",
        ),
        ("records = [{ body = \"a\" }]\nstart.age = 1\nexpect.verdict = [\"sign\"]", (2, 8), None, "`batch` says"),
        (
            "slot = \"ban\"\nrecords = [{ body = \"a\" }]\nexpect.verdict = [\"sign\"]",
            (2, 8),
            None,
            "of the slot signing",
        ),
        ("slot = \"signing\"\nrounds = [\"+\"]\nexpect.standing = [\"good\"]", (2, 8), None, "has `records`"),
        ("rounds = [\"+\"]\nexpect.verdict = [\"sign\"]", (2, 8), None, "`expect.verdict` is of records"),
        ("rounds = [", (3, 11), None, ""),
    ] {
        let (found, meant, error) = place_and_cure(&format!("{head}{text}\n"));
        assert_eq!((found, meant.as_deref()), (Some(place), cure), "{text}: {error}");
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn one_call_is_written_in_a_few_words() {
    let played = play(
        Slot::Ban,
        r#"
        [[case]]
        name = "the third miss suspends, the first warns nobody, and who answers is forgiven"
        members = [
            { name = "a", presence = "down", strikes = 2, facts = ["missed"] },
            { name = "b", presence = "down" },
            { strikes = 2, standing = "warned" },
            { presence = "unknown", strikes = 2, standing = "warned" },
            { presence = "down", strikes = 2, flags = ["maintenance"] },
        ]
        expect.standing = ["suspended", "good", "good", "warned", "good"]
        expect.strikes = [3, 1, 0, 2, 2]
        expect.fault = "none"

        [[case]]
        name = "what differs is told with the name"
        members = [{ name = "a", presence = "down", strikes = 2 }]
        expect.standing = ["good"]
        expect.until = [9]
        "#,
    );
    assert!(played[0].passed(), "{played:?}");
    let [standing, until] = played[1].differences.as_slice() else { panic!("{played:?}") };
    assert_eq!(standing, "member 1 (a): standing should be good, but is suspended");
    assert!(until.starts_with("member 1 (a): until should be 9, but is "), "{until}");
}

#[test]
fn a_call_of_the_reward_slot_has_points_and_a_tariff() {
    let played = play(
        Slot::Reward,
        r#"
        [[case]]
        name = "who is up is paid"
        slot = "reward"
        config = { points_per_round = 7 }
        members = [{ }, { presence = "down" }, { data = "0xffffffffffffffff" }]
        expect.points = [7, 0, 7]
        expect.tariff = { overclaim_bp = 1000, overclaim_min = 1, record_fee = 0, record_fee_kib = 0 }

        [[case]]
        name = "another tariff"
        members = [{ }]
        expect.tariff = { overclaim_bp = 1, overclaim_min = 1, record_fee = 0, record_fee_kib = 0 }

        [[case]]
        name = "a suspect round in which nobody else is paid"
        round = { suspect = true, number = 9 }
        members = [{ presence = "unknown" }]
        expect.points = [0]
        "#,
    );
    assert!(played[0].passed() && played[2].passed(), "{played:?}");
    assert!(played[1].differences[0].starts_with("the tariff should be { overclaim_bp = 1,"), "{played:?}");
}

#[test]
fn rows_that_do_not_fit_the_rule_say_so() {
    let case = |text: &str| {
        let text = format!("[[case]]\nname = \"c\"\n{text}\nexpect.strikes = [0]\n");
        cases(&text).unwrap()[0].play(&Engine::new().unwrap(), Slot::Ban, BAN).unwrap_err().to_string()
    };
    for (text, said) in [
        ("members = [{ memory = \"00\" }]", "`memory` has 1 bytes, and the rule remembers 0"),
        ("members = [{ extra = { \"observer.0.presence\" = 1 } }]", "the rule asks for no extra column"),
        ("slot = \"reward\"\nmembers = [{ }]", "it is of the slot reward, and the component fills the slot ban"),
    ] {
        let error = case(text);
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn a_batch_says_what_becomes_of_each_record() {
    let played = play(
        Slot::Signing,
        r#"
        [[case]]
        name = "short ones are signed"
        config = { max_bytes = 5 }
        records = [
            { body = "hello" },
            { name = "the long one", body = "hello", times = 2, author = "alice", sequence = 9, expires_ms = 7 },
            { hex = "00ff" },
        ]
        batch = { number = 3, round = 7, ordered_ms = 5, set_size = 9 }
        expect.verdict = ["sign", "refuse", "sign"]
        expect.reason = ["", "the body has more than 5 bytes: shorten it, or split it into several records", ""]
        expect.fault = "none"

        [[case]]
        name = "what differs is told with the name"
        slot = "signing"
        config = { json = true }
        records = [{ name = "the text", body = "hello" }, { body = "{}" }]
        expect.verdict = ["sign", "refuse"]
        expect.reason = ["", "no such"]

        [[case]]
        name = "a fault that does not come"
        records = [{ body = "" }]
        expect.fault = "trap"
        "#,
    );
    assert!(played[0].passed(), "{played:?}");
    let not_json = "the body is not well-formed JSON, and nothing else is signed here";
    assert_eq!(
        played[1].differences,
        [
            &format!("record 1 (the text): verdict should be sign, but is refuse: \"{not_json}\""),
            &format!("record 1 (the text): reason should be \"\", but is \"{not_json}\""),
            "record 2: verdict should be refuse, but is sign",
            "record 2: reason should be \"no such\", but is \"\"",
        ]
    );
    assert!(played[2].differences[0].starts_with("a fault of the kind trap should happen"), "{played:?}");
}

#[test]
fn a_record_at_which_a_rule_fails_is_named() {
    let text = "[[case]]\nname = \"c\"\nconfig = { json = true }\n\
                settings = { \"policy_limits.fuel_member\" = 0, \"policy_limits.fuel_base\" = 1_000_000 }\n\
                records = [{ body = \"{}\" }, { body = \"         \", times = 7_000 }]\n";
    let expected =
        "expect.verdict = [\"sign\", \"refuse\"]\nexpect.reason = [\"\", \"policy_fault\"]\nexpect.fault = \"fuel\"\n";
    for (expect, passes) in [(expected, true), ("expect.verdict = [\"sign\", \"refuse\"]\n", false)] {
        let played = play(Slot::Signing, &format!("{text}{expect}")).remove(0);
        assert_eq!(played.passed(), passes, "{played:?}");
        assert!(played.faults[0].starts_with("the batch: fuel"), "{played:?}");
        assert!(played.faults[1].starts_with("record 2 alone: fuel"), "{played:?}");
    }
}

#[test]
fn records_and_members_go_with_their_own_slots() {
    let said = |slot, component: &[u8], text: &str| {
        let text = format!("[[case]]\nname = \"c\"\n{text}");
        cases(&text).unwrap()[0].play(&Engine::new().unwrap(), slot, component).unwrap_err().to_string()
    };
    let records = "records = [{ body = \"a\" }]\nexpect.verdict = [\"sign\"]\n";
    assert!(said(Slot::Ban, BAN, records).contains("it is of the slot signing, and the component fills the slot ban"));
    let members = "members = [{ }]\nexpect.strikes = [0]\n";
    assert!(said(Slot::Signing, SIGNING, members).contains("give it `records` instead"));
}
