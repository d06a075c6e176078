//! Settled rounds.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use kernel::id::RoundId;

use super::App;
use super::answer::Read;
use super::input::{Cursor as _, HISTORY_PAGE, ListQuery, PAGE, Params, Part, ReadQuery};
use super::problem::{Code, Problem};
use super::view::{RoundMember, RoundSummary, RoundView};

/// A page of rounds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Rounds {
    /// Oldest first.
    pub rounds: Vec<RoundSummary>,
    /// There is more: ask again with `after` = this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Settled rounds: the newest page, oldest first in it; `after` goes on from a round.
#[utoipa::path(get, path = "/v1/rounds", tag = "read", params(ListQuery), responses((status = 200, body = Rounds)))]
pub async fn rounds(State(app): State<App>, Params(query): Params<ListQuery>) -> Result<Read<Rounds>, Problem> {
    let (limit, after) = (query.limit(HISTORY_PAGE)?, query.after::<RoundId>()?);
    app.history(
        app.fresh(query.level()).await?,
        move |store| store.rounds(after, limit),
        |page, _| Rounds {
            rounds: page.items.iter().map(RoundSummary::of).collect(),
            next: page.next.map(|round| round.write()),
        },
    )
    .await
}

/// One settled round, with what its guard looked at and each slot's part.
#[utoipa::path(get, path = "/v1/rounds/{round}", tag = "read", params(("round" = u64, Path, description = "Its number"), ReadQuery),
    responses((status = 200, body = RoundView)))]
pub async fn round(
    State(app): State<App>,
    Part(round): Part<RoundId>,
    Params(query): Params<ReadQuery>,
) -> Result<Read<RoundView>, Problem> {
    let found = app.history(
        app.fresh(query.level()).await?,
        move |store| store.round(round),
        move |found, state| found.as_ref().map(RoundView::of).ok_or_else(|| unknown(round, state.meta.settled)),
    );
    found.await?.transpose()
}

/// A round that cannot be shown.
pub fn unknown(round: RoundId, settled: RoundId) -> Problem {
    let detail = if round > settled {
        format!("round {round} is not settled yet; the last settled one is {settled}")
    } else {
        format!("round {round} is not kept any more, or never was")
    };
    Problem::new(Code::UnknownRound, detail).with("settled", settled.0)
}

/// A page of a round's members, in ascending order of number.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RoundMembers {
    /// The round.
    pub round: u64,
    /// Its members.
    pub members: Vec<RoundMember>,
    /// There is more: ask again with `after` = this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Who was there in a settled round, and what each one got.
#[utoipa::path(get, path = "/v1/rounds/{round}/members", tag = "read", params(("round" = u64, Path, description = "Its number"), ListQuery),
    responses((status = 200, body = RoundMembers)))]
pub async fn members(
    State(app): State<App>,
    Part(round): Part<RoundId>,
    Params(query): Params<ListQuery>,
) -> Result<Read<RoundMembers>, Problem> {
    // Members are named by numbers, which are whole numbers as rounds are.
    let (limit, after) = (query.limit(PAGE)?, query.after::<RoundId>()?);
    let found = app.history(
        app.fresh(query.level()).await?,
        move |store| store.round(round),
        move |found, state| {
            let record = found.ok_or_else(|| unknown(round, state.meta.settled))?;
            let rest = RoundMember::after(&record, after.map(|last| last.0), state);
            let mut members: Vec<RoundMember> = rest.take(limit + 1).collect();
            let more = members.len() > limit;
            members.truncate(limit);
            let next = members.last().filter(|_| more).map(|member| member.number.to_string());
            Ok(RoundMembers { round: round.0, members, next })
        },
    );
    found.await?.transpose()
}
