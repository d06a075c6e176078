//! What a node counts. Every metric's name is in this file, and each one has a place that moves it.
//!
//! Counters rise where a thing happens. Gauges that can be read from state (members, queue, rounds, treasury) are set when
//! somebody asks for `/metrics`, so that they cannot drift from what the API says.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use kernel::decide::{FaultKind, Slot};
use kernel::round::cause;
use kernel::standing::Standing;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From 50 µs to 26 s: a policy call, a settlement, a commit, a request.
const SECONDS: [f64; 10] = [0.000_05, 0.000_2, 0.000_8, 0.003_2, 0.012_8, 0.051_2, 0.204_8, 0.819_2, 3.276_8, 13.107_2];

/// How a ping ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pong {
    /// A valid answer in its window, or the member's own ping.
    Kept,
    /// No valid answer in its window.
    Missed,
    /// It does not count, because the super was late itself.
    Void,
    /// An answer after its window.
    Late,
    /// An answer with the nonce of an earlier ping.
    StaleNonce,
    /// A message without a live nonce.
    OutOfTurn,
    /// A message that cannot be read.
    Malformed,
}

impl Pong {
    const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Missed => "missed",
            Self::Void => "void",
            Self::Late => "late",
            Self::StaleNonce => "stale_nonce",
            Self::OutOfTurn => "out_of_turn",
            Self::Malformed => "malformed",
        }
    }
}

/// One label, `outcome`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByOutcome {
    outcome: &'static str,
}

/// One label, `code`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByCode {
    code: &'static str,
}

/// One label, `cause`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByCause {
    cause: &'static str,
}

/// One label, `slot`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BySlot {
    slot: &'static str,
}

/// Two labels, `slot` and `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BySlotAndKind {
    slot: &'static str,
    kind: &'static str,
}

/// One label, `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByKind {
    kind: &'static str,
}

/// Two labels, `slot` and `place`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BySlotAndPlace {
    slot: &'static str,
    place: &'static str,
}

/// One label, `standing`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByStanding {
    standing: &'static str,
}

/// Three labels, `method`, `route` and `status`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByRoute {
    method: &'static str,
    route: String,
    status: u16,
}

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of a node.
pub struct Metrics {
    registry: Registry,

    /// Pings that left.
    pub pings: Counter,
    pongs: Family<ByOutcome, Counter>,
    /// Streams of followers that are open.
    pub streams: Gauge,
    /// Batches of records that are ordered and not sealed.
    pub records_pending: Gauge,
    refusals: Family<ByCode, Counter>,
    /// How late the loop that pings was at worst in the last round, ms.
    pub loop_lag_ms: Gauge,

    /// Rounds settled since the start of this process.
    pub rounds: Counter,
    suspect_rounds: Family<ByCause, Counter>,
    policy_faults: Family<BySlotAndKind, Counter>,
    policy_seconds: Seconds<BySlot>,
    policy_calls: Family<BySlot, Counter>,
    policy_fuel: Family<BySlot, Counter>,
    decisions_limited: Family<ByKind, Counter>,
    policy_ready: Family<BySlotAndPlace, Gauge>,
    policy_prepared: Family<BySlotAndPlace, Gauge>,
    shadow_rounds: Family<BySlot, Counter>,
    shadow_differences: Family<BySlotAndKind, Counter>,
    shadow_faults: Family<BySlot, Counter>,
    /// From the last partial report to the applied settlement.
    pub settle_seconds: Histogram,
    /// One durable transaction.
    pub commit_seconds: Histogram,
    /// Commands in a durable transaction.
    pub commit_commands: Histogram,

    claims: Family<ByOutcome, Counter>,
    requests: Family<ByRoute, Counter>,
    /// A request from its first byte to the head of its answer; event streams apart.
    pub request_seconds: Histogram,
    /// Connections that were refused because of a cap on connections, or that said nothing for too long.
    pub connections_refused: Counter,
    /// Readers of the event stream that were too slow and have to read again.
    pub events_lagged: Counter,

    /// The last settled round.
    pub settled_round: Gauge,
    /// Members in the queue.
    pub queue: Gauge,
    members: Family<ByStanding, Gauge>,
    /// Points that were ever issued.
    pub issued: Gauge,
    /// This node leads and may open rounds: 1, else 0.
    pub leading: Gauge,
    /// 1 while this super is open for attaching.
    pub open: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut r = Registry::with_prefix("pingward");
        let metrics = Self {
            pings: Counter::default(),
            pongs: Family::default(),
            streams: Gauge::default(),
            records_pending: Gauge::default(),
            refusals: Family::default(),
            loop_lag_ms: Gauge::default(),
            rounds: Counter::default(),
            suspect_rounds: Family::default(),
            policy_faults: Family::default(),
            policy_seconds: Family::new_with_constructor(seconds),
            policy_calls: Family::default(),
            policy_fuel: Family::default(),
            decisions_limited: Family::default(),
            policy_ready: Family::default(),
            policy_prepared: Family::default(),
            shadow_rounds: Family::default(),
            shadow_differences: Family::default(),
            shadow_faults: Family::default(),
            settle_seconds: seconds(),
            commit_seconds: seconds(),
            commit_commands: Histogram::new([1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0]),
            claims: Family::default(),
            requests: Family::default(),
            request_seconds: seconds(),
            connections_refused: Counter::default(),
            events_lagged: Counter::default(),
            settled_round: Gauge::default(),
            queue: Gauge::default(),
            members: Family::default(),
            issued: Gauge::default(),
            leading: Gauge::default(),
            open: Gauge::default(),
            registry: Registry::default(),
        };
        r.register("pings", "Pings that left", metrics.pings.clone());
        r.register("pongs", "Pings and answers by how they ended", metrics.pongs.clone());
        r.register("streams", "Open streams of followers", metrics.streams.clone());
        r.register(
            "records_pending_batches",
            "Batches of records that are ordered and not sealed",
            metrics.records_pending.clone(),
        );
        r.register("refusals", "Hellos that were turned away, by code", metrics.refusals.clone());
        r.register(
            "loop_lag_ms",
            "Worst lateness of the pinging loop in the last round, ms",
            metrics.loop_lag_ms.clone(),
        );
        r.register("rounds", "Rounds settled since the start", metrics.rounds.clone());
        r.register("suspect_rounds", "Suspect rounds by cause", metrics.suspect_rounds.clone());
        r.register("policy_faults", "Policy faults by slot and kind", metrics.policy_faults.clone());
        r.register_with_unit("policy", "One policy call", Unit::Seconds, metrics.policy_seconds.clone());
        r.register("policy_calls", "Policy calls of settled rounds, by slot", metrics.policy_calls.clone());
        r.register("policy_fuel", "Fuel that the policies of settled rounds used", metrics.policy_fuel.clone());
        r.register(
            "decisions_limited",
            "Decisions that a guardrail changed: held, deferred or clamped",
            metrics.decisions_limited.clone(),
        );
        r.register(
            "policy_ready",
            "Supers that have acknowledged a slot's policy, by its place",
            metrics.policy_ready.clone(),
        );
        r.register(
            "policy_prepared",
            "1 when a slot's policy can run on this super now, by its place",
            metrics.policy_prepared.clone(),
        );
        r.register("shadow_rounds", "Rounds that a shadow followed, by slot", metrics.shadow_rounds.clone());
        r.register(
            "shadow_differences",
            "Members that a shadow paid or placed otherwise, summed over rounds",
            metrics.shadow_differences.clone(),
        );
        r.register("shadow_faults", "Rounds in which a shadowed policy failed", metrics.shadow_faults.clone());
        r.register_with_unit("settle", "Settling a round", Unit::Seconds, metrics.settle_seconds.clone());
        r.register_with_unit("commit", "One durable transaction", Unit::Seconds, metrics.commit_seconds.clone());
        r.register("commit_commands", "Commands in a durable transaction", metrics.commit_commands.clone());
        r.register("claims", "Claims by what became of them", metrics.claims.clone());
        r.register("requests", "REST requests by route and status", metrics.requests.clone());
        r.register_with_unit(
            "request",
            "REST requests, event streams apart",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        r.register(
            "connections_refused",
            "Connections refused by a cap or a deadline",
            metrics.connections_refused.clone(),
        );
        r.register("events_lagged", "Event readers that were too slow", metrics.events_lagged.clone());
        r.register("settled_round", "The last settled round", metrics.settled_round.clone());
        r.register("queue", "Members in the queue", metrics.queue.clone());
        r.register("members", "Members by standing, in the queue or not", metrics.members.clone());
        r.register("issued_points", "Points that were ever issued", metrics.issued.clone());
        r.register("open", "1 while this super takes part in rounds, and followers may attach", metrics.open.clone());
        r.register("leading", "1 when this node leads and may open rounds", metrics.leading.clone());
        Self { registry: r, ..metrics }
    }

    /// A ping ended, or a message came without one.
    pub fn pong(&self, outcome: Pong) {
        self.pongs.get_or_create(&ByOutcome { outcome: outcome.name() }).inc();
    }

    /// A hello was turned away: the refusal's code.
    pub fn refused(&self, code: &'static str) {
        self.refusals.get_or_create(&ByCode { code }).inc();
    }

    /// A round was settled: its bits of [`cause`], 0 for a trusted one.
    pub fn settled(&self, causes: u8) {
        self.rounds.inc();
        for cause in cause_names(causes) {
            self.suspect_rounds.get_or_create(&ByCause { cause }).inc();
        }
    }

    /// A policy failed.
    pub fn fault(&self, slot: Slot, kind: FaultKind) {
        self.policy_faults.get_or_create(&BySlotAndKind { slot: slot.name(), kind: kind.name() }).inc();
    }

    /// A policy was called for a round that was settled, and used so much fuel.
    pub fn policy_called(&self, slot: Slot, fuel: u64) {
        let slot = BySlot { slot: slot.name() };
        self.policy_calls.get_or_create(&slot).inc();
        self.policy_fuel.get_or_create(&slot).inc_by(fuel);
    }

    /// A guardrail changed so many decisions of a round: `held`, `deferred` or `clamped`.
    pub fn limited(&self, kind: &'static str, decisions: u32) {
        self.decisions_limited.get_or_create(&ByKind { kind }).inc_by(decisions.into());
    }

    /// How many supers have acknowledged a slot's policy, and whether it can run here now; `None` where the slot has none in
    /// that place.
    pub fn readiness(&self, slot: Slot, place: &'static str, ready: Option<(usize, bool)>) {
        let label = BySlotAndPlace { slot: slot.name(), place };
        match ready {
            Some((supers, here)) => {
                self.policy_ready.get_or_create(&label).set(i64::try_from(supers).unwrap_or(i64::MAX));
                self.policy_prepared.get_or_create(&label).set(i64::from(here));
            }
            None => {
                self.policy_ready.remove(&label);
                self.policy_prepared.remove(&label);
            }
        }
    }

    /// A shadow followed a round in which it paid and placed so many members otherwise.
    pub fn shadow(&self, slot: Slot, paid: u32, placed: u32, failed: bool) {
        let (slot, by) = (slot.name(), BySlot { slot: slot.name() });
        self.shadow_rounds.get_or_create(&by).inc();
        for (kind, members) in [("paid", paid), ("placed", placed)] {
            self.shadow_differences.get_or_create(&BySlotAndKind { slot, kind }).inc_by(members.into());
        }
        self.shadow_faults.get_or_create(&by).inc_by(failed.into());
    }

    /// A policy was called and took so long.
    pub fn policy(&self, slot: Slot, seconds: f64) {
        self.policy_seconds.get_or_create(&BySlot { slot: slot.name() }).observe(seconds);
    }

    /// A claim was answered: `paid`, the code of its problem, or `repeated` for one that was answered before.
    pub fn claim(&self, outcome: &'static str) {
        self.claims.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A request was answered. `route` is the pattern, never the path: paths are the clients' and without bound.
    pub fn request(&self, method: &'static str, route: &str, status: u16) {
        self.requests.get_or_create(&ByRoute { method, route: route.to_string(), status }).inc();
    }

    /// Members that stand so.
    pub fn members(&self, standing: Standing, count: u64) {
        self.members
            .get_or_create(&ByStanding { standing: standing.name() })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Everything as text, in the format of OpenMetrics.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Names of the bits of [`cause`] that are set.
pub fn cause_names(causes: u8) -> impl Iterator<Item = &'static str> {
    cause::NAMES.into_iter().enumerate().filter(move |(bit, _)| causes & (1 << bit) != 0).map(|(_, name)| name)
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.pings.inc_by(3);
        metrics.pong(Pong::Kept);
        metrics.refused("banned");
        metrics.settled(cause::LAG | cause::LEADER);
        metrics.settled(0);
        metrics.fault(Slot::Ban, FaultKind::Fuel);
        metrics.policy(Slot::Reward, 0.001);
        metrics.claim("overclaim");
        metrics.policy_called(Slot::Ban, 7);
        metrics.limited("held", 2);
        metrics.readiness(Slot::Ban, "active", Some((3, true)));
        metrics.readiness(Slot::Ban, "scheduled", Some((2, false)));
        metrics.readiness(Slot::Ban, "scheduled", None);
        metrics.shadow(Slot::Reward, 4, 0, true);
        metrics.request("GET", "/v1/nodes/{node}", 404);
        metrics.members(Standing::Banned, 2);
        let text = metrics.text();
        for line in [
            "pingward_pings_total 3",
            "pingward_pongs_total{outcome=\"kept\"} 1",
            "pingward_refusals_total{code=\"banned\"} 1",
            "pingward_rounds_total 2",
            "pingward_suspect_rounds_total{cause=\"lag\"} 1",
            "pingward_suspect_rounds_total{cause=\"leader_change\"} 1",
            "pingward_policy_faults_total{slot=\"ban\",kind=\"fuel\"} 1",
            "pingward_policy_seconds_count{slot=\"reward\"} 1",
            "pingward_policy_calls_total{slot=\"ban\"} 1",
            "pingward_policy_fuel_total{slot=\"ban\"} 7",
            "pingward_decisions_limited_total{kind=\"held\"} 2",
            "pingward_policy_ready{slot=\"ban\",place=\"active\"} 3",
            "pingward_policy_prepared{slot=\"ban\",place=\"active\"} 1",
            "pingward_shadow_rounds_total{slot=\"reward\"} 1",
            "pingward_shadow_differences_total{slot=\"reward\",kind=\"paid\"} 4",
            "pingward_shadow_faults_total{slot=\"reward\"} 1",
            "pingward_claims_total{outcome=\"overclaim\"} 1",
            "pingward_requests_total{method=\"GET\",route=\"/v1/nodes/{node}\",status=\"404\"} 1",
            "pingward_members{standing=\"banned\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("place=\"scheduled\""), "what is not there any more is not told: {text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
