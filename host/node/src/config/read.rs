//! From text to typed values by key, each with the place where it was said.

use std::collections::BTreeMap;
use std::path::Path;

use kernel::settings::distance;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};
use super::schema::{Entry, Kind, SECTIONS, schema};
use super::value::{Value, from_text, from_toml};

const PREFIX: &str = "PINGWARD_";

/// Whether a variable of the process is meant to override a key.
pub fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains("__"))
}

/// What file and environment say so far.
#[derive(Default)]
pub struct Read {
    /// By full name of the key.
    pub values: BTreeMap<&'static str, (Value, Place)>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is worth saying.
    pub notes: Vec<String>,
}

impl Read {
    /// Takes the file.
    pub fn file(&mut self, path: &Path, source: &str) {
        let (table, errors) = DeTable::parse_recoverable(source);
        for error in errors {
            let span = error.span().unwrap_or(source.len()..source.len());
            let what = format!("this is not TOML: {}", error.message());
            let problem = Problem { place: Place::of(path, source, &span), what, hint: String::new() };
            // The parser may stumble over one place more than once.
            if self.problems.last() != Some(&problem) {
                self.problems.push(problem);
            }
        }
        // What a broken line means is a guess: only whole files are looked into.
        if self.problems.is_empty() {
            self.table("", table.get_ref(), &|span| Place::of(path, source, span));
        }
    }

    fn table(&mut self, section: &str, table: &DeTable<'_>, place: &dyn Fn(&std::ops::Range<usize>) -> Place) {
        for (key, value) in table {
            let name = join(section, key.get_ref());
            if let Some(entry) = schema().iter().find(|entry| entry.name == name) {
                self.take(entry, value, place);
            } else if SECTIONS.iter().any(|(known, _)| is_within(known, &name)) {
                if let Some(inner) = value.get_ref().as_table() {
                    self.table(&name, inner, place);
                } else {
                    self.problems.push(Problem {
                        place: place(&value.span()),
                        what: format!("`{name}` is a section, found {}", kind_word(value.get_ref())),
                        hint: format!("write [{name}] and its keys below it"),
                    });
                }
            } else {
                let (what, hint) = unknown(section, key.get_ref(), matches!(value.get_ref(), DeValue::Table(_)));
                self.problems.push(Problem { place: place(&key.span()), what, hint });
            }
        }
    }

    fn take(
        &mut self,
        entry: &'static Entry,
        value: &Spanned<DeValue<'_>>,
        place: &dyn Fn(&std::ops::Range<usize>) -> Place,
    ) {
        match from_toml(entry.kind, value) {
            Ok(taken) => {
                self.values.insert(&entry.name, (taken, place(&value.span())));
            }
            Err(wrong) => self.problems.extend(wrong.into_iter().map(|wrong| Problem {
                place: place(&wrong.span),
                what: format!("`{}` {}", entry.name, wrong.what),
                hint: wrong.hint,
            })),
        }
    }

    /// Takes the variables that override keys.
    pub fn environment(&mut self, env: &[(String, String)]) {
        for (variable, text) in env.iter().filter(|(name, _)| is_ours(name)) {
            let place = Place::Variable(variable.clone());
            let name = variable.strip_prefix(PREFIX).unwrap_or_default().replace("__", ".").to_lowercase();
            let Some(entry) = schema().iter().find(|entry| entry.name == name) else {
                let near = nearest(&name, schema().iter().map(|entry| entry.name.as_str()));
                let hint = near.map_or_else(
                    || "unset it; `pingward init` writes a file with every key".into(),
                    |near| format!("did you mean {}?", variable_of(near)),
                );
                self.problems.push(Problem { place, what: format!("there is no key `{name}`"), hint });
                continue;
            };
            match from_text(entry.kind, text) {
                Ok(value) => {
                    self.values.insert(&entry.name, (value, place));
                }
                Err((what, hint)) => self.problems.push(Problem { place, what, hint }),
            }
        }
    }
}

/// The variable that overrides a key.
pub fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// What a TOML value is, in words.
pub fn kind_word(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.into() } else { format!("{section}.{key}") }
}

/// Whether `known` is the section or below it.
fn is_within(known: &str, section: &str) -> bool {
    known.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn unknown(section: &str, key: &str, is_table: bool) -> (String, String) {
    let name = join(section, key);
    if is_table && (section.is_empty() || section == "policy") {
        let near = nearest(&name, SECTIONS.iter().map(|(known, _)| *known));
        let known: Vec<&str> = SECTIONS.iter().map(|(known, _)| *known).collect();
        let hint = near
            .map_or_else(|| format!("the sections are {}", known.join(", ")), |near| format!("did you mean [{near}]?"));
        return (format!("there is no section [{name}]"), hint);
    }
    let what = if section.is_empty() {
        format!("there is no key `{key}` outside a section")
    } else {
        format!("there is no key `{key}` in [{section}]")
    };
    let here: Vec<&Entry> = schema().iter().filter(|entry| entry.section() == section).collect();
    if let Some(near) = nearest(key, here.iter().map(|entry| entry.key())) {
        return (what, format!("did you mean `{near}`?"));
    }
    // Right key, wrong section.
    if let Some(elsewhere) = schema().iter().find(|entry| entry.key() == key) {
        return (what, format!("`{key}` belongs to [{}]", elsewhere.section()));
    }
    let keys: Vec<&str> = here.iter().map(|entry| entry.key()).collect();
    let hint =
        if keys.is_empty() { "every key is in a section".into() } else { format!("the keys are {}", keys.join(", ")) };
    (what, hint)
}

/// The nearest of some words, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (distance(word, known), known))
        .min()
        .filter(|(edits, _)| *edits <= 1 + word.len() / 4)
        .map(|(_, known)| known)
}

/// Whether a kind is written as plain text in a variable.
pub const fn is_text(kind: Kind) -> bool {
    match kind {
        Kind::Word(_)
        | Kind::Name
        | Kind::Path
        | Kind::Listen
        | Kind::Printable(_)
        | Kind::Versions
        | Kind::Component => true,
        Kind::Addresses | Kind::Port | Kind::Switch | Kind::Number { .. } | Kind::Setting(_) | Kind::Json => false,
    }
}
