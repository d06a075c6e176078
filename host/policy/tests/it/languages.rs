//! Rules in C and JavaScript decide what the same rules in Rust do, over random rounds that carry their memory.

use std::sync::OnceLock;

use kernel::decide::{Description, Policy as _, Slot};
use kernel::records::review::{Review, Reviewed};
use policy::{Admitted, BuildError, BuildOptions, Language, build, project};
use proptest::prelude::*;

use crate::cookbook_a::{COSMOS_WINDOW, RIPE_ATLAS, admitted, judges_as, rounds, settles_as};
use crate::native;

const COSMOS_WINDOW_C: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/cosmos-window-c.wasm");
const RIPE_ATLAS_JS: &[u8] = include_bytes!("../../../../plugins/prebuilt/cookbook/ripe-atlas-js.wasm");

/// Compiling the interpreter takes seconds: once for each config.
fn ripe_atlas_js() -> &'static [(&'static str, Admitted)] {
    static ADMITTED: OnceLock<Vec<(&str, Admitted)>> = OnceLock::new();
    ADMITTED.get_or_init(|| {
        let configs = ["{}", r#"{"anchor_class":2,"anchor_factor":4,"credits_per_minute":600,"post_secs":0}"#];
        configs.map(|config| (config, admitted(Slot::Reward, RIPE_ATLAS_JS, config))).into()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn cosmos_window_in_c_judges_as_in_rust(
        rounds in rounds(),
        window in 1..30_u16,
        min_signed_bp in 0..=10_000_u16,
        jail_secs in 0..60_u8,
    ) {
        let config = format!(r#"{{"jail_secs":{jail_secs},"min_signed_bp":{min_signed_bp},"window":{window}}}"#);
        for config in [&config, "{}"] {
            let component = admitted(Slot::Ban, COSMOS_WINDOW_C, config);
            judges_as::<cosmos_window::Window>(&component, config, &rounds)?;
        }
    }

    #[test]
    fn ripe_atlas_in_javascript_pays_as_in_rust(rounds in rounds()) {
        for (config, component) in ripe_atlas_js() {
            settles_as::<ripe_atlas::Credits>(component, config, &rounds)?;
        }
    }
}

#[test]
fn they_say_the_same_of_themselves_but_for_the_name() {
    let renamed = |description: &Description, name: &str| Description { name: name.into(), ..description.clone() };
    let hub = r#"{"jail_secs":600,"min_signed_bp":500,"window":10000}"#;
    for config in ["{}", hub] {
        let (rust, c) = (admitted(Slot::Ban, COSMOS_WINDOW, config), admitted(Slot::Ban, COSMOS_WINDOW_C, config));
        assert_eq!(c.description, renamed(&rust.description, "cosmos-window-c"));
    }
    for (config, js) in ripe_atlas_js() {
        let rust = admitted(Slot::Reward, RIPE_ATLAS, config);
        assert_eq!(js.description, renamed(&rust.description, "ripe-atlas-js"));
    }
}

#[test]
fn a_config_is_refused_in_the_same_words() {
    let refusal = |slot: Slot, component: &[u8], config: &str| {
        let limits = crate::guests::limits();
        policy::admit(crate::guests::engine(), slot, component, config, &limits).unwrap_err().to_string()
    };
    for config in [
        r#"{"window":0}"#,
        r#"{"window":-1}"#,
        r#"{"window":1.5}"#,
        r#"{"window":18446744073709551616}"#,
        r#"{"window":"9"}"#,
        r#"{"window":null}"#,
        r#"{"window":true}"#,
        r#"{"window":[1,{"a":"\u00fc\ud83d\ude00"}]}"#,
        r#"{"window":{}}"#,
    ] {
        let said = refusal(Slot::Ban, COSMOS_WINDOW_C, config);
        assert!(said.contains("`window` is"), "{said}");
        assert_eq!(said, refusal(Slot::Ban, COSMOS_WINDOW, config), "{config}");
    }
    let said = refusal(Slot::Ban, COSMOS_WINDOW_C, r#"{"windw":9}"#);
    assert!(said.contains("unknown key `windw`; it knows `window`, `min_signed_bp`, `jail_secs`"), "{said}");
    let said = refusal(Slot::Reward, RIPE_ATLAS_JS, r#"{"credits_per_minute":7}"#);
    assert_eq!(said, refusal(Slot::Reward, RIPE_ATLAS, r#"{"credits_per_minute":7}"#));
}

/// The template in C, if the tool is here.
fn template_in_c(slot: Slot) -> Option<Admitted> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("rule");
    project(&dir, "rule", slot, Language::C).unwrap();
    match build(&dir, None, &BuildOptions::default()) {
        Ok(built) => Some(admitted(slot, &std::fs::read(built.path).unwrap(), "{}")),
        Err(error @ BuildError::NoTool { .. }) => {
            eprintln!("!!! SKIPPED: the template in C was NOT compared with the one in Rust: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_templates_in_c_decide_as_those_in_rust() {
    let (Some(ban), Some(reward)) = (template_in_c(Slot::Ban), template_in_c(Slot::Reward)) else { return };
    proptest!(ProptestConfig::with_cases(12), |(rounds in rounds())| {
        judges_as::<my_ban_rule::Rule>(&ban, "{}", &rounds)?;
        settles_as::<my_reward_rule::Rule>(&reward, "{}", &rounds)?;
    });
}

#[test]
fn the_signing_template_in_c_knows_text_as_the_one_in_rust_does() {
    let Some(signing) = template_in_c(Slot::Signing) else { return };
    let (context, sample) = kernel::records::review::sample();
    // First and last bytes of every kind of character, and what is next to them.
    let firsts =
        [0x00, 0x41, 0x7f, 0x80, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf4, 0xf5];
    let seconds = [0x00_u8, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0];
    let mut bodies = vec![Vec::new(), b"more than eight".to_vec()];
    for first in firsts {
        for second in seconds {
            bodies.extend([
                vec![first],
                vec![first, second],
                vec![first, second, 0x80],
                vec![first, second, 0xbf, 0x80],
            ]);
        }
    }
    for bodies in bodies.chunks(100) {
        let records: Vec<_> = bodies.iter().map(|body| Reviewed { body, ..sample[0] }).collect();
        for config in ["{}", r#"{"limit":3}"#] {
            let review = Review { config, context, records: &records };
            let codes = signing.policy.review(&review).result.unwrap();
            assert_eq!(codes, native::review::<my_signing_rule::Rule>(&review).unwrap(), "{bodies:02x?}");
        }
    }
}
