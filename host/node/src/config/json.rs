//! A policy's config as the bytes that are hashed and handed over: JSON, keys sorted, no spaces; whole numbers, text,
//! booleans, lists and objects. Two files that say the same give the same bytes, and so the same policy.

use kernel::limits::CONFIG_BYTES;
use serde_json::Value;

/// Why a text is no config of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// No JSON.
    #[error("this is not JSON: {0}")]
    Syntax(String),
    /// Not an object.
    #[error("a policy's config is a JSON object, such as {{\"warn\":2}}")]
    NotAnObject,
    /// A fraction, a null, or a number beyond 64 bits.
    #[error("`{path}` is {found}; a policy's config has whole numbers, text, booleans, lists and objects")]
    Kind {
        /// Where in the object.
        path: String,
        /// What is there.
        found: &'static str,
    },
    /// Too long.
    #[error("the config has {0} bytes, at most {max} are taken", max = CONFIG_BYTES)]
    TooLong(usize),
}

/// The canonical form of a config given as JSON.
///
/// # Errors
/// [`JsonError`].
pub fn canonical(json: &str) -> Result<String, JsonError> {
    if json.len() > 4 * CONFIG_BYTES {
        return Err(JsonError::TooLong(json.len()));
    }
    let value: Value = serde_json::from_str(json).map_err(|error| JsonError::Syntax(error.to_string()))?;
    if !value.is_object() {
        return Err(JsonError::NotAnObject);
    }
    check("", &value)?;
    let text = text(&value);
    if text.len() > CONFIG_BYTES { Err(JsonError::TooLong(text.len())) } else { Ok(text) }
}

fn check(path: &str, value: &Value) -> Result<(), JsonError> {
    let kind = |found| Err(JsonError::Kind { path: path.trim_start_matches('.').into(), found });
    match value {
        Value::Null => kind("null"),
        Value::Number(number) if number.as_i64().is_none() => kind("a fraction or beyond 64 bits"),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        Value::Array(list) => list.iter().enumerate().try_for_each(|(i, item)| check(&format!("{path}[{i}]"), item)),
        Value::Object(map) => map.iter().try_for_each(|(key, item)| check(&format!("{path}.{key}"), item)),
    }
}

/// Writes a value with sorted keys and no spaces.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    let mut list = |open, close, items: &mut dyn Iterator<Item = (Option<&String>, &Value)>| {
        out.push(open);
        for (i, (key, item)) in items.enumerate() {
            if i > 0 {
                out.push(',');
            }
            if let Some(key) = key {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
            }
            write(item, out);
        }
        out.push(close);
    };
    match value {
        Value::Array(items) => list('[', ']', &mut items.iter().map(|item| (None, item))),
        Value::Object(map) => {
            // The map's own order depends on a feature that some dependency may turn on.
            let mut items: Vec<_> = map.iter().collect();
            items.sort_by(|a, b| a.0.cmp(b.0));
            list('{', '}', &mut items.into_iter().map(|(key, item)| (Some(key), item)));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}
