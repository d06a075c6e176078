use super::*;

const KEY: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

#[test]
fn members_are_shown_with_what_is_not_known_as_a_dash() {
    let answer = json!({ "members": [
        { "node": KEY, "name": "super-1", "address": "10.0.0.1:7001", "replica": 0, "seat": 0, "state": "voter",
          "leader": true, "lag": 0, "reachable": true },
        { "node": KEY, "name": null, "address": "10.0.0.2:7001", "replica": 17, "seat": null, "state": "learner",
          "leader": false, "lag": null, "reachable": null },
    ] });
    assert_eq!(
        members_text(&answer),
        "\
name     key       seat  state    leads  lacks  answers  replica  address
super-1  8a88e3dd  0     voter    yes    0      yes      0        10.0.0.1:7001
-        8a88e3dd  -     learner  no     -      -        17       10.0.0.2:7001
"
    );
}

#[test]
fn a_super_is_added_by_key_and_address() {
    let added = named(&format!("{KEY}@[::1]:7001")).unwrap();
    assert_eq!((added.key.to_string(), added.address.as_str()), (KEY.into(), "[::1]:7001"));
    for (text, why) in
        [("10.0.0.2:7001", "the key is missing"), ("abc@10.0.0.2:7001", "the key before @"), (KEY, "write host:port")]
    {
        let error = named(text).unwrap_err();
        assert!(error.starts_with(why) && error.contains("@host:port"), "{error}");
    }
}
