//! Reads a config's text: JSON. No rule takes a fraction or null, and the host hands over neither: they are told and not
//! kept.
//!
//! A reader of its own, because whatever is in a component is compiled by every node that loads it: a general one was more
//! than a third of a small rule's code.

/// Lists and objects inside one another; a text that goes deeper is refused.
const DEPTH: u32 = 32;

/// A value in a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// Nothing.
    Null,
    /// A whole number from zero on.
    Whole(u64),
    /// A whole number below zero.
    Negative(i64),
    /// A number that is not whole, or too large; which one is not kept.
    Fraction,
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// Keys, each once, in the order of the text.
    Object(Vec<(String, Value)>),
}

/// Reads a whole text.
///
/// # Errors
/// The byte, counted from zero, at which it goes wrong.
pub fn parse(text: &str) -> Result<Value, usize> {
    let mut reader = Reader { text, at: 0 };
    match reader.value(DEPTH) {
        Some(value) if reader.peek().is_none() => Ok(value),
        _ => Err(reader.at),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte()? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        rest.starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    fn value(&mut self, depth: u32) -> Option<Value> {
        match self.peek()? {
            b't' => self.word("true").map(|()| Value::Boolean(true)),
            b'f' => self.word("false").map(|()| Value::Boolean(false)),
            b'n' => self.word("null").map(|()| Value::Null),
            b'"' => self.string().map(Value::Text),
            b'[' => self.list(depth.checked_sub(1)?).map(Value::List),
            b'{' => self.object(depth.checked_sub(1)?).map(Value::Object),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: u32) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        let mut more = self.opened(b']')?;
        while more {
            values.push(self.value(depth)?);
            more = self.goes_on(b']')?;
        }
        Some(values)
    }

    fn object(&mut self, depth: u32) -> Option<Vec<(String, Value)>> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        let mut more = self.opened(b'}')?;
        while more {
            self.peek()?;
            let start = self.at;
            let key = self.string()?;
            if entries.iter().any(|(known, _)| *known == key) {
                self.at = start;
                return None;
            }
            self.take(b':')?;
            entries.push((key, self.value(depth)?));
            more = self.goes_on(b'}')?;
        }
        Some(entries)
    }

    /// Past the opening bracket: whether anything is inside.
    fn opened(&mut self, end: u8) -> Option<bool> {
        self.at += 1;
        let empty = self.peek()? == end;
        self.at += usize::from(empty);
        Some(!empty)
    }

    /// Past a value: whether another one follows.
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        let byte = self.peek()?;
        (byte == b',' || byte == end).then(|| {
            self.at += 1;
            byte != end
        })
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        let negative = self.byte() == Some(b'-');
        self.at += usize::from(negative);
        let first = self.byte();
        let (digits, value) = self.digits()?;
        if digits > 1 && first == Some(b'0') {
            self.at = start;
            return None;
        }
        let mut whole = value;
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
            whole = None;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
            whole = None;
        }
        let Some(whole) = whole else { return Some(Value::Fraction) };
        Some(match (negative, 0_i64.checked_sub_unsigned(whole)) {
            (false, _) | (true, Some(0)) => Value::Whole(whole),
            (true, Some(below)) => Value::Negative(below),
            (true, None) => Value::Fraction,
        })
    }

    /// How many, at least one, and the number that they make unless it is too large.
    fn digits(&mut self) -> Option<(u32, Option<u64>)> {
        let (mut count, mut value) = (0, Some(0_u64));
        while let Some(digit @ b'0'..=b'9') = self.byte() {
            let digit = u64::from(digit - b'0');
            value = value.and_then(|value| value.checked_mul(10)?.checked_add(digit));
            count += 1;
            self.at += 1;
        }
        (count > 0).then_some((count, value))
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut string = String::new();
        let mut start = self.at;
        loop {
            match self.byte()? {
                // A control character must be escaped.
                0..0x20 => return None,
                b'"' => {
                    string.push_str(self.text.get(start..self.at)?);
                    self.at += 1;
                    return Some(string);
                }
                b'\\' => {
                    string.push_str(self.text.get(start..self.at)?);
                    self.at += 1;
                    string.push(self.escape()?);
                    start = self.at;
                }
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let byte = self.byte()?;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode(),
            _ => return None,
        };
        self.at += 1;
        Some(char::from(plain))
    }

    /// `u` and four hexadecimal digits, or two of these that make one character.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex()?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high);
        }
        self.word("\\")?;
        let low = self.hex()?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
        char::from_u32(0x10000 + ((high - 0xD800) << 10) + low)
    }

    fn hex(&mut self) -> Option<u32> {
        self.word("u")?;
        let mut value = 0;
        for _ in 0..4 {
            value = value << 4 | char::from(self.byte()?).to_digit(16)?;
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn values_of_every_kind_are_read() {
        for (given, expected) in [
            ("true", Value::Boolean(true)),
            (" false\n", Value::Boolean(false)),
            ("0", Value::Whole(0)),
            ("-0", Value::Whole(0)),
            ("18446744073709551615", Value::Whole(u64::MAX)),
            ("-9223372036854775808", Value::Negative(i64::MIN)),
            ("18446744073709551616", Value::Fraction),
            ("-9223372036854775809", Value::Fraction),
            ("1.5", Value::Fraction),
            ("-0.5e-3", Value::Fraction),
            ("1E+3", Value::Fraction),
            ("null", Value::Null),
            (r#""""#, text("")),
            (r#""a\"\\\/\b\f\n\r\tz""#, text("a\"\\/\u{8}\u{c}\n\r\tz")),
            (r#""\u00e9é\ud83d\ude00""#, text("éé😀")),
            ("[]", Value::List(vec![])),
            ("[ 1 , [2] ]", Value::List(vec![Value::Whole(1), Value::List(vec![Value::Whole(2)])])),
            ("{ }", Value::Object(vec![])),
            (
                r#"{"b":1, "a":[true]}"#,
                Value::Object(vec![
                    ("b".into(), Value::Whole(1)),
                    ("a".into(), Value::List(vec![Value::Boolean(true)])),
                ]),
            ),
        ] {
            assert_eq!(parse(given), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_where_it_is() {
        for (given, at) in [
            ("", 0),
            ("tru", 0),
            ("nil", 0),
            ("1.", 2),
            ("1e", 2),
            ("1e+", 3),
            ("01", 0),
            ("-", 1),
            (".5", 0),
            ("[1,]", 3),
            ("[1 2]", 3),
            ("[", 1),
            ("{\"a\":1,}", 7),
            ("{\"a\" 1}", 5),
            ("{a:1}", 1),
            ("{\"a\":1,\"a\":2}", 7),
            ("\"", 1),
            ("\"\n\"", 1),
            (r#""\x""#, 2),
            (r#""\ud83d""#, 7),
            (r#""\ud83dA""#, 7),
            (r#""\ude00""#, 7),
            (r#""\u12""#, 5),
            ("1 1", 2),
        ] {
            assert_eq!(parse(given), Err(at), "{given}");
        }
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&deep(DEPTH as usize)).is_ok());
        assert_eq!(parse(&deep(DEPTH as usize + 1)), Err(DEPTH as usize));
    }
}
