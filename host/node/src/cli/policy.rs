//! Policies on the command line: the author's commands stand in `author`, the operator's decisions in `operate`.

use clap::{Args, Subcommand};
use kernel::decide::Slot;
use kernel::id::RoundId;
use serde_json::Value;

use super::author::{Bench, Build, Check, Inspect, New};
use super::capture::Capture;
use super::operate::{AcceptPolicy, Rollback};
use super::play::Test;
use super::source::Reading;
use super::stage::{Activate, ShadowPolicy, Stage, Status};
use super::wait;
use crate::failure::Failure;
use crate::text::{Columns, NONE, capture_hint, field, list};

/// Check, look into and build rules; see and decide which ones count
#[derive(Debug, Subcommand)]
pub enum Policy {
    New(New),
    Check(Check),
    Inspect(Inspect),
    Build(Build),
    Test(Test),
    Bench(Bench),
    Capture(Capture),
    List(List),
    Stage(Stage),
    Status(Status),
    Shadow(ShadowPolicy),
    Activate(Activate),
    Accept(AcceptPolicy),
    Rollback(Rollback),
}

impl Policy {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(),
            Self::Check(check) => check.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Build(build) => build.run(),
            Self::Test(test) => test.run(),
            Self::Bench(bench) => bench.run(),
            Self::Capture(capture) => wait(capture.run()),
            Self::List(list) => wait(list.run()),
            Self::Stage(stage) => wait(stage.run()),
            Self::Status(status) => wait(status.run()),
            Self::Shadow(shadow) => wait(shadow.run()),
            Self::Activate(activate) => wait(activate.run()),
            Self::Accept(accept) => wait(accept.run()),
            Self::Rollback(rollback) => wait(rollback.run()),
        }
    }
}

/// Show the rules: which one decides in each slot, which one decided before, and faults
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward policy list --output json")]
pub struct List {
    #[command(flatten)]
    source: Reading,
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let answer = self.source.api()?.get("/v1/policies").await?;
        self.source.output().print(&answer, list_text)
    }
}

fn list_text(answer: &Value) -> String {
    let mut columns = Columns::new(&["slot", "place", "name", "version", "digest", "config"]);
    let none = Value::Null;
    let slots = answer.get("slots").unwrap_or(&none);
    let mut remarks = String::new();
    for slot in Slot::ALL {
        let row = slots.get(slot.name()).unwrap_or(&none);
        let mut add = |place: &str, policy: &Value| {
            if policy.is_object() {
                columns.row([
                    slot.name().into(),
                    place.into(),
                    field(policy, "name"),
                    field(policy, "version"),
                    field(policy, "digest"),
                    field(policy, "config"),
                ]);
            }
        };
        add("active", row.get("active").unwrap_or(&none));
        add("previous", row.get("previous").unwrap_or(&none));
        add("shadow", row.get("shadow").unwrap_or(&none));
        for staged in list(row, "staged") {
            add("staged", staged);
        }
        if let Some(scheduled) = row.get("scheduled").filter(|scheduled| scheduled.is_object()) {
            let digest = scheduled.get("policy").map_or_else(|| NONE.into(), |policy| field(policy, "digest"));
            let from = field(scheduled, "round");
            let how = match (field(scheduled, "returned").as_str(), field(scheduled, "emergency").as_str()) {
                ("yes", _) => ": the one that decides failed too often",
                (_, "yes") => ": an emergency, without notice",
                _ => "",
            };
            remarks.push_str(&format!("{slot}: {digest} decides from round {from} on{how}\n"));
        }
        if row.get("faults_total").and_then(Value::as_u64).is_some_and(|faults| faults > 0) {
            remarks.push_str(&format!("{slot}: {} faults since the founding\n", field(row, "faults_total")));
        }
        for fault in list(row, "faults") {
            let (round, kind, message) = (field(fault, "round"), field(fault, "kind"), field(fault, "message"));
            remarks.push_str(&format!("{slot}: fault in round {round}, {kind}: {message}\n"));
            if let Some(round) = fault.get("round").and_then(Value::as_u64) {
                remarks.push_str(&format!("  {}\n", capture_hint(slot, RoundId(round))));
            }
        }
        if field(row, "held") == "yes" {
            remarks.push_str(&format!("{slot}: moves are held; `pingward policy accept {slot}` lets them through, `pingward policy rollback {slot}` goes back\n"));
        }
    }
    format!("{}{remarks}", columns.text("no slot has a policy: nobody is paid or banned, and nothing is signed"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_list_has_a_row_for_each_place() {
        let policy = json!({ "digest": "sha256:aa", "name": "ban-strikes", "version": "0.1.0", "config": {} });
        let answer = json!({ "slots": {
            "reward": { "active": null, "previous": null, "staged": [], "scheduled": null, "faults": [], "faults_total": 0 },
            "ban": { "active": policy, "previous": null, "staged": [policy], "scheduled": { "policy": { "digest": "sha256:bb" }, "round": 9 }, "faults": [{ "round": 8, "kind": "trap", "message": "it fell" }], "faults_total": 2, "held": true },
        } });
        assert_eq!(
            list_text(&answer),
            "slot  place   name         version  digest     config\n\
             ban   active  ban-strikes  0.1.0    sha256:aa  {}\n\
             ban   staged  ban-strikes  0.1.0    sha256:aa  {}\n\
             ban: sha256:bb decides from round 9 on\n\
             ban: 2 faults since the founding\n\
             ban: fault in round 8, trap: it fell\n\
             \x20 `pingward policy capture --slot ban --round 8` writes it as a case\n\
             ban: moves are held; `pingward policy accept ban` lets them through, `pingward policy rollback ban` goes back\n"
        );
    }
}
