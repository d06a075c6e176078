//! What a wallet does when several nodes claim into it: each sequence of a node counts once, if it is above that node's
//! last, and everybody sees the same balance.

use crate::linear::Model;

/// A wallet and the sequences of those who claim into it.
#[derive(Clone, Copy, Debug)]
pub struct Wallet {
    /// How many nodes claim into it.
    pub claimers: usize,
}

/// See [`Wallet`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// Points.
    pub balance: i64,
    /// Each claimer's last sequence.
    pub last: Vec<u64>,
}

/// What is asked of a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A node moves earned points into it. Sent again with the same content it is the same operation.
    Claim {
        /// Which of the claimers.
        claimer: usize,
        /// Rises from claim to claim.
        sequence: u64,
        /// Points.
        amount: i64,
    },
    /// How much it holds.
    Balance,
    /// The lowest sequence that a claimer's next claim may have.
    Next {
        /// Which of the claimers.
        claimer: usize,
    },
}

/// What a wallet answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The claim was paid; the balance after it.
    Paid(i64),
    /// The claim's sequence was used up before.
    Stale,
    /// A balance.
    Balance(i64),
    /// A sequence.
    Next(u64),
}

impl Model for Wallet {
    type State = Held;
    type Call = Call;
    type Answer = Answer;

    fn start(&self) -> Held {
        Held { balance: 0, last: vec![0; self.claimers] }
    }

    fn step(&self, state: &Held, call: &Call, answer: Option<&Answer>) -> Option<Held> {
        let mut after = state.clone();
        let given = match *call {
            Call::Claim { claimer, sequence, amount } => {
                let last = after.last.get_mut(claimer)?;
                if sequence > *last {
                    *last = sequence;
                    after.balance += amount;
                    Answer::Paid(after.balance)
                } else {
                    Answer::Stale
                }
            }
            Call::Balance => Answer::Balance(state.balance),
            Call::Next { claimer } => Answer::Next(state.last.get(claimer)? + 1),
        };
        answer.is_none_or(|answer| *answer == given).then_some(after)
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test that fails may panic")]
mod tests {
    use super::*;
    use crate::linear::{Operation, Wrong, check};

    const TWO: Wallet = Wallet { claimers: 2 };

    fn claim(claimer: usize, sequence: u64, amount: i64) -> Call {
        Call::Claim { claimer, sequence, amount }
    }

    /// One after the other, as they stand; `None` got no answer.
    fn history(rows: &[(Call, Option<Answer>)]) -> Vec<Operation<Call, Answer>> {
        let operation = |(at, (call, answer)): (usize, &(Call, Option<Answer>))| {
            let from = 10 * at as u64;
            let answered = answer.map(|answer| (answer, from + 5));
            Operation { by: format!("op {at}"), call: *call, called_us: from, answered }
        };
        rows.iter().enumerate().map(operation).collect()
    }

    #[test]
    fn claims_into_one_wallet_add_up_in_some_order() {
        let rows = [
            (claim(0, 1, 3), Some(Answer::Paid(3))),
            (claim(1, 1, 2), Some(Answer::Paid(5))),
            (claim(0, 2, 9), None),
            (Call::Balance, Some(Answer::Balance(5))),
            (Call::Next { claimer: 0 }, Some(Answer::Next(2))),
            (claim(1, 2, 1), Some(Answer::Paid(15))),
            (Call::Next { claimer: 0 }, Some(Answer::Next(3))),
            (claim(0, 2, 9), Some(Answer::Stale)),
        ];
        assert_eq!(check(&TWO, &history(&rows)), Ok(()));
    }

    #[test]
    fn a_claim_that_was_overtaken_by_the_next_one_counts_no_more() {
        let overtaken = [
            (claim(0, 1, 4), None),
            (claim(0, 2, 1), Some(Answer::Paid(1))),
            (Call::Balance, Some(Answer::Balance(1))),
        ];
        assert_eq!(check(&TWO, &history(&overtaken)), Ok(()));
        let late = [&overtaken[..], &[(Call::Balance, Some(Answer::Balance(5)))]].concat();
        assert!(matches!(check(&TWO, &history(&late)), Err(Wrong::NotLinearizable(_))));
    }

    #[test]
    fn what_a_wallet_must_not_do_is_found() {
        type History<'a> = &'a [(Call, Option<Answer>)];
        let wrong: [(&str, History<'_>); 5] = [
            ("paid twice", &[(claim(0, 1, 3), Some(Answer::Paid(3))), (Call::Balance, Some(Answer::Balance(6)))]),
            ("forgotten", &[(claim(0, 1, 3), Some(Answer::Paid(3))), (Call::Balance, Some(Answer::Balance(0)))]),
            ("one sequence twice", &[(claim(0, 1, 3), Some(Answer::Paid(3))), (claim(0, 1, 2), Some(Answer::Paid(5)))]),
            (
                "a sequence lost",
                &[(claim(0, 1, 3), Some(Answer::Paid(3))), (Call::Next { claimer: 0 }, Some(Answer::Next(1)))],
            ),
            ("no answer, twice", &[(claim(0, 1, 3), None), (Call::Balance, Some(Answer::Balance(6)))]),
        ];
        for (name, rows) in wrong {
            assert!(matches!(check(&TWO, &history(rows)), Err(Wrong::NotLinearizable(_))), "{name}");
        }
    }
}
