//! The node's config: one TOML file, read once, checked whole.
//!
//! [`load`] gives either a [`Config`] whose every value is usable, or all problems at once, each with its line and its
//! cure. Which keys there are stands in [`schema`] alone; the file that `init` writes is printed from the same table.
//!
//! `PINGWARD_SECTION__KEY` overrides a key, for example `PINGWARD_ROUND__INTERVAL_MS=1000`. Variables without the double
//! underscore are other people's (container platforms set such ones by themselves) and are left alone.
//!
//! Invariant: toml stops here.

pub mod json;
pub mod problem;
pub mod schema;
pub mod template;

mod build;
mod read;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use kernel::decide::Slot;
use kernel::id::NodeId;
use kernel::settings::Settings;

pub use problem::{ConfigError, Place, Problem};
pub use read::nearest;
pub use value::address;

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Pings followers, settles rounds, keeps everything.
    Super,
    /// Is pinged, and earns.
    Follower,
    /// Judges records, signs and keeps them.
    Validator,
    /// Tells newcomers where supers and validators are.
    Bootstrap,
}

impl Role {
    /// All roles of this release.
    pub const ALL: [Self; 4] = [Self::Super, Self::Follower, Self::Validator, Self::Bootstrap];
    /// Their words, in the same order.
    pub const WORDS: [&'static str; 4] = ["super", "follower", "validator", "bootstrap"];

    /// The word in config, commands and API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Super => "super",
            Self::Follower => "follower",
            Self::Validator => "validator",
            Self::Bootstrap => "bootstrap",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Where a super keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In `data_dir`.
    Disk,
    /// Nowhere: each start founds a new cluster.
    Memory,
}

/// A node's address, with the key that it must prove where one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// The pinned key; without one the first key seen is kept.
    pub key: Option<NodeId>,
    /// Name or IP; an IPv6 without its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = self.key {
            write!(f, "{key}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where a policy's component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// In the binary, by name.
    Builtin(String),
    /// In a file.
    File(PathBuf),
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A policy as the file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// The component.
    pub component: Component,
    /// Its config: JSON, keys sorted, no spaces.
    pub config: String,
}

/// What a node does with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsConfig {
    /// Keep what is sealed; else it is fetched when somebody asks.
    pub keep: bool,
    /// The newest of so many bytes stay; 0 = no bound.
    pub keep_bytes: u64,
    /// They stay for so many days; 0 = no bound.
    pub keep_days: u64,
    /// Anybody may hand in raw bodies, which this node then authors and pays.
    pub raw_open: bool,
    /// Full streams that a validator serves.
    pub streams: u64,
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self { keep: true, keep_bytes: 1 << 30, keep_days: 0, raw_open: false, streams: 64 }
    }
}

/// A node's config. Every value is usable as it is: paths are resolved, addresses parsed, bounds kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from; empty for one that was made in memory.
    pub file: PathBuf,
    /// What the node does.
    pub role: Role,
    /// Its display name.
    pub name: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Whether it is kept at all.
    pub storage: Storage,
    /// The node's key.
    pub key_file: PathBuf,
    /// For other nodes.
    pub grpc: SocketAddr,
    /// For people and programs.
    pub rest: SocketAddr,
    /// Name of the cluster.
    pub cluster_id: String,
    /// The supers; empty on a super that founds alone.
    pub supers: Vec<PeerAddress>,
    /// Nodes that tell where the supers are; instead of `supers`.
    pub bootstrap: Vec<PeerAddress>,
    /// Cluster settings: the defaults with what the file says.
    pub settings: Settings,
    /// The cluster settings that the file or the environment says, as key and text.
    pub settings_said: Vec<(String, String)>,
    /// The policy of each slot.
    pub policies: BTreeMap<Slot, PolicySource>,
    /// Source port of a follower; 0 = any free one, which its hello then declares.
    pub connect_port: u16,
    /// What a follower's pongs tell as its address; empty = its REST address.
    pub address: String,
    /// Whether anybody may see ip, port and address of nodes.
    pub public_addresses: bool,
    /// Bound on the history kept on disk.
    pub history_max_bytes: u64,
    /// Between two signs of life of the leading super.
    pub heartbeat_ms: u64,
    /// What a node keeps of sealed records, and from whom it takes new ones.
    pub records: RecordsConfig,
    /// Components that the file names and that are not there. No obstacle to a cluster that has its rules in the log; one
    /// to founding, and to `config check`.
    pub missing: Vec<Problem>,
    /// What is no error and yet worth saying, such as a section that the role does not read.
    pub notes: Vec<String>,
}

impl Config {
    /// The defaults of a role, for nodes that are started inside a process without a file. Addresses are loopback with
    /// any free port.
    #[must_use]
    pub fn in_memory(role: Role, name: &str, data_dir: &Path) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            file: PathBuf::new(),
            role,
            name: name.into(),
            data_dir: data_dir.into(),
            storage: Storage::Memory,
            key_file: data_dir.join("node.key"),
            grpc: free,
            rest: free,
            cluster_id: "lab".into(),
            supers: Vec::new(),
            bootstrap: Vec::new(),
            settings: Settings::default(),
            settings_said: Vec::new(),
            policies: build::default_policies(),
            connect_port: 0,
            address: String::new(),
            public_addresses: false,
            history_max_bytes: 1 << 30,
            heartbeat_ms: 50,
            records: RecordsConfig::default(),
            missing: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Config {
    /// Keys of this node alone whose value is another one in `new`: they are read at a start and never again.
    #[must_use]
    pub fn differs(&self, new: &Self) -> Vec<&'static str> {
        let keys = [
            ("node.role", self.role == new.role),
            ("node.name", self.name == new.name),
            ("node.data_dir", self.data_dir == new.data_dir),
            ("node.storage", self.storage == new.storage),
            ("node.key_file", self.key_file == new.key_file),
            ("listen.grpc", self.grpc == new.grpc),
            ("listen.rest", self.rest == new.rest),
            ("cluster.id", self.cluster_id == new.cluster_id),
            ("cluster.supers", self.supers == new.supers),
            ("follower.connect_port", self.connect_port == new.connect_port),
            ("follower.address", self.address == new.address),
            ("records.keep", self.records.keep == new.records.keep),
            ("records.keep_bytes", self.records.keep_bytes == new.records.keep_bytes),
            ("records.keep_days", self.records.keep_days == new.records.keep_days),
            ("records.raw", self.records.raw_open == new.records.raw_open),
            ("records.streams", self.records.streams == new.records.streams),
            ("cluster.bootstrap", self.bootstrap == new.bootstrap),
            ("rest.public_addresses", self.public_addresses == new.public_addresses),
            ("cluster.heartbeat_ms", self.heartbeat_ms == new.heartbeat_ms),
            ("history.max_bytes", self.history_max_bytes == new.history_max_bytes),
        ];
        keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

/// Variables of the process that are about the config.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| read::is_ours(name))
        .collect()
}

/// Reads, overrides and checks.
///
/// # Errors
/// [`ConfigError`] with every problem that was found.
pub fn load(path: &Path, env: &[(String, String)]) -> Result<Config, ConfigError> {
    let source = std::fs::read_to_string(path).map_err(|error| {
        let what = format!("cannot be read: {error}");
        let hint = if error.kind() == std::io::ErrorKind::NotFound {
            "write one with `pingward init --role super`, or name it with --config FILE"
        } else if error.kind() == std::io::ErrorKind::InvalidData {
            "save it as UTF-8"
        } else {
            "check the path and its permissions"
        };
        ConfigError::new(vec![Problem { place: Place::File(path.into()), what, hint: hint.into() }])
    })?;
    parse(path, &source, env)
}

/// As [`load`], from text that was read already.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(path: &Path, source: &str, env: &[(String, String)]) -> Result<Config, ConfigError> {
    let mut read = read::Read::default();
    read.file(path, source);
    read.environment(env);
    let read::Read { values, mut problems, mut notes } = read;
    match build::build(path, &values, &mut problems, &mut notes) {
        Some(config) if problems.is_empty() => Ok(Config { notes, ..config }),
        Some(_) | None => Err(ConfigError::new(problems)),
    }
}

/// Reads and checks all that founding a cluster from the file would need.
///
/// # Errors
/// As [`load`], and the components that are not there.
pub fn load_whole(path: &Path, env: &[(String, String)]) -> Result<Config, ConfigError> {
    let config = load(path, env)?;
    if config.missing.is_empty() { Ok(config) } else { Err(ConfigError::new(config.missing)) }
}

/// A key with its value, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// With its section.
    pub key: &'static str,
    /// The value as TOML.
    pub text: String,
    /// `default`, or where it is said.
    pub from: String,
}

/// Every key that the file's role reads, with its value and where it comes from.
///
/// # Errors
/// As [`load`].
pub fn explain(path: &Path, env: &[(String, String)]) -> Result<Vec<Explained>, ConfigError> {
    let config = load(path, env)?;
    let source = std::fs::read_to_string(path).unwrap_or_default();
    let mut read = read::Read::default();
    read.file(path, &source);
    read.environment(env);
    let keys = schema::schema().iter().filter(|entry| entry.roles.contains(&config.role));
    let explained = keys.map(|entry| match read.values.get(entry.name.as_str()) {
        Some((value, place)) => Explained {
            key: &entry.name,
            text: value.to_string(),
            from: place.to_string().trim_end_matches(": ").into(),
        },
        None => Explained { key: &entry.name, text: entry.default.clone().unwrap_or_default(), from: "default".into() },
    });
    Ok(explained.collect())
}

#[cfg(test)]
mod tests;
