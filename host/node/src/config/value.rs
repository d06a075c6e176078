//! One value: from TOML or text to what the key's kind says, or what is wrong with it.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use kernel::id::{NodeId, is_name};
use kernel::settings::Settings;
use toml::Spanned;
use toml::de::DeValue;

use super::read::{is_text, kind_word, nearest};
use super::schema::Kind;
use super::{PeerAddress, json};

/// A value that fits its key's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Words, names, paths, printable text, ranges of versions, components.
    Text(String),
    /// Where to listen.
    Listen(SocketAddr),
    /// Addresses of nodes.
    Addresses(Vec<PeerAddress>),
    /// A number; ports too.
    Number(u64),
    /// A switch.
    Switch(bool),
    /// JSON, keys sorted, no spaces.
    Json(String),
}

/// As TOML; what is a table there is JSON here.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", serde_json::Value::from(text.as_str())),
            Self::Listen(address) => write!(f, "\"{address}\""),
            Self::Addresses(addresses) => {
                let all: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
                write!(f, "[{}]", all.join(", "))
            }
            Self::Number(number) => number.fmt(f),
            Self::Switch(on) => on.fmt(f),
            Self::Json(json) => f.write_str(json),
        }
    }
}

/// What is wrong with a value.
pub struct Wrong {
    /// Where, in the text that was parsed.
    pub span: Range<usize>,
    /// Continues a sentence that begins with the key.
    pub what: String,
    /// The cure.
    pub hint: String,
}

/// Reads a TOML value.
pub fn from_toml(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Value, Vec<Wrong>> {
    let wrong = |what: String, hint: String| vec![Wrong { span: value.span(), what, hint }];
    let type_error = || {
        let what = format!("is {}, expected {}", kind_word(value.get_ref()), kind.expected());
        wrong(what, type_hint(kind, value.get_ref()))
    };
    if is_text(kind) {
        let text = value.get_ref().as_str().ok_or_else(type_error)?;
        return text_value(kind, text).map_err(|(what, hint)| wrong(what, hint));
    }
    match (kind, value.get_ref()) {
        (Kind::Switch, DeValue::Boolean(on)) => Ok(Value::Switch(*on)),
        (Kind::Setting(key), DeValue::Boolean(on)) if key.is_bool => Ok(Value::Switch(*on)),
        (Kind::Port | Kind::Number { .. } | Kind::Setting(_), DeValue::Integer(integer)) if !is_switch(kind) => {
            let text = integer.as_str();
            let number = i128::from_str_radix(text, integer.radix()).map_err(|_| type_error())?;
            number_value(kind, number).map_err(|(what, hint)| wrong(what, hint))
        }
        (Kind::Addresses, DeValue::Array(list)) => {
            let mut problems = Vec::new();
            let mut addresses = Vec::new();
            for item in list {
                let read = item.get_ref().as_str().ok_or_else(|| {
                    (
                        format!("has an entry that is {}", kind_word(item.get_ref())),
                        format!("expected {}", kind.expected()),
                    )
                });
                match read.and_then(|text| {
                    address(text).map_err(|hint| (format!("has an entry that is no address: `{text}`"), hint))
                }) {
                    Ok(address) => addresses.push(address),
                    Err((what, hint)) => problems.push(Wrong { span: item.span(), what, hint }),
                }
            }
            if problems.is_empty() { Ok(Value::Addresses(addresses)) } else { Err(problems) }
        }
        (Kind::Json, DeValue::Table(_)) => {
            let mut problems = Vec::new();
            let tree = json_value(value, &mut problems);
            if problems.is_empty() { Ok(Value::Json(json::text(&tree))) } else { Err(problems) }
        }
        (Kind::Addresses | Kind::Port | Kind::Switch | Kind::Number { .. } | Kind::Setting(_) | Kind::Json, _)
        | (
            Kind::Word(_)
            | Kind::Name
            | Kind::Path
            | Kind::Listen
            | Kind::Printable(_)
            | Kind::Versions
            | Kind::Component,
            _,
        ) => Err(type_error()),
    }
}

/// Reads the text of a variable.
pub fn from_text(kind: Kind, text: &str) -> Result<Value, (String, String)> {
    let expected = || (format!("`{text}` is not taken, expected {}", kind.expected()), String::new());
    if is_text(kind) {
        return text_value(kind, text);
    }
    match kind {
        Kind::Addresses if !text.trim_start().starts_with('[') => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            let read: Result<Vec<_>, _> =
                parts.map(|part| address(part).map_err(|hint| (format!("`{part}` is no address"), hint))).collect();
            read.map(Value::Addresses)
        }
        Kind::Json => match json::canonical(text) {
            Ok(json) => Ok(Value::Json(json)),
            Err(first) => {
                toml_text(kind, text).map_err(|_| (first.to_string(), format!("expected {} as JSON", kind.expected())))
            }
        },
        Kind::Addresses | Kind::Port | Kind::Switch | Kind::Number { .. } | Kind::Setting(_) => {
            toml_text(kind, text).map_err(|wrong| wrong.unwrap_or_else(expected))
        }
        Kind::Word(_)
        | Kind::Name
        | Kind::Path
        | Kind::Listen
        | Kind::Printable(_)
        | Kind::Versions
        | Kind::Component => Err(expected()),
    }
}

fn toml_text(kind: Kind, text: &str) -> Result<Value, Option<(String, String)>> {
    let value = DeValue::parse(text.trim()).map_err(|_| None)?;
    from_toml(kind, &value).map_err(|wrong| wrong.into_iter().next().map(|wrong| (wrong.what, wrong.hint)))
}

fn is_switch(kind: Kind) -> bool {
    matches!(kind, Kind::Switch) || matches!(kind, Kind::Setting(key) if key.is_bool)
}

fn type_hint(kind: Kind, found: &DeValue<'_>) -> String {
    match (kind, found) {
        (Kind::Port | Kind::Number { .. } | Kind::Setting(_) | Kind::Switch, DeValue::String(text))
            if from_text(kind, text).is_ok() =>
        {
            format!("write {text} without quotes")
        }
        (Kind::Setting(key), DeValue::Float(_)) if key.name.ends_with("_bp") => {
            "basis points are hundredths of a percent: 30 % is 3000".into()
        }
        (Kind::Addresses, DeValue::String(text)) => format!("write a list: [\"{text}\"]"),
        _ => String::new(),
    }
}

fn number_value(kind: Kind, number: i128) -> Result<Value, (String, String)> {
    let (min, max, or_zero) = match kind {
        Kind::Port => (1, u64::from(u16::MAX), true),
        Kind::Number { min, max } => (min, max, false),
        // 0 means "derived" where it is the default.
        Kind::Setting(key) => (key.min, key.max, key.default == 0),
        Kind::Word(_)
        | Kind::Name
        | Kind::Path
        | Kind::Listen
        | Kind::Addresses
        | Kind::Printable(_)
        | Kind::Switch
        | Kind::Versions
        | Kind::Component
        | Kind::Json => (0, u64::MAX, false),
    };
    match u64::try_from(number) {
        Ok(value) if (min..=max).contains(&value) || (or_zero && value == 0) => Ok(Value::Number(value)),
        Ok(_) | Err(_) => Err((format!("is {number}, out of bounds"), format!("expected {}", kind.expected()))),
    }
}

fn text_value(kind: Kind, text: &str) -> Result<Value, (String, String)> {
    let expected = || format!("expected {}", kind.expected());
    let refused = || Err((format!("is `{text}`"), expected()));
    match kind {
        Kind::Word(words) => {
            if words.contains(&text) {
                return Ok(Value::Text(text.into()));
            }
            if ["validator", "bootstrap"].contains(&text) && words.contains(&"follower") {
                return Err((format!("is `{text}`, a role that this release does not have"), expected()));
            }
            let near = nearest(text, words.iter().copied());
            Err((format!("is `{text}`"), near.map_or_else(expected, |near| format!("did you mean \"{near}\"?"))))
        }
        Kind::Name if text.is_empty() || is_name(text) => Ok(Value::Text(text.into())),
        Kind::Path if !text.is_empty() => Ok(Value::Text(text.into())),
        Kind::Printable(longest) if text.len() <= longest && text.bytes().all(|b| (b' '..=b'~').contains(&b)) => {
            Ok(Value::Text(text.into()))
        }
        Kind::Listen => match text.parse() {
            Ok(address) => Ok(Value::Listen(address)),
            Err(_) if text.starts_with("localhost:") => Err((
                format!("is `{text}`"),
                format!("use an IP address: \"{}\"", text.replace("localhost", "127.0.0.1")),
            )),
            Err(_) => refused(),
        },
        Kind::Versions => match Settings::default().set(Settings::ACCEPT_VERSIONS, text) {
            Ok(()) => Ok(Value::Text(text.into())),
            Err(_) => refused(),
        },
        Kind::Component if !text.is_empty() && text != "builtin:" => Ok(Value::Text(text.into())),
        Kind::Name
        | Kind::Path
        | Kind::Printable(_)
        | Kind::Component
        | Kind::Addresses
        | Kind::Port
        | Kind::Switch
        | Kind::Number { .. }
        | Kind::Setting(_)
        | Kind::Json => refused(),
    }
}

/// Reads `host:port` or `<64 hex>@host:port`. The error is the cure.
pub fn address(text: &str) -> Result<PeerAddress, String> {
    let (key, rest) = match text.split_once('@') {
        Some((key, rest)) => {
            let key = NodeId::parse(key).map_err(|error| format!("the key before @: {error}"))?;
            (Some(key), rest)
        }
        None => (None, text),
    };
    let (host, port) = rest.rsplit_once(':').ok_or("write host:port, such as 10.0.0.1:7001")?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("the port is a number, 1 to 65535")?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(format!("put an IPv6 address in brackets: [{host}]:{port}"));
    }
    let host = bare.unwrap_or(host);
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
        return Err("the host is a name or an IP address".into());
    }
    Ok(PeerAddress { key, host: host.into(), port })
}

fn json_value(value: &Spanned<DeValue<'_>>, problems: &mut Vec<Wrong>) -> serde_json::Value {
    let mut refuse = |what: &str, hint: &str| {
        problems.push(Wrong { span: value.span(), what: what.into(), hint: hint.into() });
        serde_json::Value::Null
    };
    match value.get_ref() {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(on) => (*on).into(),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => number.into(),
            Err(_) => refuse("has a number beyond 64 bits", "use a smaller number"),
        },
        DeValue::Float(_) => refuse(
            "has a number with a fraction; policies get whole numbers only",
            "use a smaller unit, such as basis points",
        ),
        DeValue::Datetime(_) => refuse("has a date", "write it as text, or as a number of ms"),
        DeValue::Array(list) => serde_json::Value::Array(list.iter().map(|item| json_value(item, problems)).collect()),
        DeValue::Table(table) => serde_json::Value::Object(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json_value(value, problems))).collect(),
        ),
    }
}
