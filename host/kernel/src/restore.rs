//! A state that was brought back from a backup becomes a cluster of its own (PROTOCOLS 1.5).
//!
//! What people own and what was decided stays: wallets, earned points, standings, strikes, memories, settings and policies.
//! The genesis is a new one, so nothing that was signed for the cluster of the backup counts here: two of them may live
//! beside each other. The group is whoever brought it back, alone.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::command::Restore;
use crate::id::{Digest, LogIndex, RoundId, Seat};
use crate::outcome::{Change, Reject, Reply, Write};
use crate::round::SeatRow;
use crate::state::{Effects, State};

impl State {
    pub(crate) fn restore(&mut self, restore: &Restore, fx: &mut Effects) -> Result<Reply, Reject> {
        let from = self.meta.cluster.to_string();
        if restore.genesis == self.meta.cluster.genesis {
            return Err(Reject::AlreadyFounded);
        }
        // A key holds one role at a time.
        if self.members.get(&restore.founder.node).is_some_and(|member| !member.hot.place.is_out()) {
            return Err(Reject::WrongRole);
        }
        let now_ms = self.stamp(restore.now_ms);
        self.meta.cluster.genesis = restore.genesis;
        self.meta.leader = None;
        self.meta.supers_changed = LogIndex(0);
        self.meta.left.clear();
        self.meta.seats = Vec::from([SeatRow {
            seat: Seat(0),
            holder: restore.founder.clone(),
            came: false,
            open_since_ms: 0,
            grace_until: RoundId(0),
            load_rounds: 0,
            from: self.meta.settled.next(),
        }]);
        // Nobody was asked by it yet, and it has compiled nothing yet.
        for member in self.members.values_mut().filter(|member| member.hot.asked_seats != 0) {
            member.hot.asked_seats = 0;
            fx.hot(member.profile.number);
        }
        for (digest, row) in self.policies.iter_mut().filter(|(_, row)| row.is_acknowledged()) {
            row.ready.clear();
            row.unready.clear();
            row.able.clear();
            row.unable.clear();
            fx.writes.push(Write::Policy(*digest, Some(Box::new(row.clone()))));
        }
        // Records that nobody signed are dropped, and who may sign is to be said anew: signatures name the old cluster.
        self.forget_records(fx);
        // What was under way was under way there.
        let uploads: Vec<Digest> = core::mem::take(&mut self.uploads).into_keys().collect();
        self.meta.loose.retain(|(component, _)| !uploads.contains(component));
        fx.writes.extend(uploads.into_iter().map(|component| Write::Upload(component, None)));
        let to = self.meta.cluster.to_string();
        fx.change(Change { now_ms, what: "cluster restored from a backup".into(), from, to, ..Change::default() });
        Ok(Reply::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Super};
    use crate::id::Genesis;
    use crate::scripts::world::{Seen, World, node};
    use crate::settings::Settings;

    fn restore(founder: &str, genesis: u8) -> Command {
        let founder = Super { node: node(founder), name: founder.to_lowercase(), address: "b:1".into() };
        Command::Restore(Box::new(Restore { genesis: Genesis([genesis; 16]), founder, now_ms: 0 }))
    }

    #[test]
    fn what_is_owned_and_decided_stays_and_the_cluster_is_another() {
        let mut world = World::found(Settings::default(), &["flat", "strikes"]);
        for name in ["A", "B"] {
            let join = world.join(name);
            world.apply(Command::Join(join));
        }
        world.settle(&Seen::default());
        world.settle(&Seen::default());
        let before = world.state.clone();
        assert!(world.apply(restore("new", 99)).reply.is_ok());
        world.check_whole();
        let (old, new) = (&before.meta, &world.state.meta);
        assert_eq!((&new.cluster.id, new.cluster.genesis), (&old.cluster.id, Genesis([99; 16])));
        assert_eq!(
            (new.settled, new.term, new.issued, new.treasury),
            (old.settled, old.term, old.issued, old.treasury)
        );
        assert_eq!((&new.settings, new.settings_version), (&old.settings, old.settings_version));
        assert_eq!((new.seats.len(), new.seats[0].holder.node, new.leader), (1, node("new"), None));
        assert_eq!((world.state.sum(), world.state.wallets.clone()), (0, before.wallets.clone()));
        for (key, member) in &world.state.members {
            let was = &before.members[key].hot;
            assert_eq!(
                (member.hot.earned, member.hot.standing, member.hot.strikes),
                (was.earned, was.standing, was.strikes)
            );
            assert_eq!(member.hot.asked_seats, 0, "who sat there before asked nobody of this cluster");
        }
        for slot in [0, 1] {
            assert_eq!(world.state.slots[slot].row, before.slots[slot].row, "the same policies decide");
            assert_eq!(world.state.slots[slot].memory, before.slots[slot].memory);
        }
        assert!(world.state.policies.values().all(|row| row.ready.is_empty()), "the new super compiles for itself");
    }

    #[test]
    fn the_same_genesis_or_a_members_key_is_refused() {
        let mut world = World::found(Settings::default(), &["flat", "strikes"]);
        let join = world.join("A");
        world.apply(Command::Join(join));
        world.settle(&Seen::default());
        let (genesis, before) = (world.state.meta.cluster.genesis.0[0], world.state.meta.seats.clone());
        assert_eq!(world.apply(restore("new", genesis)).reply, Err(Reject::AlreadyFounded));
        assert_eq!(world.apply(restore("A", 99)).reply, Err(Reject::WrongRole));
        assert_eq!(world.state.meta.seats, before);
        assert!(restore("new", 99).is_leaders(), "nobody may hand it in");
    }
}
