//! What a rule returns, row by row.

use crate::types;
use crate::{Members, Memory, Reason, Row, Standing, Tariff};

/// What becomes of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// From now on. `Probation` counts as `Good`: the host ends probation.
    pub standing: Standing,
    /// From now on.
    pub strikes: u16,
    /// Rounds until the earliest return; for a ban the host keeps to it, else it is only shown. 0 = none.
    pub until: u32,
    /// One of the rule's [`reasons!`](crate::reasons), or nothing to say.
    pub reason: Reason,
}

impl Verdict {
    /// This standing, without strikes.
    #[must_use]
    #[inline]
    pub const fn new(standing: Standing) -> Self {
        Self { standing, strikes: 0, until: 0, reason: Reason::NONE }
    }

    /// Nothing moves.
    #[must_use]
    #[inline]
    pub const fn stay(row: &Row) -> Self {
        Self { standing: row.standing, strikes: row.strikes, until: 0, reason: Reason::NONE }
    }

    /// The same with other strikes.
    #[must_use]
    #[inline]
    pub const fn strikes(mut self, strikes: u16) -> Self {
        self.strikes = strikes;
        self
    }

    /// The same with so many rounds until the earliest return.
    #[must_use]
    #[inline]
    pub const fn until(mut self, rounds: u32) -> Self {
        self.until = rounds;
        self
    }

    /// The same with a reason: one of the rule's enum, or an `Option` of it.
    #[must_use]
    #[inline]
    pub fn because(mut self, reason: impl Into<Reason>) -> Self {
        self.reason = reason.into();
        self
    }

    const fn standing_code(self) -> u8 {
        match self.standing {
            Standing::Probation => Standing::Good.code(),
            Standing::Good | Standing::Warned | Standing::Suspended | Standing::Banned => self.standing.code(),
        }
    }
}

/// A ban rule's decision.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Judgement {
    standing: Vec<u8>,
    strikes: Vec<u16>,
    until: Vec<u32>,
    reasons: Vec<u16>,
}

impl Judgement {
    /// Judges row by row.
    #[inline]
    pub fn each(members: &Members<'_>, mut rule: impl FnMut(Row) -> Verdict) -> Self {
        let mut all = Self::of(members.len());
        for (row, out) in members.rows().zip(all.outputs()) {
            put(rule(row), out);
        }
        all
    }

    /// Judges row by row, each with what the rule remembers of the member.
    #[inline]
    pub fn each_with(
        members: &Members<'_>,
        memory: &mut Memory,
        mut rule: impl FnMut(Row, &mut [u8]) -> Verdict,
    ) -> Self {
        let mut all = Self::of(members.len());
        for ((row, out), block) in members.rows().zip(all.outputs()).zip(memory.blocks()) {
            put(rule(row, block), out);
        }
        all
    }

    fn of(len: usize) -> Self {
        Self { standing: vec![0; len], strikes: vec![0; len], until: vec![0; len], reasons: vec![0; len] }
    }

    fn outputs(&mut self) -> impl Iterator<Item = Place<'_>> {
        let places = self.standing.iter_mut().zip(&mut self.strikes).zip(&mut self.until).zip(&mut self.reasons);
        places.map(|(((standing, strikes), until), reason)| (standing, strikes, until, reason))
    }

    pub(crate) fn into_wit(self, memory: Vec<u8>) -> types::Judgement {
        types::Judgement {
            strikes: self.strikes,
            standing: self.standing,
            until: self.until,
            reasons: self.reasons,
            memory,
        }
    }
}

type Place<'a> = (&'a mut u8, &'a mut u16, &'a mut u32, &'a mut u16);

#[inline]
fn put(verdict: Verdict, (standing, strikes, until, reason): Place<'_>) {
    *standing = verdict.standing_code();
    *strikes = verdict.strikes;
    *until = verdict.until;
    *reason = verdict.reason.code();
}

/// What one member gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Pay {
    /// Points; below zero takes from what it earned.
    pub points: i64,
    /// One of the rule's [`reasons!`](crate::reasons), or nothing to say.
    pub reason: Reason,
}

impl Pay {
    /// Nothing is paid, nothing is taken.
    pub const NOTHING: Self = Self::points(0);

    /// So many points.
    #[must_use]
    #[inline]
    pub const fn points(points: i64) -> Self {
        Self { points, reason: Reason::NONE }
    }

    /// The same with a reason: one of the rule's enum, or an `Option` of it.
    #[must_use]
    #[inline]
    pub fn because(mut self, reason: impl Into<Reason>) -> Self {
        self.reason = reason.into();
        self
    }
}

/// A reward rule's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    points: Vec<i64>,
    reasons: Vec<u16>,
    tariff: Tariff,
}

impl Settlement {
    /// Pays row by row. The tariff is the usual one until [`Settlement::tariff`] says otherwise.
    #[inline]
    pub fn each(members: &Members<'_>, mut rule: impl FnMut(Row) -> Pay) -> Self {
        let mut all = Self::of(members.len());
        for (row, (points, reason)) in members.rows().zip(all.points.iter_mut().zip(&mut all.reasons)) {
            let pay = rule(row);
            *points = pay.points;
            *reason = pay.reason.code();
        }
        all
    }

    /// Pays row by row, each with what the rule remembers of the member.
    #[inline]
    pub fn each_with(members: &Members<'_>, memory: &mut Memory, mut rule: impl FnMut(Row, &mut [u8]) -> Pay) -> Self {
        let mut all = Self::of(members.len());
        let outputs = all.points.iter_mut().zip(&mut all.reasons);
        for ((row, (points, reason)), block) in members.rows().zip(outputs).zip(memory.blocks()) {
            let pay = rule(row, block);
            *points = pay.points;
            *reason = pay.reason.code();
        }
        all
    }

    /// Sets what wrong claims and records cost.
    #[must_use]
    pub const fn tariff(mut self, tariff: Tariff) -> Self {
        self.tariff = tariff;
        self
    }

    fn of(len: usize) -> Self {
        Self { points: vec![0; len], reasons: vec![0; len], tariff: Tariff::USUAL }
    }

    pub(crate) fn into_wit(self, memory: Vec<u8>) -> types::Settlement {
        types::Settlement { points: self.points, reasons: self.reasons, memory, tariff: self.tariff }
    }
}

impl Tariff {
    /// 1,000 basis points of the excess, at least 1 point, for a claim of too much; records cost nothing.
    pub const USUAL: Self = Self { overclaim_bp: 1_000, overclaim_min: 1, record_fee: 0, record_fee_kib: 0 };

    /// Sets the penalty for claiming too much: a share of the excess in basis points (up to 10,000), and at least so many
    /// points (up to 1,000).
    #[must_use]
    pub const fn overclaim(mut self, share_bp: u32, at_least: u32) -> Self {
        self.overclaim_bp = share_bp;
        self.overclaim_min = at_least;
        self
    }

    /// Sets what a record costs, in points: each, and for each KiB of its body besides (up to 1,000 each).
    #[must_use]
    pub const fn records(mut self, each: u32, per_kib: u32) -> Self {
        self.record_fee = each;
        self.record_fee_kib = per_kib;
        self
    }
}
