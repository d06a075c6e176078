//! How a node comes to the directory and stays with it: from a super, or from a bootstrap node where no super is known yet
//! (PROTOCOLS 1.7, 1.8). What was taken is kept in the data folder, so nothing breaks when a bootstrap node dies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kernel::id::NodeId;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use wire::pb;
use wire::pb::intake_client::IntakeClient;
use wire::records;

use super::directory::{Directory, DirectoryError};
use super::ingress::{Supers, now_ms};
use super::validator::Way;
use crate::config::PeerAddress;

/// In the data folder.
pub const FILE: &str = "directory.json";
/// For an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// A directory is asked for again after this time, whether it changed or not: it counts for 7 days.
const REFRESH: Duration = Duration::from_secs(600);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(15);

/// What a node knows of the directory.
#[derive(Clone)]
pub struct Book {
    inner: Arc<Inner>,
}

struct Inner {
    way: Way,
    cluster_id: String,
    file: Option<PathBuf>,
    told: watch::Sender<Option<Arc<Directory>>>,
    /// As it was signed, for whoever hands it on.
    envelope: watch::Sender<Vec<u8>>,
    stale: Arc<Notify>,
}

impl Book {
    /// What was kept in this folder, if it is this cluster's.
    #[must_use]
    pub fn open(way: Way, cluster_id: &str, data_dir: Option<&Path>) -> Self {
        let file = data_dir.map(|folder| folder.join(FILE));
        let kept = file.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        let told = Directory::open(&kept).ok().map(|(directory, _)| directory).filter(|directory| {
            let ours = way.known.cluster().map(|cluster| cluster.to_string());
            ours.is_none_or(|ours| ours == directory.cluster)
        });
        let envelope = if told.is_some() { kept } else { Vec::new() };
        let inner = Inner {
            way,
            cluster_id: cluster_id.into(),
            file,
            told: watch::Sender::new(told.map(Arc::new)),
            envelope: watch::Sender::new(envelope),
            stale: Arc::new(Notify::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The directory, once there is one, and each newer one.
    #[must_use]
    pub fn directory(&self) -> watch::Receiver<Option<Arc<Directory>>> {
        self.inner.told.subscribe()
    }

    /// The same, as it was signed.
    #[must_use]
    pub fn envelope(&self) -> watch::Receiver<Vec<u8>> {
        self.inner.envelope.subscribe()
    }

    /// Fire it where the directory is older than what comes: a newer one is asked for.
    #[must_use]
    pub fn stale(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.stale)
    }

    /// Asks one node for its directory and takes it.
    ///
    /// # Errors
    /// For people: why it was not taken.
    pub async fn ask(&self, to: &PeerAddress) -> Result<Arc<Directory>, String> {
        let (channel, key) = self.inner.way.to(to).await?;
        let known = self.inner.way.known.cluster().map(|cluster| cluster.to_string());
        let cluster = known.unwrap_or_else(|| self.inner.cluster_id.clone());
        let mut client = IntakeClient::new(channel).max_decoding_message_size(records::MESSAGE_BYTES);
        let asked = client.directory(pb::DirectoryRequest { cluster: cluster.clone() });
        let answer = timeout(ANSWER, asked).await.map_err(|_| "no answer in time".to_owned())?;
        let envelope = answer.map_err(|status| status.message().to_owned())?.into_inner().envelope;
        self.take(envelope, key, &cluster).map_err(|error| error.to_string())
    }

    /// Takes a directory that the node of this key showed. Its signer must be that node, one that was known, or, for a node
    /// that knows nobody yet, one of the supers that it lists: then whoever was asked is trusted, as the config says.
    fn take(&self, envelope: Vec<u8>, shown_by: NodeId, cluster: &str) -> Result<Arc<Directory>, DirectoryError> {
        let (directory, signer) = Directory::open(&envelope)?;
        let before = self.inner.told.borrow().clone();
        let mut trusts: BTreeSet<NodeId> = [shown_by].into();
        match &before {
            Some(before) => trusts.extend(before.super_keys()),
            None => trusts.extend(directory.super_keys()),
        }
        directory.trusted(signer, &trusts, cluster, now_ms())?;
        let directory = Arc::new(directory);
        if before.is_some_and(|before| before.version > directory.version && before.cluster == directory.cluster) {
            // An older one than is known says nothing new.
            return Ok(directory);
        }
        if let Some(file) = &self.inner.file
            && let Err(error) = crate::keys::replace(file, &envelope)
        {
            tracing::warn!(file = %file.display(), %error, "the directory cannot be kept for the next start");
        }
        self.inner.envelope.send_replace(envelope);
        self.inner.told.send_replace(Some(Arc::clone(&directory)));
        Ok(directory)
    }

    /// Asks bootstrap nodes, one after the other, until one has a directory.
    pub async fn first(&self, bootstrap: &[PeerAddress]) -> Arc<Directory> {
        let (mut wait, mut said) = (AGAIN, BTreeSet::new());
        loop {
            for to in bootstrap {
                match self.ask(to).await {
                    Ok(directory) => return directory,
                    Err(why) => {
                        if said.insert((to.to_string(), why.clone())) {
                            tracing::warn!(bootstrap = %to, why, "no directory from here; it is tried again");
                        }
                    }
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    /// Keeps the directory new: asks the supers at once where there is `need` for it, when it is stale, and now and then.
    pub async fn keep(self, supers: Supers, mut need: watch::Receiver<bool>, stop: CancellationToken) {
        let keeping = async {
            if need.wait_for(|need| *need).await.is_err() {
                std::future::pending::<()>().await;
            }
            let (mut wait, mut turn) = (AGAIN, 0_usize);
            loop {
                let all = supers.borrow().clone();
                let asked = match all.get(turn.checked_rem(all.len()).unwrap_or(0)) {
                    Some(to) => self.ask(to).await,
                    None => Err("no super is known here yet".into()),
                };
                match asked {
                    Ok(_) => {
                        wait = AGAIN;
                        // One that fires in between is asked for again: at most so often.
                        sleep(AGAIN).await;
                        let _in_time = timeout(REFRESH, self.inner.stale.notified()).await;
                    }
                    Err(why) => {
                        tracing::debug!(why, "no directory from a super");
                        turn = turn.wrapping_add(1);
                        sleep(wait).await;
                        wait = (wait * 2).min(LONGEST);
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = keeping => {}
        }
    }
}
