//! A super that goes on at another address, with its disk: the same replica, so it keeps its number and its vote.
//!
//! Only the replica itself can say that it is there: whoever has its key and another disk, or none, is another replica.

use std::collections::BTreeMap;

use openraft::ChangeMembers;
use store::Replica;
use wire::raft::{Invite, Invited};

use super::{ChangeError, Editor, majority, refused};
use crate::status::Member;

impl Editor<'_> {
    /// Asks whether a replica is at an address; else why it is not.
    pub(super) async fn is_at(&self, member: &Member, address: &str) -> Result<Invited, String> {
        let (inner, core) = (self.inner, self.core);
        if member.replica == core.id {
            // Nobody connects to itself.
            return if address == inner.address {
                Ok(Invited { name: inner.name.clone(), life: inner.life })
            } else {
                Err(format!("its own config says that it is reached at {}; change it first", inner.address))
            };
        }
        let replica = Replica { key: member.key, address: address.to_owned(), name: String::new() };
        let asked = Invite { cluster: core.machine.identity().cluster.clone(), replica: member.replica, known: true };
        inner.calls.invite(&replica, &asked).await.map_err(|error| error.to_string())?
    }

    /// Changes the address of a replica that is there.
    pub(super) async fn moves(
        &self,
        members: &[Member],
        member: &Member,
        address: String,
        there: Invited,
    ) -> Result<u64, ChangeError> {
        let (id, key, before) = (member.replica, member.key, &member.address);
        if id != self.core.id
            && let Ok(other) = self.is_at(member, before).await
            && other.life != there.life
        {
            let detail = format!(
                "two processes are replica {id}, at {before} and at {address}: with a copied disk one vote counts twice. \
                 Stop one of them for good"
            );
            return refused("twice", detail);
        }
        // It answers, where it is now.
        let now =
            |of: &Member| Member { reachable: if of.replica == id { Some(true) } else { of.reachable }, ..of.clone() };
        let voters: Vec<Member> = members.iter().filter(|member| member.voter).map(now).collect();
        let voters: Vec<&Member> = voters.iter().collect();
        majority(&voters, &voters)?;
        let replica = Replica { key, address, name: there.name };
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, replica)]))).await?;
        Ok(id)
    }
}
