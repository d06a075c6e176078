//! The stream of events.

use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::output::Format;
use super::source::Source;
use crate::client::printable;
use crate::failure::Failure;
use crate::text::{field, print, short, time};

/// An event is a short line; whoever sends more is no node.
const EVENT_BYTES: usize = 1 << 20;
/// The node sends a sign of life at least this often.
const SILENCE: Duration = Duration::from_secs(60);

/// Show what happened lately, and with --follow what happens from now on
///
/// Rounds, changes of standing, bans, claims, policies, leaders and what an operator changed. On a follower: its own line
/// of each round. With --output json each event is one line of JSON.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingward events
  pingward events --follow --output json | jq .")]
pub struct Watch {
    /// Go on as things happen; end with Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Begin with so many of the last events
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: u16,
    #[command(flatten)]
    source: Source,
}

impl Watch {
    pub async fn run(self) -> Result<(), Failure> {
        let api = self.source.api()?;
        let route = format!("/v1/events?recent={}&follow={}", self.last, self.follow);
        let mut reader = Reader::new(api.stream(&route).await?);
        while let Some(event) = reader.next().await? {
            let text = match self.source.output.output {
                Format::Json => format!("{}\n", json!({ "id": event.id, "event": event.kind, "data": event.data })),
                Format::Table => line(&event.kind, &event.data),
            };
            print(&text)?;
        }
        if self.follow {
            return Err(Failure::new("the node ended the stream", "it is stopping: start it again, then follow again")
                .at(api.shown()));
        }
        Ok(())
    }
}

/// One event for people.
fn line(kind: &str, data: &Value) -> String {
    let what = match kind {
        "round" if data.get("up").is_some() => format!(
            "round {}: up {}, down {}, unknown {}, issued {}{}",
            field(data, "round"),
            field(data, "up"),
            field(data, "down"),
            field(data, "unknown"),
            field(data, "issued"),
            if field(data, "suspect") == "yes" {
                format!(", suspect: {}", field(data, "causes"))
            } else {
                String::new()
            }
        ),
        "standing" | "ban" => format!(
            "{} {}: {} -> {}, {}",
            field(data, "name"),
            short(data, "node"),
            field(data, "from"),
            field(data, "to"),
            field(data, "reason")
        ),
        _ => fields(data),
    };
    format!("{}  {kind:8}  {what}\n", time(data, "time_ms"))
}

/// What has no sentence of its own: its fields.
fn fields(data: &Value) -> String {
    let Some(object) = data.as_object() else { return printable(&data.to_string()) };
    let known = object.iter().filter(|(name, value)| *name != "time_ms" && !value.is_null());
    known.map(|(name, _)| format!("{name}={}", field(data, name))).collect::<Vec<_>>().join(" ")
}

/// A server-sent event.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) data: Value,
}

/// Events out of a stream.
pub(super) struct Reader {
    body: Incoming,
    parser: Parser,
}

impl Reader {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, parser: Parser::default() }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.parser.event()? {
                return Ok(Some(event));
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await.map_err(|_| {
                Failure::new(
                    format!("nothing came for {} s", SILENCE.as_secs()),
                    "the node or the network is gone; try again",
                )
            })?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.parser.take(&bytes);
                    }
                }
                Some(Err(error)) => {
                    return Err(Failure::new(
                        format!("the stream broke off: {error}"),
                        "the node may have stopped; try again",
                    ));
                }
            }
        }
    }
}

/// Server-sent events out of bytes that come in any pieces.
#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole event, if one is there. Comments (signs of life) are passed over.
    fn event(&mut self) -> Result<Option<Event>, Failure> {
        while let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let mut event = Event { id: String::new(), kind: String::new(), data: Value::Null };
            for line in String::from_utf8_lossy(&block).lines() {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match name {
                    "id" => event.id = printable(value),
                    "event" => event.kind = printable(value),
                    "data" => event.data = serde_json::from_str(value).unwrap_or_else(|_| printable(value).into()),
                    _ => {}
                }
            }
            if !event.kind.is_empty() {
                return Ok(Some(event));
            }
        }
        if self.bytes.len() > EVENT_BYTES {
            return Err(Failure::new("an event has no end", "check the address: the API is the node's `listen.rest`"));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_the_pieces_they_come_in() {
        let text = ": alive\n\nid: 7-1\nevent: round\ndata: {\"round\":1}\n\nevent: x\ndata: no json\n\n";
        for size in [1, 3, 7, text.len()] {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                parser.take(piece);
                while let Some(event) = parser.event().unwrap() {
                    events.push(event);
                }
            }
            assert_eq!(events.len(), 2);
            assert_eq!(events[0], Event { id: "7-1".into(), kind: "round".into(), data: json!({ "round": 1 }) });
            assert_eq!(events[1].data, json!("no json"));
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut parser = Parser::default();
        parser.take(&vec![b'x'; EVENT_BYTES + 1]);
        assert!(parser.event().is_err());
    }

    #[test]
    fn an_event_is_one_line() {
        let at = 1_764_064_502_123_u64;
        let round =
            json!({ "round": 3, "up": 2, "down": 1, "unknown": 0, "issued": 20, "suspect": false, "time_ms": at });
        assert_eq!(
            line("round", &round),
            "2025-11-25 09:55:02Z  round     round 3: up 2, down 1, unknown 0, issued 20\n"
        );
        let moved = json!({ "name": "f", "node": "8a88e3dd74", "from": "good", "to": "warned", "reason": "1 miss", "time_ms": at });
        assert_eq!(line("standing", &moved), "2025-11-25 09:55:02Z  standing  f 8a88e3dd: good -> warned, 1 miss\n");
        assert_eq!(
            line("leader", &json!({ "term": 2, "leader": null, "time_ms": at })),
            "2025-11-25 09:55:02Z  leader    term=2\n"
        );
    }
}
