use super::*;

fn policies() -> Value {
    let replicas = json!([
        { "node": "8a88e3dd00", "name": "super-1", "state": "ready", "why": null },
        { "node": "9b99e3dd00", "name": null, "state": "failed", "why": "compile: no memory" },
    ]);
    let policy = |digest: &str, state: &str| json!({ "digest": digest, "name": "strict", "version": "0.2.0", "state": state, "replicas": replicas });
    json!({ "slots": {
        "reward": { "active": null, "previous": null, "shadow": null, "staged": [], "scheduled": null },
        "signing": { "active": null, "previous": null, "shadow": null, "staged": [], "scheduled": null },
        "ban": { "active": policy("sha256:aaaaaaaa11", "active"), "previous": null, "shadow": null,
            "staged": [policy("sha256:bbbbbbbb22", "staged")], "scheduled": null },
    } })
}

#[test]
fn the_status_has_a_line_for_each_super_and_policy() {
    assert_eq!(
        status_text(&policies()),
        "slot  place   name    version  digest    node      state   why\n\
         ban   active  strict  0.2.0    aaaaaaaa  super-1   ready   -\n\
         ban   active  strict  0.2.0    aaaaaaaa  9b99e3dd  failed  compile: no memory\n\
         ban   staged  strict  0.2.0    bbbbbbbb  super-1   ready   -\n\
         ban   staged  strict  0.2.0    bbbbbbbb  9b99e3dd  failed  compile: no memory\n"
    );
}

#[test]
fn a_policy_is_found_by_eight_digits_or_by_the_name_of_the_one_that_waits() {
    let mut policies = policies();
    let staged = Ok((Slot::Ban, "sha256:bbbbbbbb22".to_string()));
    assert_eq!(only(&policies, "BBBBBBBB"), staged);
    assert_eq!(only(&policies, "strict"), staged);
    assert_eq!(only(&policies, "sha256:aaaaaaaa").unwrap().1, "sha256:aaaaaaaa11");
    for nothing in ["bbbb", "lenient", ""] {
        assert!(only(&policies, nothing).unwrap_err().what.starts_with("no policy has the digest"), "{nothing}");
    }
    let another = policies["slots"]["ban"]["staged"][0].clone();
    let staged = policies["slots"]["ban"]["staged"].as_array_mut().unwrap();
    staged.push(another);
    staged[1]["digest"] = json!("sha256:cccccccc33");
    let two = only(&policies, "strict").unwrap_err();
    assert!(two.what.contains("bbbbbbbb22") && two.what.contains("cccccccc33"), "{two}");
}

#[test]
fn the_status_of_a_signing_rule_has_its_validators_too() {
    let node = |name: &str, state: &str| json!({ "node": "8a88e3dd00", "name": name, "state": state, "why": null });
    let policy = json!({ "digest": "sha256:aaaaaaaa11", "name": "basic", "version": "0.1.0", "state": "active",
        "replicas": [node("super-1", "ready")], "validators": [node("validator-1", "waiting")] });
    let answer = json!({ "slots": { "signing": { "active": policy, "staged": [] } } });
    assert_eq!(
        status_text(&answer),
        "slot     place   name   version  digest    node         state    why\n\
         signing  active  basic  0.1.0    aaaaaaaa  super-1      ready    -\n\
         signing  active  basic  0.1.0    aaaaaaaa  validator-1  waiting  -\n"
    );
}

#[test]
fn what_a_shadow_would_do_is_told_in_words() {
    let sums = |points: i64, banned: u64| json!({ "points": points, "warned": 1, "suspended": 0, "banned": banned, "held": 0, "clamped": 0, "faults": 0 });
    let mut shadow = json!({
        "since_round": 9, "round": 12, "rounds": 3, "rounds_otherwise": 1, "first_difference": 11, "members_otherwise": 2,
        "active": sums(90, 0), "shadow": sums(60, 1), "fault": null, "returned": null, "late": false, "waits": false,
        "members": [{ "node": "8a88e3dd7409", "name": "follower-1", "first_difference": 11, "standing": "warned",
            "shadow_standing": "banned", "points": 20, "shadow_points": 0, "shadow_reason": "too many misses" }],
    });
    assert_eq!(
        shadow_text(Slot::Ban, Some(&shadow)),
        "3 rounds, 10 to 12: 1 of them otherwise for somebody, first 11\n\
         \x20         points  warned  suspended  banned  held  clamped  faults\n\
         active    90      1       0          0       0     0        0\n\
         it would  60      1       0          1       0     0        0\n\
         node      name        since round  stands  would stand  points  would have  why\n\
         8a88e3dd  follower-1  11           warned  banned       20      0           too many misses\n\
         and 1 more\n"
    );
    shadow["members"] = json!([]);
    shadow["waits"] = json!(true);
    let text = shadow_text(Slot::Ban, Some(&shadow));
    assert!(text.contains("it waits: ") && text.ends_with("nobody would be paid or placed otherwise\n"), "{text}");
    assert!(shadow_text(Slot::Ban, Some(&Value::Null)).starts_with("no policy runs beside the active ban rule"));
}
