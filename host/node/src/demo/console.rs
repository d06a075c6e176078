//! The fault console: words on standard input.

use std::io::{BufRead as _, Read as _};
use std::time::Duration;

use kernel::decide::Slot;
use tokio::sync::mpsc;

use super::cluster::LAG_AT_MOST;
use crate::config::nearest;

/// A longer line is no order.
const LINE_BYTES: u64 = 64 << 10;
/// Orders that wait while one is carried out.
const WAITING: usize = 16;

/// What `help` says.
pub const HELP: &str =
    "  kill NAME                            ends a node at once, as kill -9: it is missed, warned, suspended, banned
  restart NAME                         starts it again with its key and its disk
  lag NAME 300ms                       makes all that it sends and gets so late; 0ms ends it
  partition A,B|C                      cuts the network between A,B and C; one side alone is cut off from everybody
  heal                                 the network is whole again
  overclaim NAME                       lets it claim more than it earned: nothing is paid, and it costs a penalty
  swap SLOT FILE|builtin:NAME [JSON]   another rule for `reward`, `ban` or `signing` from a round on; JSON is its config
  accept rounds|SLOT                   the missing nodes are really gone; or: the moves of a rule that are held are right
  rollback SLOT                        the rule before this one decides again
  status                               the table of all nodes
  help                                 this list
  quit                                 ends the demo";

const WORDS: [&str; 12] = [
    "kill",
    "restart",
    "lag",
    "partition",
    "heal",
    "overclaim",
    "swap",
    "accept",
    "rollback",
    "status",
    "help",
    "quit",
];

/// What somebody typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// End a node at once.
    Kill(String),
    /// Start it again.
    Restart(String),
    /// Make it late.
    Lag {
        /// Which.
        name: String,
        /// By so much.
        late: Duration,
    },
    /// Cut the network into these sides.
    Partition(Vec<Vec<String>>),
    /// Make the network whole.
    Heal,
    /// Let it claim too much.
    Overclaim(String),
    /// Another rule.
    Swap {
        /// Which one.
        slot: Slot,
        /// `builtin:NAME` or a path.
        component: String,
        /// Its config as JSON.
        config: Option<String>,
    },
    /// The loss of the last rounds is real, or the held moves of a slot are right.
    Accept(Option<Slot>),
    /// The rule before decides again.
    Rollback(Slot),
    /// The table.
    Status,
    /// The words.
    Help,
    /// The end.
    Quit,
}

/// Reads standard input in a thread of its own, which nothing waits for: a read of a terminal cannot be ended.
/// Closed input ends the console and nothing else.
pub fn read() -> Option<mpsc::Receiver<Result<Order, String>>> {
    let (orders, taken) = mpsc::channel(WAITING);
    let thread = std::thread::Builder::new().name("console".into()).spawn(move || {
        let mut input = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            match input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line);
            if let Some(order) = parse(&line)
                && orders.blocking_send(order).is_err()
            {
                return;
            }
        }
    });
    thread.is_ok().then_some(taken)
}

/// Reads a line; `None` for an empty one. The error is what to say.
fn parse(line: &str) -> Option<Result<Order, String>> {
    let mut words = line.split_whitespace();
    let word = words.next()?;
    let rest: Vec<&str> = words.collect();
    let name = |order: fn(String) -> Order| match rest.as_slice() {
        [name] => Ok(order((*name).to_string())),
        _ => Err(format!("write `{word} NAME`, such as `{word} follower-1`")),
    };
    let alone = |order: Order| if rest.is_empty() { Ok(order) } else { Err(format!("`{word}` stands alone")) };
    Some(match word {
        "kill" => name(Order::Kill),
        "restart" => name(Order::Restart),
        "lag" => lag(&rest),
        "partition" => partition(&rest),
        "heal" => alone(Order::Heal),
        "overclaim" => name(Order::Overclaim),
        "swap" => swap(line, &rest),
        "accept" => match rest.as_slice() {
            ["rounds"] => Ok(Order::Accept(None)),
            [name] => slot(name).map(|slot| Order::Accept(Some(slot))),
            _ => Err("write `accept rounds` or `accept SLOT`, such as `accept ban`".into()),
        },
        "rollback" => match rest.as_slice() {
            [name] => slot(name).map(Order::Rollback),
            _ => Err("write `rollback SLOT`, such as `rollback ban`".into()),
        },
        "status" => alone(Order::Status),
        "help" | "?" => alone(Order::Help),
        "quit" | "exit" => alone(Order::Quit),
        other => {
            let near =
                nearest(other, WORDS.into_iter()).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            Err(format!("`{}` is not known{near}; the words are:\n{HELP}", crate::client::printable(other)))
        }
    })
}

fn lag(rest: &[&str]) -> Result<Order, String> {
    let usage = "write `lag NAME 300ms`, such as `lag super-2 300ms`; `0ms` ends it";
    let [name, late] = rest else { return Err(usage.into()) };
    let (number, unit) = match late.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (late.strip_suffix('s').ok_or(usage)?, 1_000),
    };
    let late = number.parse().ok().and_then(|number: u64| number.checked_mul(unit)).map(Duration::from_millis);
    match late {
        Some(late) if late <= LAG_AT_MOST => Ok(Order::Lag { name: (*name).to_string(), late }),
        Some(_) => Err(format!("a lag is at most {} s", LAG_AT_MOST.as_secs())),
        None => Err(usage.into()),
    }
}

fn partition(rest: &[&str]) -> Result<Order, String> {
    let usage = "write `partition A,B|C`, such as `partition super-1|super-2,super-3`; who is named on no side reaches all of them";
    let sides: Vec<Vec<String>> = rest
        .concat()
        .split('|')
        .map(|side| side.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect())
        .collect();
    if sides.iter().any(Vec::is_empty) {
        return Err(usage.into());
    }
    Ok(Order::Partition(sides))
}

fn swap(line: &str, rest: &[&str]) -> Result<Order, String> {
    let usage = "write `swap SLOT FILE`, such as `swap ban my-ban.wasm` or `swap ban builtin:ban-strikes {\"warn\":3}`";
    let [name, component, ..] = rest else { return Err(usage.into()) };
    // The config is the rest of the line as it was typed, after three words: text in it may have spaces.
    let config =
        (0..3).fold(line, |left, _| left.trim_start().split_once(char::is_whitespace).map_or("", |(_, left)| left));
    let config = Some(config.trim().to_string()).filter(|config| !config.is_empty());
    Ok(Order::Swap { slot: slot(name)?, component: (*component).to_string(), config })
}

fn slot(name: &str) -> Result<Slot, String> {
    name.parse().map_err(|error| format!("`{}`: {error}", crate::client::printable(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_help_is_an_order() {
        for word in WORDS {
            assert!(HELP.lines().any(|line| line.trim().starts_with(word)), "{word}");
        }
        assert_eq!(HELP.lines().count(), WORDS.len());
        for line in [
            "kill super-1",
            "restart a",
            "lag a 300ms",
            "partition a,b|c",
            "heal",
            "overclaim a",
            "swap ban a.wasm",
            "accept rounds",
            "accept ban",
            "rollback ban",
            "status",
            "help",
            "quit",
        ] {
            assert!(parse(line).unwrap().is_ok(), "{line}");
        }
    }

    #[test]
    fn a_swap_takes_the_rest_of_the_line_as_config() {
        let order = parse("swap ban builtin:ban-strikes {\"warn\": 3, \"text\": \"a b\"}\n").unwrap().unwrap();
        let config = Some("{\"warn\": 3, \"text\": \"a b\"}".into());
        assert_eq!(order, Order::Swap { slot: Slot::Ban, component: "builtin:ban-strikes".into(), config });
        let order = parse(" swap  reward reward {}").unwrap().unwrap();
        assert_eq!(order, Order::Swap { slot: Slot::Reward, component: "reward".into(), config: Some("{}".into()) });
        let order = parse("swap reward r.wasm").unwrap().unwrap();
        assert_eq!(order, Order::Swap { slot: Slot::Reward, component: "r.wasm".into(), config: None });
    }

    #[test]
    fn sides_of_a_cut_are_read_with_and_without_spaces() {
        let sides = || vec![vec!["a".to_string(), "b".into()], vec!["c".into()]];
        for line in ["partition a,b|c", "partition a, b | c", "partition a,b |c"] {
            assert_eq!(parse(line).unwrap().unwrap(), Order::Partition(sides()), "{line}");
        }
        let late = Duration::from_secs(2);
        assert_eq!(parse("lag a 2s").unwrap().unwrap(), Order::Lag { name: "a".into(), late });
    }

    #[test]
    fn what_is_wrong_says_what_to_type() {
        assert_eq!(parse("  \n"), None);
        for (line, said) in [
            ("kill", "write `kill NAME`"),
            ("kill a b", "write `kill NAME`"),
            ("swap dance a.wasm", "the slots are `reward`, `ban` and `signing`"),
            ("swap ban", "write `swap SLOT FILE`"),
            ("accept", "write `accept rounds`"),
            ("accept dance", "the slots are `reward`, `ban` and `signing`"),
            ("rollback", "write `rollback SLOT`"),
            ("quit now", "`quit` stands alone"),
            ("kil a", "did you mean `kill`?"),
            ("lag a", "write `lag NAME 300ms`"),
            ("lag a 300", "write `lag NAME 300ms`"),
            ("lag a 61s", "at most 60 s"),
            ("partition", "write `partition A,B|C`"),
            ("partition a|", "write `partition A,B|C`"),
            ("heal a", "`heal` stands alone"),
            ("dance a", "the words are:\n  kill NAME"),
        ] {
            let wrong = parse(line).unwrap().unwrap_err();
            assert!(wrong.contains(said), "{line}: {wrong}");
        }
    }
}
