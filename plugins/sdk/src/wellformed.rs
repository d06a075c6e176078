//! Whether some bytes are JSON. Nothing is kept of them: a batch has up to a MiB, and a reader that builds values costs more
//! than most rules.

/// Lists and objects inside one another; what goes deeper is taken for no JSON.
const DEPTH: u32 = 128;

/// Whether the bytes are one value of JSON (RFC 8259), with nothing but white space around it.
pub fn is_json(bytes: &[u8]) -> bool {
    // UTF-8 once for all: what follows looks at single bytes of ASCII only.
    if core::str::from_utf8(bytes).is_err() {
        return false;
    }
    let mut rest = Rest { bytes };
    rest.value(DEPTH).is_some() && rest.peek().is_none()
}

/// What was not looked at yet.
struct Rest<'a> {
    bytes: &'a [u8],
}

impl Rest<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// The next byte that is no white space, which stays.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.first()? {
                b' ' | b'\t' | b'\r' | b'\n' => self.next()?,
                byte => return Some(*byte),
            };
        }
    }

    fn value(&mut self, depth: u32) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'[' => self.all(depth, b']', Self::value),
            b'{' => self.all(depth, b'}', |rest, depth| {
                (rest.peek()? == b'"').then_some(())?;
                rest.string()?;
                (rest.peek()? == b':').then(|| rest.next())?;
                rest.value(depth)
            }),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// What stands between brackets, with commas between.
    fn all(&mut self, depth: u32, end: u8, each: impl Fn(&mut Self, u32) -> Option<()>) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.next()?;
        if self.peek()? == end {
            return self.next().map(|_| ());
        }
        loop {
            each(self, depth)?;
            match self.peek()? {
                b',' => self.next()?,
                byte if byte == end => return self.next().map(|_| ()),
                _ => return None,
            };
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes = self.bytes.strip_prefix(word)?;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.next()?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                // A control character must be escaped.
                0..0x20 => return None,
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            self.next().filter(u8::is_ascii_hexdigit)?;
                        }
                    }
                    _ => return None,
                },
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        self.skip(b"-");
        if self.skip(b"0") == 0 {
            self.digits()?;
        } else if self.bytes.first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        if self.skip(b".") > 0 {
            self.digits()?;
        }
        if self.skip(b"eE") > 0 {
            self.skip(b"+-");
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.bytes = self.bytes.get(count..)?;
        (count > 0).then_some(())
    }

    /// Past one of these bytes, if it is there: how many that were.
    fn skip(&mut self, any: &[u8]) -> usize {
        match self.bytes.split_first() {
            Some((first, rest)) if any.contains(first) => {
                self.bytes = rest;
                1
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_what_only_looks_like_it() {
        for text in [
            "null",
            " true\n",
            "false",
            "0",
            "-0",
            "-0.5e-3",
            "1E+3",
            "120",
            "\"\"",
            r#""a\"\\\/\b\f\n\r\t\u00e9é""#,
            "[]",
            "[ 1 , [2] ]",
            "{ }",
            r#"{"b":1, "a":[true,{}]}"#,
            r#"{"a":1,"a":2}"#,
            "[\r\n\t]",
        ] {
            assert!(is_json(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            " ",
            "tru",
            "truefalse",
            "nil",
            "1.",
            "1e",
            "1e+",
            "01",
            "00",
            "-",
            "+1",
            ".5",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[",
            "]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{1:1}",
            "\"",
            "\"\n\"",
            r#""\x""#,
            r#""\u12""#,
            "1 1",
            "[}",
            "{]",
            "{\"a\":}",
        ] {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
        assert!(!is_json(b"\"\xff\""));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_json(deep(DEPTH as usize).as_bytes()));
        assert!(!is_json(deep(DEPTH as usize + 1).as_bytes()));
        assert!(!is_json("[".repeat(60_000).as_bytes()));
    }
}
