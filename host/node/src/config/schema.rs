//! The one table of keys. Parsing, checking, suggestions, environment overrides and the file that `init` writes are all
//! driven by it, so that a key cannot exist in one of them only.

use std::sync::OnceLock;

use kernel::decide::Slot;
use kernel::settings::{Key, Settings};

use super::Role;

/// What a key's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of some words.
    Word(&'static [&'static str]),
    /// 1 to 32 characters of `a-z`, `0-9` and `-`; empty where the default says what that means.
    Name,
    /// A path; relative ones count from the file's folder.
    Path,
    /// `ip:port` to listen on.
    Listen,
    /// A list of `host:port` or `<64 hex>@host:port`.
    Addresses,
    /// A port; 0 = any free one.
    Port,
    /// At most so many printable characters.
    Printable(usize),
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds.
    Number {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number or switch of the cluster, checked by the kernel.
    Setting(&'static Key),
    /// A range of protocol versions.
    Versions,
    /// `builtin:NAME` or a path.
    Component,
    /// A table that is handed on as JSON.
    Json,
}

impl Kind {
    /// What a reader should write, in words.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::Word(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "),
            Self::Name => "a name: 1 to 32 characters of a-z, 0-9 and -".into(),
            Self::Path => "a path as text".into(),
            Self::Listen => "an address to listen on, such as \"127.0.0.1:7001\"".into(),
            Self::Addresses => {
                "a list of addresses, such as [\"10.0.0.1:7001\"] or [\"<64 hex>@10.0.0.1:7001\"]".into()
            }
            Self::Port => "a port, 1 to 65535, or 0 for any free one".into(),
            Self::Printable(longest) => format!("text of at most {longest} printable ASCII characters"),
            Self::Switch => "true or false".into(),
            Self::Number { min, max } => format!("a whole number, {min} to {max}"),
            Self::Setting(key) if key.is_bool => "true or false".into(),
            Self::Setting(key) => format!("a whole number, {} to {}", key.min, key.max),
            Self::Versions => "a range of versions, such as \">=0.1, <0.2\"".into(),
            Self::Component => "\"builtin:NAME\" or a path to a .wasm file".into(),
            Self::Json => "a table of whole numbers, text, true/false, lists and tables".into(),
        }
    }
}

impl Kind {
    /// Whether a value is written without quotes in the file.
    #[must_use]
    pub fn is_bare(self, value: &str) -> bool {
        let is_quoted = value.starts_with(['"', '\'']);
        is_quoted || !super::read::is_text(self)
    }
}

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The node's own; only its file says it.
    Node,
    /// The cluster's: the founder's file seeds it, `cluster set` changes it later.
    Cluster,
}

impl Scope {
    /// The words at the end of a doc line.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Node => "node setting",
            Self::Cluster => "cluster setting",
        }
    }
}

/// One key.
#[derive(Clone, Debug)]
pub struct Entry {
    /// With its sections: `round.interval_ms`.
    pub name: String,
    /// What its value looks like.
    pub kind: Kind,
    /// The default as TOML; `None` = there is none.
    pub default: Option<String>,
    /// One line: what it does.
    pub doc: String,
    /// Whose it is.
    pub scope: Scope,
    /// Roles that read it.
    pub roles: &'static [Role],
}

impl Entry {
    /// The section, such as `policy.reward`.
    #[must_use]
    pub fn section(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The name inside its section.
    #[must_use]
    pub fn key(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name.as_str(), |(_, key)| key)
    }
}

const ALL: &[Role] = &Role::ALL;
const SUPER: &[Role] = &[Role::Super];
const FOLLOWER: &[Role] = &[Role::Follower];
const VALIDATOR: &[Role] = &[Role::Validator];
/// Nodes that others reach.
const REACHED: &[Role] = &[Role::Super, Role::Validator, Role::Bootstrap];
/// Nodes that take users' records in and keep what is sealed.
const RECORDS: &[Role] = &[Role::Follower, Role::Validator];
/// Nodes that may begin with a bootstrap node.
pub const JOINS: &[Role] = &[Role::Follower, Role::Validator];

/// Every key, in the order of the file.
#[must_use]
pub fn schema() -> &'static [Entry] {
    static SCHEMA: OnceLock<Vec<Entry>> = OnceLock::new();
    SCHEMA.get_or_init(build)
}

/// The sections and what each is about, in the order of the file.
pub const SECTIONS: &[(&str, &str)] = &[
    ("node", "this process"),
    ("listen", "where it listens"),
    ("cluster", "which cluster, and where its supers are"),
    ("round", "the round: pings, turns, and when a round is doubted"),
    ("guard", "when observers contradict each other"),
    ("guardrails", "bounds on what may come in and on what policies may decide"),
    ("policy_limits", "what a policy may use"),
    ("records", "users' records: how they are ordered and signed, and what a node keeps"),
    ("follower", "what a follower connects from and says of itself"),
    (
        "policy.reward",
        "the rule that pays; taken when a cluster is founded, and by a lone super when this file changes",
    ),
    ("policy.ban", "the rule that warns, suspends and bans; taken as policy.reward is"),
    ("policy.signing", "the rule that says which records are signed; taken as policy.reward is"),
    ("rest", "what the REST interface shows"),
    ("history", "how much of the past is kept"),
];

fn build() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut node = |name: &str, kind: Kind, default: Option<&str>, roles: &'static [Role], doc: &str| {
        entries.push(Entry {
            name: name.into(),
            kind,
            default: default.map(Into::into),
            doc: doc.into(),
            scope: Scope::Node,
            roles,
        });
    };
    node("node.role", Kind::Word(&Role::WORDS), None, ALL, "what this node does; the one key without a default");
    node(
        "node.name",
        Kind::Name,
        Some("\"\""),
        ALL,
        "shown to people, not unique, never identity; empty = the role's word",
    );
    node("node.data_dir", Kind::Path, Some("\"data\""), ALL, "where everything is kept; relative to this file");
    node(
        "node.storage",
        Kind::Word(&["disk", "memory"]),
        Some("\"disk\""),
        ALL,
        "memory keeps nothing; a super then founds a new cluster at each start",
    );
    node(
        "node.key_file",
        Kind::Path,
        Some("\"node.key\""),
        ALL,
        "its identity; made at first start, mode 0600; relative to this file",
    );
    node("listen.grpc", Kind::Listen, Some("\"127.0.0.1:7001\""), REACHED, "for other nodes");
    node("listen.rest", Kind::Listen, Some("\"127.0.0.1:8080\""), ALL, "for people and programs");
    node("cluster.id", Kind::Name, Some("\"lab\""), ALL, "nodes of another id are refused");
    node(
        "cluster.supers",
        Kind::Addresses,
        Some("[\"127.0.0.1:7001\"]"),
        ALL,
        "the supers, each `host:port` or `<64 hex>@host:port` to pin its key. A super that is empty founds a cluster where it is left out or names itself alone; else it waits to be added",
    );
    node(
        "cluster.bootstrap",
        Kind::Addresses,
        Some("[]"),
        JOINS,
        "instead of supers, for nodes that join: bootstrap nodes, each `host:port` or `<64 hex>@host:port`, which tell where the supers are",
    );
    node(
        "cluster.heartbeat_ms",
        Kind::Number { min: 20, max: 5_000 },
        Some("50"),
        SUPER,
        "between two signs of life of the leading super; more than a round trip between two supers takes, and the same on all. After 6 to 12 times as long without one another super leads",
    );
    entries.push(Entry {
        name: Settings::ACCEPT_VERSIONS.into(),
        kind: Kind::Versions,
        default: Some(format!("\"{}\"", Settings::default().accept_versions)),
        doc: "protocol versions that may attach".into(),
        scope: Scope::Cluster,
        roles: SUPER,
    });
    entries.extend(Settings::KEYS.iter().map(|key| Entry {
        name: key.name.into(),
        kind: Kind::Setting(key),
        default: Some(if key.is_bool { (key.default == 1).to_string() } else { key.default.to_string() }),
        doc: key.doc.into(),
        scope: Scope::Cluster,
        roles: SUPER,
    }));
    let mut node = |name: String, kind: Kind, default: &str, roles: &'static [Role], doc: &str| {
        entries.push(Entry { name, kind, default: Some(default.into()), doc: doc.into(), scope: Scope::Node, roles });
    };
    node(
        "records.keep".into(),
        Kind::Word(&["all", "none"]),
        "\"all\"",
        RECORDS,
        "`all` keeps sealed records here, `none` fetches one when somebody asks",
    );
    node(
        "records.keep_bytes".into(),
        Kind::Number { min: 0, max: 1 << 50 },
        "1_073_741_824",
        RECORDS,
        "disk for sealed records, bytes: the newest stay; 0 = no bound",
    );
    node(
        "records.keep_days".into(),
        Kind::Number { min: 0, max: 36_500 },
        "0",
        RECORDS,
        "sealed records stay so many days; 0 = no bound",
    );
    node(
        "records.raw".into(),
        Kind::Word(&["operator", "open"]),
        "\"operator\"",
        RECORDS,
        "who may hand in bodies without a signature, which this node signs and pays for: its `operator`, by token or socket, or anybody (`open`)",
    );
    node(
        "records.streams".into(),
        Kind::Number { min: 1, max: 10_000 },
        "64",
        VALIDATOR,
        "nodes that may stream all sealed records from here at once",
    );
    node(
        "follower.connect_port".into(),
        Kind::Port,
        "7101",
        FOLLOWER,
        "source port that it connects from, declared in its hello; 0 = any free one",
    );
    node(
        "follower.address".into(),
        Kind::Printable(kernel::limits::PONG_ADDRESS_CHARS),
        "\"\"",
        FOLLOWER,
        "the address that its pongs tell, never dialled; empty = listen.rest",
    );
    for slot in Slot::ALL {
        let (component, config) = match slot {
            Slot::Reward => ("\"builtin:reward-flat\"", "{ points_per_round = 10 }"),
            Slot::Ban => ("\"builtin:ban-strikes\"", "{ warn = 2, suspend = 3, ban = 5, ban_rounds = 60 }"),
            Slot::Signing => ("\"builtin:sign-basic\"", "{ max_bytes = 65536 }"),
        };
        node(
            format!("policy.{slot}.component"),
            Kind::Component,
            component,
            SUPER,
            "`builtin:NAME`, or a .wasm file relative to this one",
        );
        node(format!("policy.{slot}.config"), Kind::Json, config, SUPER, "handed to the component as JSON");
    }
    node(
        "rest.public_addresses".into(),
        Kind::Switch,
        "false",
        SUPER,
        "show nodes' ip, port and address to anybody; false = to admins only",
    );
    node(
        "history.max_bytes".into(),
        Kind::Number { min: 1 << 20, max: 1 << 50 },
        "1_073_741_824",
        SUPER,
        "disk for settled rounds, bytes; beyond it the oldest go",
    );
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_a_listed_section_once() {
        let mut names: Vec<&str> = schema().iter().map(|entry| entry.name.as_str()).collect();
        for entry in schema() {
            assert!(SECTIONS.iter().any(|(section, _)| *section == entry.section()), "{}", entry.name);
            assert!(!entry.doc.is_empty() && entry.default.is_some() != (entry.name == "node.role"), "{}", entry.name);
        }
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
