//! Who was banned, when, until when and why.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use kernel::standing::Standing;
use store::MoveKey;

use super::App;
use super::answer::Read;
use super::input::{Cursor as _, HISTORY_PAGE, ListQuery, Params};
use super::problem::Problem;
use super::view::BanView;

/// A page of bans.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Bans {
    /// Oldest first; `active` says which ones hold.
    pub bans: Vec<BanView>,
    /// There is more: ask again with `after` = this. A page may have fewer items than asked and still a `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Bans: the newest page, oldest first in it; `after` goes on.
#[utoipa::path(get, path = "/v1/bans", tag = "read", params(ListQuery), responses((status = 200, body = Bans)))]
pub async fn bans(State(app): State<App>, Params(query): Params<ListQuery>) -> Result<Read<Bans>, Problem> {
    let (limit, after) = (query.limit(HISTORY_PAGE)?, query.after::<MoveKey>()?);
    app.history(
        app.fresh(query.level()).await?,
        move |store| store.moves_to(Standing::Banned, after, limit),
        |page, state| Bans {
            bans: page.items.iter().map(|moved| BanView::of(moved, state)).collect(),
            next: page.next.map(|key| key.write()),
        },
    )
    .await
}
