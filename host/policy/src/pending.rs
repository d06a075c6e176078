//! The two default rules as native code behind the room's signatures, until the engine is here. Nothing outside this file
//! knows of it; it goes when `admit` takes components.

use std::fmt;
use std::sync::Arc;

use kernel::decide::{Call, Description, Judgement, LimitSettings, Policy, Reward, Run, Slot, Tariff, presence};
use kernel::id::Digest;

/// What admitted and prepared policies share.
#[derive(Clone, Debug, Default)]
pub struct Engine;

impl Engine {
    /// One a process.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new() -> Result<Self, EngineError> {
        Ok(Self)
    }
}

/// Why there is no engine.
#[derive(Debug)]
pub struct EngineError;

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no engine")
    }
}

impl std::error::Error for EngineError {}

/// Name and version of what runs policies.
#[must_use]
pub const fn engine_name() -> &'static str {
    "native"
}

/// One thing that is wrong with a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: &'static str,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub cure: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.check, self.what, self.cure)
    }
}

/// Everything that is wrong with a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

/// A component that may be staged.
#[derive(Clone)]
pub struct Admitted {
    /// Ready to run.
    pub policy: Prepared,
    /// Digest of its bytes.
    pub component: Digest,
    /// Digest of its config.
    pub config_digest: Digest,
    /// Its identity.
    pub digest: Digest,
    /// What it says of itself.
    pub description: Description,
}

/// A policy that can run.
#[derive(Clone, Debug)]
pub struct Prepared {
    description: Arc<Description>,
}

impl Prepared {
    /// The same under other limits.
    #[must_use]
    pub fn with_limits(self, _limits: LimitSettings) -> Self {
        self
    }
}

/// Checks a component.
///
/// # Errors
/// [`Findings`].
pub fn admit(
    _engine: &Engine,
    slot: Slot,
    bytes: &[u8],
    config: &str,
    _limits: &LimitSettings,
) -> Result<Admitted, Findings> {
    let name = match bytes {
        b"builtin:reward-flat" => "reward-flat",
        b"builtin:ban-strikes" => "ban-strikes",
        _ => {
            let what = "this is no component".to_owned();
            return Err(Findings(vec![Finding { check: "component", what, cure: "build it first".into() }]));
        }
    };
    let description = Description {
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        memory_bytes: 0,
        memory_schema: String::new(),
        reasons: vec!["missed turns".to_owned()],
        extra: Vec::new(),
    };
    let _ = slot;
    let (component, config_digest) = (Digest::of(bytes), Digest::of(config.as_bytes()));
    Ok(Admitted {
        policy: Prepared { description: Arc::new(description.clone()) },
        component,
        config_digest,
        digest: Digest::of_policy(component, config_digest),
        description,
    })
}

fn number(config: &str, name: &str) -> u64 {
    let at =
        config.find(&format!("\"{name}\":")).map_or("", |at| config.get(at + name.len() + 3..).unwrap_or_default());
    at.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_default()
}

impl Policy for Prepared {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        let points = number(call.config, "points_per_round") as i64;
        let points: Vec<i64> =
            call.members.presence.iter().map(|p| if *p == presence::UP { points } else { 0 }).collect();
        let reasons = vec![0; points.len()];
        Run::native(Ok(Reward { points, reasons, memory: Vec::new(), tariff: Tariff::default() }))
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        let [warn, suspend, ban, rounds] =
            ["warn", "suspend", "ban", "ban_rounds"].map(|name| number(call.config, name));
        let mut judged = Judgement::default();
        for (presence, strikes) in call.members.presence.iter().zip(&call.members.strikes) {
            let strikes = match *presence {
                presence::UP => 0,
                presence::DOWN => strikes.saturating_add(1),
                _ => *strikes,
            };
            let worth = u64::from(strikes);
            let (standing, until) = match worth {
                _ if worth >= ban => (3, rounds as u32),
                _ if worth >= suspend => (2, 1),
                _ if worth >= warn => (1, 0),
                _ => (0, 0),
            };
            judged.strikes.push(if standing == 3 { 0 } else { strikes });
            judged.standing.push(standing);
            judged.until.push(until);
            judged.reasons.push(u16::from(standing > 0));
        }
        Run::native(Ok(judged))
    }
}
