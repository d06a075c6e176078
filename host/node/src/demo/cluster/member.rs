//! One node of the demo.

use std::path::PathBuf;
use std::sync::Arc;

use policy::Compiler;
use store::Disk;

use crate::config::{Config, PeerAddress, Role, Storage};
use crate::context::{Context, SuperPart};
use crate::demo::Options;
use crate::failure::Failure;
use crate::group::{Disks, Leadership};
use crate::keys::NodeKey;
use crate::roles::follower::FollowerFaults;
use crate::server::{Node, StartParts};
use crate::wires::Wires;

const CLUSTER: &str = "demo";

/// One node: what it needs to be started again, and the node while it runs.
pub(super) struct Member {
    pub(super) key: NodeKey,
    pub(super) config: Config,
    pub(super) disk: Option<Disks>,
    /// Where it keeps sealed records, where that is in memory.
    pub(super) records: Option<Disk>,
    pub(super) faults: Arc<FollowerFaults>,
    pub(super) compiler: Compiler,
    pub(super) wires: Wires,
    pub(super) node: Option<Node>,
    /// What the running node shows.
    pub(super) context: Option<Arc<Context>>,
}

impl Member {
    pub(super) fn new(role: Role, name: &str, options: &Options, wires: &Wires) -> Result<Self, Failure> {
        let dir = options.data_dir.as_ref().map_or_else(PathBuf::new, |dir| dir.join(name));
        let mut config = Config::in_memory(role, name, &dir);
        config.cluster_id = CLUSTER.into();
        let key = if options.data_dir.is_some() {
            config.storage = Storage::Disk;
            NodeKey::load_or_create(&config.key_file).map_err(anyhow::Error::new)?.0
        } else {
            NodeKey::generate().map_err(anyhow::Error::new)?
        };
        let disk = options.data_dir.is_none().then(Disks::memory);
        let keeps = matches!(role, Role::Validator | Role::Follower) && options.data_dir.is_none();
        let records = keeps.then(Disk::memory);
        config.records.raw_open = true;
        let compiler = options.compiler.clone();
        Ok(Self {
            key,
            config,
            disk,
            records,
            faults: Arc::default(),
            compiler,
            wires: wires.clone(),
            node: None,
            context: None,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn at(&self) -> PeerAddress {
        let grpc = self.config.grpc;
        PeerAddress { key: Some(self.key.id()), host: grpc.ip().to_string(), port: grpc.port() }
    }

    pub(super) fn part(&self) -> Option<&SuperPart> {
        self.context.as_ref().and_then(|context| context.as_super())
    }

    /// Whether it leads, and may open rounds; `None` when it does not run.
    pub(super) fn leadership(&self) -> Option<Leadership> {
        let now = *self.part()?.group.leadership().borrow();
        Some(Leadership { ready: now.ready && now.leader == Some(self.key.id()), ..now })
    }

    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let parts = StartParts {
            disk: self.disk.clone(),
            records: self.records.clone(),
            key: Some(self.key.clone()),
            faults: Arc::clone(&self.faults),
            compiler: self.compiler.clone(),
            wires: self.wires.clone(),
            ..StartParts::default()
        };
        let node = Node::start(self.config.clone(), parts).await.map_err(|error| {
            Failure::new(
                format!("{} cannot start: {error:#}", self.name()),
                "the line before says why; `pingward demo --help` lists what can be changed",
            )
        })?;
        self.context = Some(node.context());
        self.node = Some(node);
        Ok(())
    }
}
