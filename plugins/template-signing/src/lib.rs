//! A signing rule to start from: a body of at most `limit` bytes of text is signed, and anything else is refused.
//!
//! Change `review_one`, and the tests below it. `pingward policy build .` makes the component.

use pingward_sdk::{About, Config, Context, Policy, Record, Records, Review, SigningPolicy, reasons};

/// The rule with its config.
pub struct Rule {
    limit: usize,
}

reasons! {
    /// Why a record is not signed; its author reads these words.
    enum Why of rule: &Rule {
        TooLong: format!("the body has more than {} bytes", rule.limit),
        NoText: "the body is no text",
    }
}

impl Rule {
    /// Signs one record, or says why not.
    fn review_one(&self, record: &Record<'_>) -> Result<(), Why> {
        if record.body.len() > self.limit {
            return Err(Why::TooLong);
        }
        match record.text() {
            Some(_) => Ok(()),
            None => Err(Why::NoText),
        }
    }
}

impl Policy for Rule {
    fn configure(config: &mut Config) -> Result<Self, String> {
        Ok(Self { limit: config.integer("limit", 1_000, 1..=65_536)? as usize })
    }

    fn about(&self) -> About {
        About::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).reasons(Why::texts(self))
    }
}

impl SigningPolicy for Rule {
    fn review(&self, _context: &Context, records: &Records<'_>) -> Result<Review, String> {
        Ok(Review::each(records, |record| self.review_one(record)))
    }
}

pingward_sdk::export_signing!(Rule);

#[cfg(test)]
mod tests {
    use pingward_sdk::testing::Batch;

    use super::*;

    #[test]
    fn short_text_is_signed_and_nothing_else() {
        let batch = Batch::of([b"hello".as_slice(), b"hello, world", b"\xff"]);
        let reviewed = batch.review::<Rule>(r#"{"limit":5}"#).unwrap();
        assert_eq!(reviewed, ["", "the body has more than 5 bytes", "the body is no text"]);
    }
}
