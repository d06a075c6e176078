//! Write a pingward policy in Rust: a rule is a type with a config, and a function from one round's rows to one round's
//! decisions; of a signing rule ([`SigningPolicy`]) from a batch of records to what becomes of each.
//!
//! ```
//! use pingward_sdk::{
//!     About, BanPolicy, Config, Judgement, Members, Memory, Policy, Presence, Round, Standing, Verdict, reasons,
//! };
//!
//! /// Suspends whoever misses `limit` rounds in a row.
//! pub struct Rule {
//!     limit: u16,
//! }
//!
//! reasons! {
//!     /// Why a member stands where it stands.
//!     pub enum Why of rule: &Rule {
//!         Missed: format!("missed {} rounds in a row", rule.limit),
//!     }
//! }
//!
//! impl Policy for Rule {
//!     fn configure(config: &mut Config) -> Result<Self, String> {
//!         Ok(Self { limit: config.integer("limit", 3, 1..=1_000)? as u16 })
//!     }
//!
//!     fn about(&self) -> About {
//!         About::new("my-ban-rule", "0.1.0").reasons(Why::texts(self))
//!     }
//! }
//!
//! impl BanPolicy for Rule {
//!     fn judge(&self, _round: &Round, members: &Members<'_>, _memory: &mut Memory) -> Result<Judgement, String> {
//!         Ok(Judgement::each(members, |row| match row.presence {
//!             Presence::Unknown => Verdict::stay(&row),
//!             Presence::Up => Verdict::new(Standing::Good),
//!             Presence::Down if row.strikes + 1 < self.limit => Verdict::stay(&row).strikes(row.strikes + 1),
//!             Presence::Down => {
//!                 Verdict::new(Standing::Suspended).strikes(row.strikes + 1).until(1).because(Why::Missed)
//!             }
//!         }))
//!     }
//! }
//!
//! pingward_sdk::export_ban!(Rule);
//! ```
//!
//! `pingward policy build DIR` makes the component. [`testing`] runs the same type natively, without any WebAssembly.
//!
//! Rules to live by: the same inputs must give the same answer, and the answer must not depend on the order of the rows.
//! Use integers ([`fixed`] has fractions), `BTreeMap` for maps, and treat an unknown presence as no news at all.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )
)]

pub mod config;
mod decision;
#[doc(hidden)]
pub mod export;
pub mod fixed;
#[cfg(any(target_arch = "wasm32", test))]
mod heap;
mod json;
pub mod log;
mod members;
mod memory;
mod reason;
mod records;
mod review;
pub mod testing;
mod wellformed;

#[doc(hidden)]
pub mod bindings;

pub use bindings::types;
pub use bindings::types::{Column, Context, Round, Tariff};
pub use config::Config;
pub use decision::{Judgement, Pay, Settlement, Verdict};
pub use members::{Members, Presence, Row, Standing, fact, flag};
pub use memory::Memory;
pub use reason::{Reason, Reasons};
pub use records::{Record, Records};
pub use review::Review;

/// A rule with its config.
pub trait Policy: Sized {
    /// Reads the config. Keys that are not asked for are refused after this returns.
    ///
    /// # Errors
    /// What is wrong with the config and how to mend it, in one line.
    fn configure(config: &mut Config) -> Result<Self, String>;

    /// What the rule says of itself under this config.
    fn about(&self) -> About;
}

/// A rule that gives points.
pub trait RewardPolicy: Policy {
    /// Decides one round.
    ///
    /// # Errors
    /// A fault: nobody gets points in this round. For what must not happen.
    fn settle(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Settlement, String>;
}

/// A rule that judges standing.
pub trait BanPolicy: Policy {
    /// Judges one round.
    ///
    /// # Errors
    /// A fault: everybody's standing stays as it is. For what must not happen.
    fn judge(&self, round: &Round, members: &Members<'_>, memory: &mut Memory) -> Result<Judgement, String>;
}

/// A rule that says which records are signed. It runs on every validator, on the same records with the same context.
///
/// ```
/// use pingward_sdk::{About, Config, Context, Policy, Record, Records, Review, SigningPolicy, reasons};
///
/// /// Signs what is not empty.
/// pub struct Rule;
///
/// reasons! {
///     /// Why a record is not signed.
///     pub enum Why of rule: &Rule {
///         Empty: "the body is empty",
///     }
/// }
///
/// impl Policy for Rule {
///     fn configure(_: &mut Config) -> Result<Self, String> {
///         Ok(Self)
///     }
///
///     fn about(&self) -> About {
///         About::new("my-signing-rule", "0.1.0").reasons(Why::texts(self))
///     }
/// }
///
/// impl SigningPolicy for Rule {
///     fn review(&self, _context: &Context, records: &Records<'_>) -> Result<Review, String> {
///         Ok(Review::each(records, |record| if record.body.is_empty() { Err(Why::Empty) } else { Ok(()) }))
///     }
/// }
///
/// pingward_sdk::export_signing!(Rule);
/// ```
pub trait SigningPolicy: Policy {
    /// Reviews the records of one batch.
    ///
    /// # Errors
    /// A fault: the host asks again, record by record, and refuses those at which it fails. For what must not happen.
    fn review(&self, context: &Context, records: &Records<'_>) -> Result<Review, String>;
}

/// What a rule says of itself: name and version, and what else it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    name: String,
    version: String,
    memory_bytes: u32,
    memory_schema: String,
    reasons: Vec<String>,
    extra: Vec<String>,
}

impl About {
    /// A rule without memory and reasons.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            memory_bytes: 0,
            memory_schema: String::new(),
            reasons: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Remembers so many bytes of each member. Give `schema` a new name whenever the meaning of the bytes changes. Not of a
    /// signing rule: it remembers nothing.
    #[must_use]
    pub fn memory(mut self, bytes: u32, schema: &str) -> Self {
        self.memory_bytes = bytes;
        self.memory_schema = schema.into();
        self
    }

    /// Says why it decides so: the texts of the rule's own [`reasons!`] enum.
    #[must_use]
    pub fn reasons(mut self, texts: Vec<String>) -> Self {
        self.reasons = texts;
        self
    }

    /// Asks for an extra column, which [`Members::extra`] then has under the same name.
    #[must_use]
    pub fn extra(mut self, name: &str) -> Self {
        self.extra.push(name.into());
        self
    }

    /// Bytes that it remembers of each member.
    #[must_use]
    pub const fn memory_bytes(&self) -> u32 {
        self.memory_bytes
    }

    pub(crate) fn into_description(self) -> types::Description {
        types::Description {
            name: self.name,
            version: self.version,
            memory_bytes: self.memory_bytes,
            memory_schema: self.memory_schema,
            reasons: self.reasons,
            extra: self.extra,
        }
    }
}

/// Makes a component of the world `ban-policy` of a type that is a [`BanPolicy`]. Once in a crate; natively it does
/// nothing.
#[macro_export]
macro_rules! export_ban {
    ($rule:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::{ban, types};
            struct Component;
            impl ban::exports::pingward::policy::ban::Guest for Component {
                fn describe(config: String) -> Result<types::Description, String> {
                    $crate::export::describe::<$rule>(&config)
                }
                fn judge(
                    config: String,
                    round: types::Round,
                    members: types::Members,
                    memory: Vec<u8>,
                ) -> Result<types::Judgement, String> {
                    $crate::export::judge::<$rule>(&config, &round, &members, memory)
                }
            }
    ban::export_world!(Component with_types_in ban);
        };
    };
}

/// Makes a component of the world `reward-policy` of a type that is a [`RewardPolicy`]. Once in a crate; natively it
/// does nothing.
#[macro_export]
macro_rules! export_reward {
    ($rule:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::{reward, types};
            struct Component;
            impl reward::exports::pingward::policy::reward::Guest for Component {
                fn describe(config: String) -> Result<types::Description, String> {
                    $crate::export::describe::<$rule>(&config)
                }
                fn settle(
                    config: String,
                    round: types::Round,
                    members: types::Members,
                    memory: Vec<u8>,
                ) -> Result<types::Settlement, String> {
                    $crate::export::settle::<$rule>(&config, &round, &members, memory)
                }
            }
    reward::export_world!(Component with_types_in reward);
        };
    };
}

/// Makes a component of the world `signing-policy` of a type that is a [`SigningPolicy`]. Once in a crate; natively it does
/// nothing.
#[macro_export]
macro_rules! export_signing {
    ($rule:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::{signing, types};
            struct Component;
            impl signing::exports::pingward::policy::signing::Guest for Component {
                fn describe(config: String) -> Result<types::Description, String> {
                    $crate::export::describe::<$rule>(&config)
                }
                fn review(
                    config: String,
                    records: Vec<types::Record>,
                    context: types::Context,
                ) -> Result<Vec<u16>, String> {
                    $crate::export::review::<$rule>(&config, &records, &context)
                }
            }
    signing::export_world!(Component with_types_in signing);
        };
    };
}
