//! The default signing rule: what is not too long is signed.
//!
//! Config: `max_bytes` (65536, the longest body that there may be), `allow_empty` (true), `json` (false: any bytes; true: a
//! body must be well-formed JSON, which an empty one is not).
//!
//! Who may write, and how much, is not its business: a record costs its author the fee of the tariff.

use pingward_sdk::{About, Config, Context, Policy, Record, Records, Review, SigningPolicy, reasons};

/// The rule with its config.
#[derive(Clone, Copy, Debug)]
pub struct Basic {
    max_bytes: usize,
    allow_empty: bool,
    json: bool,
}

reasons! {
    /// Why a record is not signed.
    enum Why of rule: &Basic {
        TooLong: format!("the body has more than {} bytes: shorten it, or split it into several records", rule.max_bytes),
        Empty: "the body is empty: send what is to be signed",
        NotJson: "the body is not well-formed JSON, and nothing else is signed here",
    }
}

impl Basic {
    /// Signs one record, or says why not.
    fn review_one(&self, record: &Record<'_>) -> Result<(), Why> {
        if record.body.len() > self.max_bytes {
            return Err(Why::TooLong);
        }
        if record.body.is_empty() && !self.allow_empty {
            return Err(Why::Empty);
        }
        if self.json && !record.is_json() {
            return Err(Why::NotJson);
        }
        Ok(())
    }
}

impl Policy for Basic {
    fn configure(config: &mut Config) -> Result<Self, String> {
        Ok(Self {
            max_bytes: config.integer("max_bytes", 65_536, 1..=65_536)? as usize,
            allow_empty: config.boolean("allow_empty", true)?,
            json: config.boolean("json", false)?,
        })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).reasons(Why::texts(self))
    }
}

impl SigningPolicy for Basic {
    fn review(&self, _context: &Context, records: &Records<'_>) -> Result<Review, String> {
        Ok(Review::each(records, |record| self.review_one(record)))
    }
}

pingward_sdk::export_signing!(Basic);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests {
    use pingward_sdk::testing::{Batch, describe};

    use super::*;

    const EMPTY: &str = "the body is empty: send what is to be signed";
    const NOT_JSON: &str = "the body is not well-formed JSON, and nothing else is signed here";

    fn check<const N: usize>(config: &str, bodies: [&[u8]; N], expected: [&str; N]) {
        assert_eq!(Batch::of(bodies).review::<Basic>(config).unwrap(), expected, "{config}");
    }

    #[test]
    fn anything_is_signed_that_a_record_may_be() {
        check("{}", [b"", b"text", b"\xff\x00", &[b'x'; 65_536]], [""; 4]);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let too_long = "the body has more than 4 bytes: shorten it, or split it into several records";
        check(r#"{"max_bytes":4}"#, [b"1234", b"12345", b""], ["", too_long, ""]);
    }

    #[test]
    fn empty_bodies_may_be_refused() {
        check(r#"{"allow_empty":false}"#, [b"", b" "], [EMPTY, ""]);
    }

    #[test]
    fn a_network_may_sign_json_only() {
        check(
            r#"{"json":true}"#,
            [br#"{"temperature":21}"#, b"21 degrees", b"{", b"", b"\"\xff\""],
            ["", NOT_JSON, NOT_JSON, NOT_JSON, NOT_JSON],
        );
        check(r#"{"allow_empty":false,"json":true}"#, [b"", b"{}"], [EMPTY, ""]);
    }

    #[test]
    fn a_bad_config_is_refused_with_the_reason() {
        let refused = |config| describe::<Basic>(config).unwrap_err();
        assert_eq!(refused(r#"{"max_byte":1}"#), "unknown key `max_byte`; did you mean `max_bytes`?");
        assert_eq!(refused(r#"{"max_bytes":0}"#), "`max_bytes` is 0; it may be 1 to 65536");
        assert_eq!(refused(r#"{"json":1}"#), "`json` is a number; it must be true or false");
        let described = describe::<Basic>(r#"{"max_bytes":9}"#).unwrap();
        assert_eq!((described.memory_bytes, described.extra.len()), (0, 0));
    }
}
