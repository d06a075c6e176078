//! Liveness: faults have stopped, and the cluster has come to rest.

use kernel::round::Presence;

use crate::supers::Fate;
use crate::world::World;

impl World {
    /// Rounds go on, replicas have caught up, whoever lives is seen up, whoever is dead is put out.
    pub(crate) fn look_at_the_end(&mut self) {
        let interval_us = self.interval_us;
        let since_us = self.now_us - 20 * interval_us;
        let rounds = self.oracle.settled_us.iter().filter(|at_us| **at_us >= since_us).count();
        if rounds < 17 {
            return self.oracle.wrong(format!("at rest only {rounds} rounds of 20 were settled"));
        }
        let Some(leader) = self.leader() else {
            return self.oracle.wrong("at rest nobody leads".into());
        };
        let voters = self.voters_of(leader);
        let settled = self.oracle.state.meta.settled;
        for id in voters {
            let sup = &self.supers[usize::from(id)];
            match &sup.fate {
                Fate::Up(process) if settled.since(process.state.meta.settled) <= 1 => {}
                Fate::Up(process) => {
                    let at = process.state.meta.settled;
                    return self.oracle.wrong(format!("at rest super {id} is at round {at} of {settled}"));
                }
                Fate::Paused(..) | Fate::Down { .. } | Fate::Retired => {
                    return self.oracle.wrong(format!("at rest super {id} does not run"));
                }
            }
        }
        if self.options.scene.has_bad_paths() {
            return;
        }
        for (at, follower) in self.followers.iter().enumerate() {
            let member = self.oracle.state.members.get(&follower.node);
            let is_dead = follower.dead_since_us.is_some();
            let fits = match member {
                Some(member) if is_dead => member.hot.standing.is_out() || member.hot.place.is_out(),
                // It was told to wait, and does.
                Some(member) if member.hot.place.is_out() => follower.is_waiting(self.now_us),
                Some(member) => member.hot.presence == Presence::Up && member.hot.standing.is_paid(),
                None => is_dead,
            };
            if !fits {
                let hot = member.map(|m| (m.hot.place, m.hot.standing, m.hot.presence, m.hot.until));
                return self.oracle.wrong(format!("at rest follower {at} (dead: {is_dead}) is {hot:?}"));
            }
        }
    }
}
