//! Is a history linearizable: could all of it have happened one after the other, each operation at one moment between its
//! call and its answer?
//!
//! The search is that of Wing and Gong with Lowe's memory, done as the history goes: it keeps every state in which the
//! object may be, each with the open operations that have happened in it. An answer leaves those states in which its
//! operation can have happened; when none is left, no order explains the history, and what was open then is the window to
//! look at. An operation that never got an answer stays open: it may happen at any later moment, once, or never.
//!
//! Objects are checked one by one, which loses nothing: a history is linearizable when that of each object is.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Write as _};

#[cfg(test)]
mod tests;

/// Steps of the search, over a whole history.
const STEPS: u64 = 20_000_000;
/// States that are kept at one time.
const STATES: usize = 50_000;
/// Answers before the one that nothing explains, and states before it, that a verdict shows.
const SHOWN: usize = 8;

/// What an object does, one operation after the other.
pub trait Model {
    /// The object.
    type State: Clone + Ord + Debug;
    /// What is asked.
    type Call: Debug;
    /// What is answered.
    type Answer: Debug;

    /// The object before the first operation.
    fn start(&self) -> Self::State;

    /// The object after this call, if it may give this answer. `None` as the answer: nobody heard it, any is possible.
    fn step(&self, state: &Self::State, call: &Self::Call, answer: Option<&Self::Answer>) -> Option<Self::State>;
}

/// One operation on one object.
#[derive(Clone, Debug)]
pub struct Operation<C, A> {
    /// Who asked, for people.
    pub by: String,
    /// What was asked.
    pub call: C,
    /// When, µs of a clock that all share.
    pub called_us: u64,
    /// What was answered, and when, µs; `None`: nobody knows whether it happened, or when.
    pub answered: Option<(A, u64)>,
}

/// Why a history is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No order explains it; the text shows where.
    NotLinearizable(String),
    /// The search had to be given up; the text says at what.
    TooLarge(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinearizable(window) => write!(f, "the history is not linearizable\n{window}"),
            Self::TooLarge(what) => write!(f, "the history was not checked: {what}"),
        }
    }
}

impl std::error::Error for Wrong {}

/// The object as it may be, and the open operations that have happened by then.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Possible<S> {
    state: S,
    happened: BTreeSet<usize>,
}

/// Checks the history of one object.
///
/// # Errors
/// [`Wrong`].
pub fn check<M: Model>(model: &M, history: &[Operation<M::Call, M::Answer>]) -> Result<(), Wrong> {
    Search::new(model, history).run()
}

/// A moment of the history. At the same µs a call comes before an answer: such operations may overlap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Call(usize),
    Answer(usize),
}

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [Operation<M::Call, M::Answer>],
    possible: BTreeSet<Possible<M::State>>,
    open: BTreeSet<usize>,
    passed: Vec<usize>,
    steps: u64,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, history: &'a [Operation<M::Call, M::Answer>]) -> Self {
        let start = Possible { state: model.start(), happened: BTreeSet::new() };
        let possible = BTreeSet::from([start]);
        Self { model, history, possible, open: BTreeSet::new(), passed: Vec::new(), steps: 0 }
    }

    fn run(mut self) -> Result<(), Wrong> {
        let calls = self.history.iter().enumerate().map(|(at, operation)| (operation.called_us, Moment::Call(at)));
        let answer = |(at, operation): (usize, &'a Operation<M::Call, M::Answer>)| {
            operation.answered.as_ref().map(|(_, us)| (*us, Moment::Answer(at)))
        };
        let mut moments: Vec<(u64, Moment)> = calls.chain(self.history.iter().enumerate().filter_map(answer)).collect();
        moments.sort_unstable();
        for (_, moment) in moments {
            match moment {
                Moment::Call(at) => {
                    self.open.insert(at);
                }
                Moment::Answer(at) => self.answer(at)?,
            }
        }
        Ok(())
    }

    /// Leaves what may be when this operation has happened.
    fn answer(&mut self, at: usize) -> Result<(), Wrong> {
        let mut after: BTreeSet<Possible<M::State>> = BTreeSet::new();
        let mut seen = self.possible.clone();
        let mut left: Vec<Possible<M::State>> = self.possible.iter().cloned().collect();
        while let Some(one) = left.pop() {
            if one.happened.contains(&at) {
                let mut one = one;
                one.happened.remove(&at);
                after.insert(one);
                continue;
            }
            for next in &self.open {
                if one.happened.contains(next) {
                    continue;
                }
                self.steps += 1;
                let Some(possible) = self.with(&one, *next) else { continue };
                if seen.insert(possible.clone()) {
                    left.push(possible);
                }
            }
            if self.steps > STEPS || seen.len() > STATES {
                return Err(Wrong::TooLarge(format!(
                    "{} operations are open at once at {}, and {} states are possible: ask less at a time of one object",
                    self.open.len(),
                    self.told(at),
                    seen.len()
                )));
            }
        }
        if after.is_empty() {
            return Err(Wrong::NotLinearizable(self.window(at)));
        }
        self.open.remove(&at);
        self.passed.push(at);
        self.possible = after;
        Ok(())
    }

    fn with(&self, one: &Possible<M::State>, next: usize) -> Option<Possible<M::State>> {
        let operation = self.history.get(next)?;
        let answer = operation.answered.as_ref().map(|(answer, _)| answer);
        let state = self.model.step(&one.state, &operation.call, answer)?;
        // What changes nothing and was heard by nobody may as well not have happened.
        if answer.is_none() && state == one.state {
            return None;
        }
        let mut happened = one.happened.clone();
        happened.insert(next);
        Some(Possible { state, happened })
    }

    fn window(&self, at: usize) -> String {
        let mut text = String::new();
        let passed = self.passed.len().saturating_sub(SHOWN);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  nothing explains  {}", self.told(at));
        for open in self.open.iter().filter(|open| **open != at) {
            let _ = writeln!(text, "  open meanwhile    {}", self.told(*open));
        }
        for passed in self.passed.iter().skip(passed) {
            let _ = writeln!(text, "  answered before   {}", self.told(*passed));
        }
        for possible in self.possible.iter().take(SHOWN) {
            let _ = writeln!(text, "  the object may be {:?}", possible.state);
        }
        text
    }

    fn told(&self, at: usize) -> String {
        let Some(operation) = self.history.get(at) else { return String::new() };
        let Operation { by, call, called_us, answered } = operation;
        match answered {
            Some((answer, us)) => format!("{by}: {call:?} gave {answer:?}, from {called_us} to {us} µs"),
            None => format!("{by}: {call:?} got no answer, from {called_us} µs"),
        }
    }
}
