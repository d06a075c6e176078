//! The commented file that `init` writes: every key that the role reads, with its meaning, bounds and default.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Role;
use super::schema::{Entry, Kind, SECTIONS, schema};

const WIDTH: usize = 118;

/// The file of a role. Keys in `said` (values as TOML) are set; the others stand as comments with their defaults.
#[must_use]
pub fn file(role: Role, said: &BTreeMap<&str, String>) -> String {
    let mut out = format!(
        "# A pingward {role}. Every key that a {role} reads is here; a line that begins with `# key =` is a default: take the\n\
         # `# ` away to change it. Node settings count from the next start. Cluster settings are one set for the whole\n\
         # cluster: the founder's file seeds them, and `pingward cluster set KEY VALUE` changes them later.\n\
         # `PINGWARD_SECTION__KEY` in the environment overrides a key. Check with: pingward config check FILE\n"
    );
    for (section, about) in SECTIONS {
        let keys: Vec<&Entry> =
            schema().iter().filter(|entry| entry.section() == *section && entry.roles.contains(&role)).collect();
        if keys.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n# {about}\n[{section}]");
        for entry in keys {
            let _ = write!(out, "{}", lines(entry, said.get(entry.name.as_str())));
        }
    }
    out
}

fn lines(entry: &Entry, said: Option<&String>) -> String {
    let mut doc = format!("{}; {}", entry.doc, entry.scope.words());
    if let Kind::Setting(key) = entry.kind
        && !key.is_bool
    {
        let _ = write!(doc, ", {} to {}", key.min, key.max);
    }
    let line = match (said, entry.default.as_ref()) {
        (Some(value), _) => format!("{} = {value}", entry.key()),
        (None, Some(default)) => format!("# {} = {default}", entry.key()),
        (None, None) => format!("{} = ", entry.key()),
    };
    let mut out = String::new();
    for part in wrap(&doc) {
        let _ = writeln!(out, "#: {part}");
    }
    let _ = writeln!(out, "{line}");
    out
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + word.len() + 4 > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
