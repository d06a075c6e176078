//! A policy's config: a JSON object of integers, strings, booleans, lists and objects.
//!
//! A rule takes the keys that it knows, each with a default and its bounds; what is left over is refused with the nearest
//! known key.

use std::ops::RangeInclusive;

use crate::json;
pub use crate::json::Value;

/// The keys that nobody took yet.
#[derive(Debug)]
pub struct Config {
    rest: Vec<(String, Value)>,
    known: Vec<&'static str>,
}

impl Config {
    /// Reads a config; an empty text is an empty one.
    ///
    /// # Errors
    /// The text is no JSON object.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = Vec::new();
        if text.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return Ok(Self { rest: Vec::new(), known });
        }
        match json::parse(text) {
            Ok(Value::Object(rest)) => Ok(Self { rest, known }),
            Ok(_) => Err("the config is no JSON object, such as {\"limit\":3}".into()),
            Err(at) => Err(format!("the config is not valid JSON at byte {at}")),
        }
    }

    /// Takes a whole number within `bounds`.
    ///
    /// # Errors
    /// It is something else.
    pub fn integer(&mut self, key: &'static str, default: u64, bounds: RangeInclusive<u64>) -> Result<u64, String> {
        let (low, high) = (bounds.start(), bounds.end());
        match self.take(key) {
            None => Ok(default),
            Some(Value::Whole(value)) if bounds.contains(&value) => Ok(value),
            Some(Value::Whole(value)) => Err(format!("`{key}` is {value}; it may be {low} to {high}")),
            Some(other) => Err(format!("`{key}` is {}; it must be a whole number from {low} to {high}", kind(&other))),
        }
    }

    /// Takes `true` or `false`.
    ///
    /// # Errors
    /// It is something else.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> Result<bool, String> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Boolean(value)) => Ok(value),
            Some(other) => Err(format!("`{key}` is {}; it must be true or false", kind(&other))),
        }
    }

    /// Takes a text.
    ///
    /// # Errors
    /// It is something else.
    pub fn string(&mut self, key: &'static str, default: &str) -> Result<String, String> {
        match self.take(key) {
            None => Ok(default.into()),
            Some(Value::Text(value)) => Ok(value),
            Some(other) => Err(format!("`{key}` is {}; it must be a text in quotes", kind(&other))),
        }
    }

    /// Takes any value, for lists and objects.
    pub fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        let place = self.rest.iter().position(|(found, _)| found == key)?;
        Some(self.rest.remove(place).1)
    }

    /// Refuses what is left over.
    pub(crate) fn finish(self) -> Result<(), String> {
        let Some((unknown, _)) = self.rest.first() else { return Ok(()) };
        let near = self.known.iter().map(|known| (distance(unknown, known), known)).min();
        let hint = match near {
            Some((steps, known)) if steps <= 2 => format!("did you mean `{known}`?"),
            _ if self.known.is_empty() => "it takes no config".into(),
            _ => {
                let mut all = String::from("it knows ");
                for (place, key) in self.known.iter().enumerate() {
                    all.push_str(if place == 0 { "`" } else { ", `" });
                    all.push_str(key);
                    all.push('`');
                }
                all
            }
        };
        Err(format!("unknown key `{unknown}`; {hint}"))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Boolean(_) => "a boolean",
        Value::Whole(_) => "a number",
        Value::Negative(_) => "a number below zero",
        Value::Fraction => "a fraction",
        Value::Text(_) => "a text",
        Value::List(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Letters to insert, delete or change to get from one word to the other; letters in a wrong order count once. Keys are
/// plain ASCII: in others each byte counts as a letter.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let count = |word: &[u8], letter: u8| word.iter().filter(|found| **found == letter).count();
    if a != b && a.len() == b.len() && a.iter().all(|letter| count(a, *letter) == count(b, *letter)) {
        return 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (place, y) in row.iter_mut().skip(1).zip(b) {
            let above = *place;
            left = (corner + usize::from(x != y)).min(above + 1).min(left + 1);
            corner = above;
            *place = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(u64, bool, &str), &str>) {
        let read = || {
            let mut config = Config::parse(text)?;
            let all =
                (config.integer("limit", 3, 1..=9)?, config.boolean("strict", false)?, config.string("name", "x")?);
            config.finish()?;
            Ok::<_, String>(all)
        };
        let expected = expected.map(|(limit, strict, name)| (limit, strict, name.to_string())).map_err(String::from);
        assert_eq!(read(), expected, "{text}");
    }

    #[test]
    fn keys_have_defaults_bounds_and_types() {
        check("", Ok((3, false, "x")));
        check("{}", Ok((3, false, "x")));
        check(r#"{"limit":9,"name":"y","strict":true}"#, Ok((9, true, "y")));
        check(r#"{"limit":10}"#, Err("`limit` is 10; it may be 1 to 9"));
        check(r#"{"limit":-1}"#, Err("`limit` is a number below zero; it must be a whole number from 1 to 9"));
        check(r#"{"limit":"3"}"#, Err("`limit` is a text; it must be a whole number from 1 to 9"));
        check(r#"{"limit":2.5}"#, Err("`limit` is a fraction; it must be a whole number from 1 to 9"));
        check(r#"{"limit":null}"#, Err("`limit` is null; it must be a whole number from 1 to 9"));
        check(r#"{"strict":1}"#, Err("`strict` is a number; it must be true or false"));
        check(r#"{"name":[]}"#, Err("`name` is a list; it must be a text in quotes"));
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_one() {
        check(r#"{"limt":1}"#, Err("unknown key `limt`; did you mean `limit`?"));
        check(r#"{"colour":1}"#, Err("unknown key `colour`; it knows `limit`, `strict`, `name`"));
        assert_eq!(Config::parse(r#"{"a":1}"#).unwrap().finish(), Err("unknown key `a`; it takes no config".into()));
    }

    #[test]
    fn only_an_object_is_a_config() {
        check("[1]", Err("the config is no JSON object, such as {\"limit\":3}"));
        check("{", Err("the config is not valid JSON at byte 1"));
    }

    #[test]
    fn words_have_a_distance() {
        for (a, b, steps) in
            [("", "", 0), ("ban", "ban", 0), ("bna", "ban", 1), ("warn", "wran", 1), ("ban", "bans", 1), ("", "abc", 3)]
        {
            assert_eq!(distance(a, b), steps, "{a} {b}");
        }
    }
}
