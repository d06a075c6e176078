//! The rules in force.

use axum::extract::State;

use super::App;
use super::answer::Read;
use super::input::{Params, ReadQuery};
use super::problem::Problem;
use super::view::PoliciesView;

/// Each slot's policies: the active one, the previous one, candidates, and what is scheduled.
#[utoipa::path(get, path = "/v1/policies", tag = "read", params(ReadQuery), responses((status = 200, body = PoliciesView)))]
pub async fn policies(State(app): State<App>, Params(_): Params<ReadQuery>) -> Result<Read<PoliciesView>, Problem> {
    let rounds = app.read(PoliciesView::rounds).await?.body;
    app.history(
        move |store| {
            rounds.into_iter().filter_map(|round| store.round(round).transpose()).collect::<Result<Vec<_>, _>>()
        },
        |found, state| PoliciesView::of(state, &found),
    )
    .await
}
