//! The cluster's settings, and the log of all changes by hand.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use kernel::state::State as Cluster;
use store::LineKey;

use super::App;
use super::answer::Read;
use super::input::{Cursor as _, HISTORY_PAGE, ListQuery, Params, ReadQuery};
use super::problem::Problem;
use super::tag::{IfNoneMatch, Tagged};
use super::view::{ChangeView, SettingsView};

/// The cluster's settings in force, and a change that is to come.
#[utoipa::path(get, path = "/v1/settings", tag = "read",
    params(ReadQuery, ("If-None-Match" = Option<String>, Header, description = "A tag: 304 where it is still so")),
    responses((status = 200, body = SettingsView), (status = 304, description = "the tag is still the same")))]
pub async fn settings(
    State(app): State<App>,
    known: IfNoneMatch,
    Params(query): Params<ReadQuery>,
) -> Result<Tagged<SettingsView>, Problem> {
    let look = |state: &Cluster| (state.settings_tag(), SettingsView::of(state));
    let read = app.read(app.fresh(query.level()).await?, look).await?;
    Ok(Tagged::whole(read, &known))
}

/// A page of the change log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Changes {
    /// Oldest first.
    pub changes: Vec<ChangeView>,
    /// There is more: ask again with `after` = this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Who changed what by hand, when, from what to what, and why: the newest page, oldest first in it; `after` goes on.
#[utoipa::path(get, path = "/v1/changes", tag = "read", params(ListQuery), responses((status = 200, body = Changes)))]
pub async fn changes(State(app): State<App>, Params(query): Params<ListQuery>) -> Result<Read<Changes>, Problem> {
    let (limit, after) = (query.limit(HISTORY_PAGE)?, query.after::<LineKey>()?);
    app.history(
        app.fresh(query.level()).await?,
        move |store| store.changes(after, limit),
        |page, _| Changes {
            changes: page.items.iter().map(ChangeView::of).collect(),
            next: page.next.map(|key| key.write()),
        },
    )
    .await
}
