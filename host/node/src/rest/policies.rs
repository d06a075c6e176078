//! The rules in force.

use axum::extract::State;

use super::App;
use super::input::{Params, ReadQuery};
use super::problem::Problem;
use super::tag::{IfNoneMatch, Tagged};
use super::view::PoliciesView;

/// Each slot's policies: the active one, the previous one, candidates, and what is scheduled.
#[utoipa::path(get, path = "/v1/policies", tag = "read",
    params(ReadQuery, ("If-None-Match" = Option<String>, Header, description = "A tag: 304 where it is still so")),
    responses((status = 200, body = PoliciesView), (status = 304, description = "the tag is still the same")))]
pub async fn policies(
    State(app): State<App>,
    known: IfNoneMatch,
    Params(query): Params<ReadQuery>,
) -> Result<Tagged<PoliciesView>, Problem> {
    let fresh = app.fresh(query.level()).await?;
    let rounds = app.read(fresh, PoliciesView::rounds).await?.body;
    let read = app.history(
        fresh,
        move |store| {
            rounds.into_iter().filter_map(|round| store.round(round).transpose()).collect::<Result<Vec<_>, _>>()
        },
        |found, state| (state.policies_tag(), PoliciesView::of(state, &found)),
    );
    Ok(Tagged::whole(read.await?, &known))
}
