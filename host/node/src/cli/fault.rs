//! A fault that an author can read: which member brings it about, what the rule saw of it, and a case that shows it again.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use policy::{Engine, Failing, Smallest};

use crate::client::printable;
use crate::failure::Failure;
use crate::text::{Columns, NONE, print};

/// Members that are shown.
const SHOWN: usize = 8;
/// Names that are tried for a new file.
const NAMES: usize = 1_000;

/// Looks for the fewest members with which a component fails as it did, shows them, and writes a case beside the component.
pub fn tell(engine: &Engine, bytes: &[u8], component: &Path, failing: &Failing) -> Result<(), Failure> {
    print(&format!("      {}\n", printable(&failing.fault.to_string())))?;
    let inputs = &failing.inputs;
    let limits = inputs.settings.policy_limits();
    let Ok(policy) = policy::prepare(engine, inputs.slot, bytes, &inputs.config, &limits) else { return Ok(()) };
    let Some(smallest) = failing.smallest(&policy) else {
        return print("      the same call does not fail again: it was a matter of time or of this machine\n");
    };
    print(&smallest_text(&smallest))?;
    let stem = component.file_stem().map_or_else(|| "rule".into(), |stem| stem.to_string_lossy().to_string());
    let text = smallest.failing.case();
    match write_fresh(component.parent().unwrap_or(Path::new("")), &format!("{stem}.fault"), &text) {
        Ok(path) => print(&format!(
            "      wrote {path}; play it: pingward policy test {component} --cases {path}\n",
            path = path.display(),
            component = component.display()
        )),
        Err(error) => print(&format!("      no case was written: {error}\n")),
    }
}

/// The members that bring a fault about.
pub fn smallest_text(smallest: &Smallest) -> String {
    let (least, of) = (smallest.places.len(), smallest.of);
    let numbers: Vec<String> = smallest.places.iter().take(SHOWN).map(|at| (at + 1).to_string()).collect();
    let fewer = if smallest.ended_early { "; the search ended early, fewer may do" } else { "" };
    let what = match least {
        0 => "it fails with nobody in the queue".to_string(),
        1 => format!("member {} of {of} alone brings it about; the rule saw of it", numbers.join(", ")),
        _ if least == of => format!("no part of the {of} members brings it about: it takes all of them{fewer}"),
        _ if least <= SHOWN => {
            format!("no single member brings it about: it takes members {} of {of}{fewer}", numbers.join(", "))
        }
        _ => format!("no single member brings it about: it takes {least} members of {of}{fewer}; the first of them"),
    };
    let rows: Vec<Vec<(String, String)>> = (0..least.min(SHOWN)).map(|at| smallest.failing.shown(at)).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in rows.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    if least == 0 {
        return format!("      {what}\n");
    }
    let headings: Vec<String> = numbers.iter().map(|number| format!("member {number}")).collect();
    let mut columns =
        Columns::new(&[&[""], headings.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    for key in keys {
        let value = |row: &Vec<(String, String)>| {
            let found = row.iter().find(|(name, _)| name == key);
            found.map_or_else(|| NONE.to_string(), |(_, value)| printable(value))
        };
        columns.row(std::iter::once(key.to_string()).chain(rows.iter().map(value)));
    }
    let table: String = columns.text("").lines().map(|line| format!("        {line}\n")).collect();
    format!("      {what}:\n{table}")
}

/// Writes a file of a name that is not taken: STEM.toml, STEM-2.toml and so on. One that has the same text already is as
/// good as a new one.
pub fn write_fresh(folder: &Path, stem: &str, text: &str) -> std::io::Result<PathBuf> {
    for number in 1..=NAMES {
        let name = if number == 1 { format!("{stem}.toml") } else { format!("{stem}-{number}.toml") };
        let path = folder.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => return file.write_all(text.as_bytes()).map(|()| path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
                    return Ok(path);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other(format!("{NAMES} files {stem}-N.toml are there already: remove some")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_and_the_same_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            let path = write_fresh(folder.path(), "a.fault", text).unwrap();
            path.file_name().unwrap().to_string_lossy().to_string()
        };
        assert_eq!(write("one"), "a.fault.toml");
        assert_eq!(write("two"), "a.fault-2.toml");
        assert_eq!((write("one"), write("two")), ("a.fault.toml".into(), "a.fault-2.toml".into()));
        assert_eq!(std::fs::read_to_string(folder.path().join("a.fault.toml")).unwrap(), "one");
        assert!(write_fresh(&folder.path().join("nowhere"), "a", "x").is_err());
    }
}
