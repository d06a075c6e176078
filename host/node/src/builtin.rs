//! The default policies. They come with the binary as component bytes and are admitted, staged and activated like any
//! other: nothing in the node knows what they decide.

use kernel::decide::Slot;

/// A policy that comes with the binary.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// As in `builtin:NAME`.
    pub name: &'static str,
    /// The slot that it fills.
    pub slot: Slot,
    /// The component.
    pub component: &'static [u8],
    /// The config that it has where a file names none: JSON, keys sorted, no spaces.
    pub config: &'static str,
}

/// All of them: one for each slot, in the order of slots.
pub const ALL: [Builtin; Slot::ALL.len()] = [
    Builtin {
        name: "reward-flat",
        slot: Slot::Reward,
        component: include_bytes!("../../../plugins/prebuilt/reward-flat.wasm"),
        config: r#"{"points_per_round":10}"#,
    },
    Builtin {
        name: "ban-strikes",
        slot: Slot::Ban,
        component: include_bytes!("../../../plugins/prebuilt/ban-strikes.wasm"),
        config: r#"{"ban":5,"ban_rounds":60,"suspend":3,"warn":2}"#,
    },
    Builtin {
        name: "sign-basic",
        slot: Slot::Signing,
        component: include_bytes!("../../../plugins/prebuilt/sign-basic.wasm"),
        config: r#"{"max_bytes":65536}"#,
    },
];

/// The one of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|builtin| builtin.name == name)
}

/// The last resort of a slot.
#[must_use]
pub const fn of(slot: Slot) -> &'static Builtin {
    let [reward, ban, signing] = &ALL;
    match slot {
        Slot::Reward => reward,
        Slot::Ban => ban,
        Slot::Signing => signing,
    }
}
