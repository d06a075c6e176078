//! What wit-bindgen makes of `wit/policy.wit`. All worlds share one set of types.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code"
)]

pub mod reward {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "reward-policy",
        pub_export_macro: true,
        export_macro_name: "export_world",
        additional_derives: [PartialEq, Eq],
    });
}

pub mod ban {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "ban-policy",
        pub_export_macro: true,
        export_macro_name: "export_world",
        additional_derives: [PartialEq, Eq],
        with: {
            "pingward:policy/types@1.0.0": crate::bindings::reward::pingward::policy::types,
            "pingward:policy/log@1.0.0": crate::bindings::log,
        },
    });
}

pub mod signing {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "signing-policy",
        pub_export_macro: true,
        export_macro_name: "export_world",
        // What it imports stands in the section of the first world already. The helper would put a word into every component,
        // and so change the bytes of those that sign nothing.
        disable_custom_section_link_helpers: true,
        additional_derives: [PartialEq, Eq],
        with: {
            "pingward:policy/types@1.0.0": crate::bindings::reward::pingward::policy::types,
            "pingward:policy/log@1.0.0": crate::bindings::log,
        },
    });
}

pub use reward::pingward::policy::log;

/// All records, whichever interface they stand in.
pub mod types {
    pub use super::ban::exports::pingward::policy::ban::Judgement;
    pub use super::reward::exports::pingward::policy::reward::{Settlement, Tariff};
    pub use super::reward::pingward::policy::types::*;
    pub use super::signing::exports::pingward::policy::signing::{Context, Record};
}
