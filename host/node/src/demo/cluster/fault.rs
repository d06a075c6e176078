//! What goes wrong in the demo on purpose: nodes that die or keep silent, and a network that is slow or cut.

use std::collections::BTreeSet;
use std::time::Duration;

use kernel::id::NodeId;
use kernel::standing::Standing;
use kernel::state::State;

use super::Cluster;
use crate::config::Role;
use crate::failure::Failure;

impl Cluster {
    /// Makes a follower hang up and stay away, or come back.
    pub fn silence(&mut self, name: &str, silent: bool) {
        if let Ok(member) = self.find(name) {
            member.faults.change(|faults| faults.offline = silent);
        }
    }

    /// Ends a node at once.
    pub async fn kill(&mut self, name: &str) -> Result<String, Failure> {
        let member = self.find(name)?;
        let Some(node) = member.node.take() else {
            return Err(Failure::new(format!("{name} is killed already"), format!("`restart {name}` starts it again")));
        };
        member.context = None;
        let role = member.config.role;
        node.kill().await;
        if role == Role::Validator {
            return Ok(self.killed_validator(name));
        }
        if role != Role::Super {
            return Ok(format!(
                "killed {name}, as with kill -9: it misses its turns and is warned, suspended, then banned; `restart {name}` starts it again"
            ));
        }
        let (up, all) = (self.supers.iter().filter(|member| member.node.is_some()).count(), self.supers.len());
        let after = format!("`restart {name}`");
        Ok(if up > all / 2 {
            format!(
                "killed {name}, as with kill -9: {up} of {all} supers go on, and nobody is struck for it; {after} starts it again"
            )
        } else {
            format!(
                "killed {name}, as with kill -9: {up} of {all} supers are no majority, so no rounds until {after}; after it nobody is struck for the gap"
            )
        })
    }

    fn killed_validator(&self, name: &str) -> String {
        let up = self.validators.iter().filter(|member| member.node.is_some()).count();
        let quorum = self.read(State::quorum).unwrap_or_default();
        let (all, again) = (self.validators.len(), format!("`restart {name}` starts it again"));
        if up >= quorum {
            format!(
                "killed {name}, as with kill -9: {up} of {all} validators go on signing, {quorum} are enough; {again}"
            )
        } else {
            format!(
                "killed {name}, as with kill -9: {up} of {all} validators are fewer than the {quorum} that seal a batch: records wait; {again}"
            )
        }
    }

    /// Starts a node again, as after a kill.
    pub async fn restart(&mut self, name: &str) -> Result<String, Failure> {
        let member = self.find(name)?;
        if let Some(node) = member.node.take() {
            member.context = None;
            node.kill().await;
        }
        member.faults.change(|faults| faults.offline = false);
        let (id, is_super) = (member.key.id(), member.config.role == Role::Super);
        let is_validator = member.config.role == Role::Validator;
        member.start().await?;
        if is_validator {
            return Ok(format!("restarted {name}: it fetches what was sealed without it, and signs from now on"));
        }
        if is_super {
            return Ok(format!("restarted {name} with what was on its disk: followers come back by themselves"));
        }
        let banned = self
            .read(|state| state.members.get(&id).filter(|m| m.hot.standing == Standing::Banned).map(|m| m.hot.until));
        Ok(match banned.flatten() {
            Some(until) => format!(
                "restarted {name}: it is refused until its ban is over, after round {until}, and comes back on probation"
            ),
            None => format!("restarted {name}: it attaches and answers from the next round on"),
        })
    }

    /// Makes all that a node sends and gets late.
    pub fn lag(&self, name: &str, late: Duration) -> Result<String, Failure> {
        let node = self.at(name)?.key.id();
        self.wires.lag(node, late);
        let ms = late.as_millis();
        Ok(match ms {
            0 => format!("{name} is as fast as the others again"),
            _ => format!("all that {name} sends and gets is {ms} ms late, until `lag {name} 0ms` or `heal`"),
        })
    }

    /// Cuts the network between sides; whoever is named on none reaches all of them. One side alone is cut off from everybody.
    pub fn partition(&self, islands: &[Vec<String>]) -> Result<String, Failure> {
        let mut seen = BTreeSet::new();
        let mut cut = Vec::new();
        for island in islands {
            let mut nodes = BTreeSet::new();
            for name in island {
                let node = self.at(name)?.key.id();
                if !seen.insert(node) {
                    return Err(Failure::new(format!("`{name}` is named twice"), "a node is on one side of a cut"));
                }
                nodes.insert(node);
            }
            cut.push(nodes);
        }
        let supers = self.supers.len();
        let on = |nodes: &BTreeSet<NodeId>| self.supers.iter().filter(|m| nodes.contains(&m.key.id())).count();
        let named: usize = cut.iter().map(on).sum();
        // Who is on no side reaches every side.
        let rest = supers - named;
        let sides = cut.iter().map(on).map(|count| if cut.len() > 1 { count + rest } else { count });
        let most = sides.chain((cut.len() == 1).then_some(rest)).max().unwrap_or(0);
        self.wires.partition(cut);
        let sides = islands.iter().map(|island| island.join(", ")).collect::<Vec<_>>().join(" | ");
        let outcome = if most > supers / 2 {
            "the side with most of the supers goes on"
        } else {
            "no side has most of the supers, so no round is settled"
        };
        let what = if islands.len() == 1 {
            format!("{sides} is cut off from all others")
        } else {
            format!("cut between {sides}")
        };
        Ok(format!("{what}: {outcome}, until `heal`"))
    }

    /// The network is whole again.
    pub fn heal(&self) -> String {
        let was = self.wires.heal();
        if was { "the network is whole again".into() } else { "nothing was wrong with the network".into() }
    }
}
