//! From values by key to a [`Config`]: defaults, paths, and what must fit together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kernel::decide::Slot;
use kernel::settings::Settings;
use toml::de::DeValue;

use super::problem::{Place, Problem};
use super::schema::{Entry, JOINS, Scope, schema};
use super::value::{Value, from_toml};
use super::{Component, Config, PeerAddress, PolicySource, RecordsConfig, Role, Storage};

type Values = BTreeMap<&'static str, (Value, Place)>;

struct Build<'a> {
    folder: &'a Path,
    values: &'a Values,
    problems: &'a mut Vec<Problem>,
    file: &'a Path,
}

/// Builds the config; `None` when there is no role to build it for.
pub fn build(file: &Path, values: &Values, problems: &mut Vec<Problem>, notes: &mut Vec<String>) -> Option<Config> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut build = Build { folder, values, problems, file };
    let role = build.role()?;
    notes.extend(unread(role, values));
    let config = build.config(role);
    build.check(&config);
    let missing = if role == Role::Super { build.missing(&config) } else { Vec::new() };
    Some(Config { missing, ..config })
}

/// The default policies of every slot.
pub fn default_policies() -> BTreeMap<Slot, PolicySource> {
    Slot::ALL.into_iter().map(|slot| (slot, policy(slot, &Values::new(), Path::new("")))).collect()
}

fn unread(role: Role, values: &Values) -> impl Iterator<Item = String> {
    schema()
        .iter()
        .filter(move |entry| !entry.roles.contains(&role))
        .filter_map(|entry| values.get(entry.name.as_str()).map(|(_, place)| (entry, place)))
        .map(move |(entry, place)| format!("{place}`{}` is not read by a {role}", entry.name))
}

impl Build<'_> {
    fn role(&mut self) -> Option<Role> {
        let said = self.values.get("node.role");
        let role =
            said.and_then(|(value, _)| Role::ALL.into_iter().find(|role| *value == Value::Text(role.word().into())));
        // A role that is there and wrong was reported where it stands; the same for a file that is no TOML.
        if role.is_none()
            && self
                .problems
                .iter()
                .all(|problem| !problem.what.contains("`node.role`") && !problem.what.contains("not TOML"))
        {
            self.problems.push(Problem {
                place: Place::File(self.file.into()),
                what: "`node.role` is missing; it is the one key without a default".into(),
                hint: "write, in a section [node]: role = \"super\", or \"follower\", \"validator\", \"bootstrap\""
                    .into(),
            });
        }
        role
    }

    fn config(&mut self, role: Role) -> Config {
        let values = self.values;
        let text = |name| text(values, name);
        let name = Some(text("node.name")).filter(|name| !name.is_empty()).unwrap_or_else(|| role.word().into());
        let (settings, settings_said) = self.settings();
        let said = |name: &str| values.contains_key(name);
        let elsewhere = JOINS.contains(&role) && said("cluster.bootstrap");
        let supers = if (role == Role::Super || elsewhere) && !said("cluster.supers") {
            Vec::new()
        } else {
            addresses(values, "cluster.supers")
        };
        Config {
            file: self.file.into(),
            role,
            name,
            data_dir: self.folder.join(text("node.data_dir")),
            storage: if text("node.storage") == "memory" { Storage::Memory } else { Storage::Disk },
            key_file: self.folder.join(text("node.key_file")),
            grpc: listen(values, "listen.grpc"),
            rest: listen(values, "listen.rest"),
            cluster_id: text("cluster.id"),
            supers,
            bootstrap: addresses(values, "cluster.bootstrap"),
            settings,
            settings_said,
            policies: Slot::ALL.into_iter().map(|slot| (slot, policy(slot, values, self.folder))).collect(),
            connect_port: u16::try_from(number(values, "follower.connect_port")).unwrap_or_default(),
            address: text("follower.address"),
            public_addresses: get(values, "rest.public_addresses") == Some(Value::Switch(true)),
            history_max_bytes: number(values, "history.max_bytes"),
            heartbeat_ms: number(values, "cluster.heartbeat_ms"),
            records: RecordsConfig {
                keep: text("records.keep") != "none",
                // A validator is where records are to be had: what it keeps is bounded where its file says so.
                keep_bytes: if role == Role::Validator && !said("records.keep_bytes") {
                    0
                } else {
                    number(values, "records.keep_bytes")
                },
                keep_days: number(values, "records.keep_days"),
                raw_open: text("records.raw") == "open",
                streams: number(values, "records.streams"),
            },
            missing: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The defaults with what is said, in the order of the table: the interval comes before the timeout that must fit it.
    fn settings(&mut self) -> (Settings, Vec<(String, String)>) {
        let mut settings = Settings::default();
        let mut said = Vec::new();
        for entry in schema().iter().filter(|entry| entry.scope == Scope::Cluster) {
            let Some((value, place)) = self.values.get(entry.name.as_str()) else { continue };
            let text = match value {
                Value::Text(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Switch(on) => on.to_string(),
                Value::Listen(_) | Value::Addresses(_) | Value::Json(_) => continue,
            };
            match settings.set(&entry.name, &text) {
                Ok(()) => said.push((entry.name.clone(), text)),
                Err(error) => self.problem(place, error.to_string(), ""),
            }
        }
        (settings, said)
    }

    fn problem(&mut self, place: &Place, what: String, hint: &str) {
        self.problems.push(Problem { place: place.clone(), what, hint: hint.into() });
    }

    /// Where a key was said, or the file.
    fn place(&self, name: &str) -> Place {
        self.values.get(name).map_or_else(|| Place::File(self.file.into()), |(_, place)| place.clone())
    }

    /// What must fit together.
    fn check(&mut self, config: &Config) {
        if config.cluster_id.is_empty() {
            let place = self.place("cluster.id");
            self.problem(&place, "`cluster.id` is empty".into(), "give the cluster a name, such as \"lab\"");
        }
        match config.role {
            Role::Super => self.check_reached(config),
            Role::Follower => {
                self.check_supers(config);
                self.check_follower(config);
            }
            Role::Validator | Role::Bootstrap => {
                self.check_supers(config);
                self.check_reached(config);
            }
        }
    }

    fn check_reached(&mut self, config: &Config) {
        if clash(config.grpc, config.rest) {
            let name = if self.values.contains_key("listen.rest") { "listen.rest" } else { "listen.grpc" };
            let place = self.place(name);
            let what = format!("`listen.grpc` {} and `listen.rest` {} are the same port", config.grpc, config.rest);
            self.problem(&place, what, "give each its own port");
        }
    }

    fn missing(&self, config: &Config) -> Vec<Problem> {
        let files = config.policies.iter().filter_map(|(slot, source)| match &source.component {
            Component::File(path) => Some((format!("policy.{slot}.component"), path)),
            Component::Builtin(_) => None,
        });
        let missing = files.filter(|(_, path)| !path.is_file()).map(|(name, path)| Problem {
            place: self.place(&name),
            what: format!("`{name}`: there is no file {}", path.display()),
            hint: "a path counts from the folder of this file; the default is a `builtin:` one".into(),
        });
        missing.collect()
    }

    fn check_supers(&mut self, config: &Config) {
        if config.supers.is_empty() && config.bootstrap.is_empty() {
            let place = self.place("cluster.supers");
            self.problem(
                &place,
                format!("`cluster.supers` is empty, and a {} must know a super", config.role),
                "name one, such as [\"127.0.0.1:7001\"]",
            );
        }
    }

    fn check_follower(&mut self, config: &Config) {
        for (listen, address) in [("listen.rest", config.rest), ("listen.grpc", config.grpc)] {
            let is_said = listen == "listen.rest" || self.values.contains_key(listen);
            if config.connect_port != 0 && config.connect_port == address.port() && is_said {
                let place = self.place("follower.connect_port");
                let what =
                    format!("`follower.connect_port` {} is the port of `{listen}` {address}", config.connect_port);
                self.problem(&place, what, "one port cannot do both: change one of them, or use 0 for any free port");
            }
        }
    }
}

/// Whether both cannot be listened on.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || everywhere)
}

fn policy(slot: Slot, values: &Values, folder: &Path) -> PolicySource {
    let text = text(values, &format!("policy.{slot}.component"));
    let component = match text.strip_prefix("builtin:") {
        Some(name) => Component::Builtin(name.into()),
        None => Component::File(folder.join(PathBuf::from(&text))),
    };
    let name = format!("policy.{slot}.config");
    // The default config is the default component's: what another one takes is its own affair.
    let config = match (values.get(name.as_str()), values.contains_key(format!("policy.{slot}.component").as_str())) {
        (Some((Value::Json(json), _)), _) => json.clone(),
        (_, true) if default_text(&format!("policy.{slot}.component")) != text => "{}".into(),
        _ => match get(values, &name) {
            Some(Value::Json(json)) => json,
            Some(_) | None => "{}".into(),
        },
    };
    PolicySource { component, config }
}

/// What is said, or the default.
fn get(values: &Values, name: &str) -> Option<Value> {
    if let Some((value, _)) = values.get(name) {
        return Some(value.clone());
    }
    schema().iter().find(|entry| entry.name == name).and_then(default_of)
}

fn default_of(entry: &Entry) -> Option<Value> {
    let value = DeValue::parse(entry.default.as_deref()?).ok()?;
    from_toml(entry.kind, &value).ok()
}

fn default_text(name: &str) -> String {
    text(&Values::new(), name)
}

fn text(values: &Values, name: &str) -> String {
    match get(values, name) {
        Some(Value::Text(text)) => text,
        Some(Value::Listen(_) | Value::Addresses(_) | Value::Number(_) | Value::Switch(_) | Value::Json(_)) | None => {
            String::new()
        }
    }
}

fn number(values: &Values, name: &str) -> u64 {
    match get(values, name) {
        Some(Value::Number(number)) => number,
        Some(Value::Listen(_) | Value::Addresses(_) | Value::Text(_) | Value::Switch(_) | Value::Json(_)) | None => 0,
    }
}

fn addresses(values: &Values, name: &str) -> Vec<PeerAddress> {
    match get(values, name) {
        Some(Value::Addresses(addresses)) => addresses,
        Some(Value::Listen(_) | Value::Text(_) | Value::Number(_) | Value::Switch(_) | Value::Json(_)) | None => {
            Vec::new()
        }
    }
}

fn listen(values: &Values, name: &str) -> SocketAddr {
    match get(values, name) {
        Some(Value::Listen(address)) => address,
        Some(Value::Addresses(_) | Value::Text(_) | Value::Number(_) | Value::Switch(_) | Value::Json(_)) | None => {
            SocketAddr::from(([127, 0, 0, 1], 0))
        }
    }
}

/// Whether every default reads as its key's kind: a slip in the table would otherwise be a silent zero.
#[cfg(test)]
pub fn unreadable_defaults() -> Vec<&'static str> {
    schema()
        .iter()
        .filter(|entry| entry.default.is_some() && default_of(entry).is_none())
        .map(|entry| entry.name.as_str())
        .collect()
}
