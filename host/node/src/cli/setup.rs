//! Before a node runs: its config, its key, and completions for shells.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clap_complete::Shell;
use kernel::id::is_name;

use super::author::check_named;
use super::output::{Format, Output};
use crate::config::{self, Role, template};
use crate::failure::Failure;
use crate::keys::{NodeKey, write_new};
use crate::text::{note, pairs, print};

/// Write a commented config and a key for a new node
///
/// Writes DIR/node.toml, in which every key of the role stands with its meaning, bounds and default, and DIR/node.key.
/// Nothing is ever overwritten. A number at the end of the name (follower-2) gives the ports of that number, so that
/// followers on one machine do not collide: connect_port 7100 + number, REST 8080 + number; without a number a follower
/// takes any free ports. A super listens on 7001 and 8080.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward init --role super --dir super-1
  pingward init --role follower --dir follower-1
  pingward init --role follower --dir f --rest 127.0.0.1:8090 --connect-port 7190 --super 10.0.0.1:7001
  pingward init --role super --dir lab --set round.interval_ms=1000")]
pub struct Init {
    /// What the node does
    #[arg(long, value_parser = role)]
    role: Role,
    /// The folder; it is made when it is not there
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Its display name; the default is the folder's name
    #[arg(long, value_parser = name)]
    name: Option<String>,
    /// The cluster
    #[arg(long, value_name = "ID", default_value = "lab", value_parser = name)]
    cluster: String,
    /// Where a super listens for other nodes
    #[arg(long, value_name = "IP:PORT")]
    grpc: Option<String>,
    /// Where it listens for people and programs
    #[arg(long, value_name = "IP:PORT")]
    rest: Option<String>,
    /// The super that a follower attaches to; once for each
    #[arg(long = "super", value_name = "[KEY@]HOST:PORT")]
    supers: Vec<String>,
    /// Source port of a follower; 0 = any free one
    #[arg(long, value_name = "PORT")]
    connect_port: Option<u16>,
    /// Any other key, its value as in the file; once for each
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

fn role(text: &str) -> Result<Role, String> {
    let known = || format!("the roles are {}", Role::WORDS.join(", "));
    Role::ALL.into_iter().find(|role| role.word() == text).ok_or_else(known)
}

fn name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.into()) } else { Err("use 1 to 32 characters of a-z, 0-9 and -".into()) }
}

/// `KEY=VALUE` on the command line.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write SECTION.KEY=VALUE, such as round.interval_ms=1000")?;
    Ok((key.trim().into(), value.trim().into()))
}

fn quoted(text: &str) -> String {
    // A JSON string is a TOML string.
    serde_json::Value::from(text).to_string()
}

impl Init {
    pub fn run(self) -> Result<(), Failure> {
        let file = self.dir.join("node.toml");
        if file.exists() {
            let what = format!("{} exists, and nothing is overwritten", file.display());
            return Err(Failure::new(what, "edit it, or name another folder with --dir DIR"));
        }
        let text = self.text()?;
        // Whatever the flags say must be a config that starts.
        config::parse(&file, &text, &[])?;
        write_new(&file, text.as_bytes()).map_err(|error| {
            Failure::new(format!("cannot be written: {error}"), "check the folder and its permissions")
                .at(file.display().to_string())
        })?;
        let key_file = self.dir.join("node.key");
        let (key, made) = NodeKey::load_or_create(&key_file).map_err(anyhow::Error::new)?;
        note(&format!(
            "wrote {} and {} {}\nstart it: pingward run --config {}",
            file.display(),
            if made { "the key" } else { "kept the key" },
            key_file.display(),
            file.display()
        ));
        print(&pairs(&[
            ("config", file.display().to_string()),
            ("key", key_file.display().to_string()),
            ("node", key.id().to_string()),
        ]))
    }

    fn text(&self) -> Result<String, Failure> {
        let name = self.name.clone().or_else(|| folder_name(&self.dir)).unwrap_or_else(|| self.role.word().into());
        let number = name
            .rsplit_once('-')
            .and_then(|(_, number)| number.parse::<u16>().ok())
            .filter(|number| (1..100).contains(number));
        let mut said = BTreeMap::from([
            ("node.role", quoted(self.role.word())),
            ("node.name", quoted(&name)),
            ("cluster.id", quoted(&self.cluster)),
        ]);
        let rest = match (&self.rest, self.role, number) {
            (Some(rest), _, _) => rest.clone(),
            (None, Role::Super, _) => "127.0.0.1:8080".into(),
            (None, Role::Follower, number) => format!("127.0.0.1:{}", number.map_or(0, |number| 8_080 + number)),
            (None, Role::Validator, number) => format!("127.0.0.1:{}", number.map_or(0, |number| 8_200 + number)),
            (None, Role::Bootstrap, number) => format!("127.0.0.1:{}", number.map_or(0, |number| 8_300 + number)),
        };
        said.insert("listen.rest", quoted(&rest));
        match self.role {
            Role::Super => {
                said.insert("listen.grpc", quoted(self.grpc.as_deref().unwrap_or("127.0.0.1:7001")));
                if !self.supers.is_empty() || self.connect_port.is_some() {
                    return Err(Failure::usage("--super and --connect-port are a follower's", "leave them out"));
                }
            }
            Role::Follower => {
                if self.grpc.is_some() {
                    return Err(Failure::usage(
                        "--grpc is not a follower's: it listens for people only",
                        "leave it out",
                    ));
                }
                said.insert("cluster.supers", self.named_supers());
                let port = self.connect_port.unwrap_or_else(|| number.map_or(0, |number| 7_100 + number));
                said.insert("follower.connect_port", port.to_string());
            }
            Role::Validator | Role::Bootstrap => {
                if self.connect_port.is_some() {
                    return Err(Failure::usage("--connect-port is a follower's", "leave it out"));
                }
                let first = if self.role == Role::Validator { 7_200 } else { 7_300 };
                let grpc = format!("127.0.0.1:{}", first + number.unwrap_or(1));
                said.insert("listen.grpc", quoted(self.grpc.as_deref().unwrap_or(&grpc)));
                said.insert("cluster.supers", self.named_supers());
            }
        }
        for (key, value) in &self.set {
            let known =
                config::schema::schema().iter().find(|entry| entry.name == *key && entry.roles.contains(&self.role));
            let entry = known.ok_or_else(|| {
                Failure::usage(
                    format!("--set {key}: a {} has no such key", self.role),
                    "`pingward config show` lists the keys",
                )
            })?;
            let value = if entry.kind.is_bare(value) { value.clone() } else { quoted(value) };
            said.insert(&entry.name, value);
        }
        Ok(template::file(self.role, &said))
    }

    /// The supers, as the file has them.
    fn named_supers(&self) -> String {
        let supers: Vec<String> = self.supers.iter().map(|address| quoted(address)).collect();
        let supers = if supers.is_empty() { vec![quoted("127.0.0.1:7001")] } else { supers };
        format!("[{}]", supers.join(", "))
    }
}

fn folder_name(dir: &Path) -> Option<String> {
    let name = dir.file_name()?.to_str()?;
    is_name(name).then(|| name.to_string())
}

/// Make or show a node's key
#[derive(Debug, Subcommand)]
pub enum Key {
    New(NewKey),
    Show(ShowKey),
}

/// Make a new key file (ed25519, PKCS#8 PEM, mode 0600); never overwrites
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward key new wallet.key")]
pub struct NewKey {
    /// Where
    #[arg(default_value = "node.key")]
    file: PathBuf,
}

/// Show the public key of a key file: the node's name for everybody
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward key show follower-1/node.key")]
pub struct ShowKey {
    /// The key file
    #[arg(default_value = "node.key")]
    file: PathBuf,
}

impl Key {
    pub fn run(self) -> Result<(), Failure> {
        let key = match self {
            Self::New(NewKey { file }) => {
                let key = NodeKey::generate().map_err(anyhow::Error::new)?;
                key.save(&file).map_err(anyhow::Error::new)?;
                note(&format!("wrote {}; whoever has this file is the node", file.display()));
                key
            }
            Self::Show(ShowKey { file }) => NodeKey::load(&file).map_err(anyhow::Error::new)?,
        };
        print(&format!("{}\n", key.id()))
    }
}

/// Check a config, or show what it comes to
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    Check(CheckConfig),
    Show(ShowConfig),
}

/// Check a config without starting anything: `ok`, or every problem with its line and its cure
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward config check node.toml")]
pub struct CheckConfig {
    /// The file
    #[arg(default_value = "node.toml")]
    file: PathBuf,
}

/// Show every key with its value: from the file, the environment, or the default
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingward config show --config super-1/node.toml --output json")]
pub struct ShowConfig {
    /// The file
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl ConfigCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Check(CheckConfig { file }) => {
                let config = config::load_whole(&file, &config::environment())?;
                for remark in &config.notes {
                    note(&format!("note: {remark}"));
                }
                if config.role == Role::Super {
                    for (slot, source) in &config.policies {
                        check_named(*slot, source, &config.settings)
                            .map_err(|failure| failure.at(format!("{}, [policy.{slot}]", file.display())))?;
                    }
                }
                print("ok\n")
            }
            Self::Show(ShowConfig { config, output }) => {
                let values = config::explain(&config, &config::environment())?;
                match output.output {
                    Format::Json => {
                        let object: serde_json::Map<_, _> = values
                            .into_iter()
                            .map(|value| {
                                (value.key.into(), serde_json::json!({ "value": value.text, "from": value.from }))
                            })
                            .collect();
                        print(&format!("{:#}\n", serde_json::Value::Object(object)))
                    }
                    Format::Table => {
                        let mut columns = crate::text::Columns::new(&["key", "value", "from"]);
                        for value in values {
                            columns.row([value.key.into(), value.text, value.from]);
                        }
                        print(&columns.text("nothing"))
                    }
                }
            }
        }
    }
}

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward completions bash > /etc/bash_completion.d/pingward
  pingward completions zsh > ~/.zfunc/_pingward
  pingward completions fish > ~/.config/fish/completions/pingward.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(self, command: &mut clap::Command) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, command, "pingward", &mut text);
        print(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(role: Role, dir: &Path) -> Init {
        Init {
            role,
            dir: dir.into(),
            name: None,
            cluster: "lab".into(),
            grpc: None,
            rest: None,
            supers: Vec::new(),
            connect_port: None,
            set: Vec::new(),
        }
    }

    #[test]
    fn init_writes_a_config_that_starts_and_a_private_key() {
        let dir = tempfile::tempdir().unwrap();
        for (role, folder) in [(Role::Super, "super-1"), (Role::Follower, "follower-2"), (Role::Follower, "any")] {
            let at = dir.path().join(folder);
            init(role, &at).run().unwrap();
            let config = config::load(&at.join("node.toml"), &[]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((config.role, config.name.as_str(), config.notes.len()), (role, folder, 0));
            assert!(NodeKey::load(&config.key_file).is_ok());
            let ports = (config.rest.port(), config.connect_port);
            let expected = match folder {
                "super-1" => (8_080, 7_101),
                "follower-2" => (8_082, 7_102),
                _ => (0, 0),
            };
            assert_eq!(ports, expected, "{folder}");
        }
    }

    #[test]
    fn init_overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        init(Role::Super, dir.path()).run().unwrap();
        let before =
            (std::fs::read(dir.path().join("node.toml")).unwrap(), std::fs::read(dir.path().join("node.key")).unwrap());
        let failure = init(Role::Follower, dir.path()).run().unwrap_err();
        assert!(failure.what.ends_with("exists, and nothing is overwritten"), "{failure}");
        let after =
            (std::fs::read(dir.path().join("node.toml")).unwrap(), std::fs::read(dir.path().join("node.key")).unwrap());
        assert_eq!(before, after);
        std::fs::remove_file(dir.path().join("node.toml")).unwrap();
        init(Role::Follower, dir.path()).run().unwrap();
        assert_eq!(std::fs::read(dir.path().join("node.key")).unwrap(), before.1, "a key that is there is kept");
    }

    #[test]
    fn flags_say_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let set = |key: &str, value: &str| (key.to_string(), value.to_string());
        let mut asked = Init {
            grpc: Some("0.0.0.0:7009".into()),
            set: vec![
                set("round.interval_ms", "1000"),
                set("node.storage", "memory"),
                set("policy.ban.config", "{ warn = 1 }"),
            ],
            ..init(Role::Super, &dir.path().join("a"))
        };
        let text = asked.text().unwrap();
        let config = config::parse(Path::new("a/node.toml"), &text, &[]).unwrap();
        assert_eq!(
            (config.grpc.port(), config.settings.interval_ms, config.storage),
            (7_009, 1_000, config::Storage::Memory)
        );
        asked.set = vec![set("round.interval", "1")];
        assert!(asked.text().unwrap_err().usage);
        asked.set = vec![set("round.interval_ms", "1")];
        assert!(asked.run().unwrap_err().what.contains("out of bounds"));
        assert!(!dir.path().join("a").exists(), "a refused init leaves nothing");
        let wrong = Init { connect_port: Some(1), ..init(Role::Super, dir.path()) };
        assert!(wrong.text().unwrap_err().usage);
    }

    #[test]
    fn completions_know_every_command() {
        let mut command = <super::super::Cli as clap::CommandFactory>::command();
        let mut text = Vec::new();
        clap_complete::generate(Shell::Bash, &mut command, "pingward", &mut text);
        let text = String::from_utf8(text).unwrap();
        for word in ["demo", "claim", "rounds", "compensate"] {
            assert!(text.contains(word), "{word}");
        }
    }
}
