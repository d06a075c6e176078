//! The cluster's settings, and the log of all changes by hand.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use store::LineKey;

use super::App;
use super::answer::Read;
use super::input::{Cursor as _, HISTORY_PAGE, ListQuery, Params, ReadQuery};
use super::problem::Problem;
use super::view::{ChangeView, SettingsView};

/// The cluster's settings in force, and a change that is to come.
#[utoipa::path(get, path = "/v1/settings", tag = "read", params(ReadQuery), responses((status = 200, body = SettingsView)))]
pub async fn settings(State(app): State<App>, Params(_): Params<ReadQuery>) -> Result<Read<SettingsView>, Problem> {
    app.read(SettingsView::of).await
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
        move |store| store.changes(after, limit),
        |page, _| Changes {
            changes: page.items.iter().map(ChangeView::of).collect(),
            next: page.next.map(|key| key.write()),
        },
    )
    .await
}
