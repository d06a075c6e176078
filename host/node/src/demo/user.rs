//! The demo's user: hands in a record in each round, to one follower after the other, signed with a key of its own.

use kernel::envelope::RECORD_TYPE;
use kernel::records::order::Ordered;
use kernel::records::record::Record;

use super::cluster::Cluster;
use crate::failure::Failure;
use crate::keys::NodeKey;
use crate::records::header::{Header, draw};
use crate::records::ingress::now_ms;

/// A record need not be ordered any more after so long.
const EXPIRES_MS: u64 = 60_000;

/// See the module.
pub struct User {
    key: NodeKey,
    number: usize,
}

impl User {
    /// With a new key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self { key: NodeKey::generate().map_err(anyhow::Error::new)?, number: 0 })
    }

    /// Hands the next record in. What becomes of it is seen in the line of records; nobody waits for it here.
    pub fn write(&mut self, cluster: &Cluster) {
        self.number += 1;
        let Some((name, part)) = cluster.takes_records(self.number) else { return };
        let Some(of) = part.cluster.borrow().clone() else { return };
        let body = format!("{{\"reading\":{},\"taken_in_by\":\"{name}\"}}", self.number);
        let Ok(nonce) = draw() else { return };
        let header = Header { cluster: of.to_string(), nonce, expires_ms: now_ms() + EXPIRES_MS };
        let payload = header.payload(body.as_bytes());
        let signature = Some(self.key.sign(RECORD_TYPE, &payload));
        let record = Record { author: self.key.id(), payload, signature };
        tokio::spawn(async move {
            match part.ingress.take(record).await {
                Ok(Ordered::At { sequence, .. }) => tracing::debug!(sequence, "the user's record has its place"),
                Ok(Ordered::Refused(reject)) => tracing::warn!(?reject, "the user's record was refused"),
                // A node that was just killed, or a group without a leader: the next one will do.
                Err((code, detail)) => tracing::debug!(code, detail, "the user's record was not taken"),
            }
        });
    }
}
