//! Accounts and every movement of points.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use kernel::id::NodeId;
use store::LineKey;

use super::App;
use super::answer::Read;
use super::input::{Cursor as _, HISTORY_PAGE, ListQuery, Params, Part, PathPart, ReadQuery};
use super::problem::{Code, Problem};
use super::view::{AccountView, EntryView};

/// Whose accounts.
#[derive(Clone, Copy, Debug)]
pub enum Whose {
    /// The one that issues.
    Treasury,
    /// A node's or wallet's.
    Key(NodeId),
}

impl PathPart for Whose {
    fn read(text: &str) -> Result<Self, Problem> {
        if text == "treasury" {
            return Ok(Self::Treasury);
        }
        let key = NodeId::parse(text).map_err(|error| {
            Problem::new(Code::BadPath, format!("the account: {error}"))
                .hint("use a key of 64 hex digits, or `treasury`")
        })?;
        Ok(Self::Key(key))
    }
}

/// A key's points: earned and not claimed, in its wallet, and the sequence of its next claim.
#[utoipa::path(get, path = "/v1/accounts/{key}", tag = "read",
    params(("key" = String, Path, description = "A key, 64 hex digits, or `treasury`"), ReadQuery),
    responses((status = 200, body = AccountView)))]
pub async fn account(
    State(app): State<App>,
    Part(whose): Part<Whose>,
    Params(query): Params<ReadQuery>,
) -> Result<Read<AccountView>, Problem> {
    let found = app.read(app.fresh(query.level()).await?, move |state| match whose {
        Whose::Treasury => Ok(AccountView::treasury(state)),
        Whose::Key(key) => AccountView::of(&key, state).ok_or_else(|| unknown(&key)),
    });
    found.await?.transpose()
}

fn unknown(key: &NodeId) -> Problem {
    Problem::new(Code::UnknownAccount, format!("{key} is no member and has no wallet"))
}

/// A page of movements.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Entries {
    /// Oldest first.
    pub entries: Vec<EntryView>,
    /// There is more: ask again with `after` = this. A page may have fewer items than asked and still a `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Movements of a key's points inside the kept history, each with its round and policy: the newest page, oldest first in
/// it; `after` goes on. The treasury's leave out what it pays each round, which is the round's `issued`.
#[utoipa::path(get, path = "/v1/accounts/{key}/entries", tag = "read",
    params(("key" = String, Path, description = "A key, 64 hex digits, or `treasury`"), ListQuery),
    responses((status = 200, body = Entries)))]
pub async fn entries(
    State(app): State<App>,
    Part(whose): Part<Whose>,
    Params(query): Params<ListQuery>,
) -> Result<Read<Entries>, Problem> {
    let (limit, after) = (query.limit(HISTORY_PAGE)?, query.after::<LineKey>()?);
    let fresh = app.fresh(query.level()).await?;
    let Whose::Key(key) = whose else {
        let lines = app.history(
            fresh,
            move |store| store.lines_of_treasury(after, limit),
            |page, state| Entries {
                entries: page.items.iter().map(|line| EntryView::of(line, 0, state)).collect(),
                next: page.next.map(|key| key.write()),
            },
        );
        return lines.await;
    };
    let known = app.read(fresh, move |state| {
        let known = state.members.contains_key(&key) || state.wallets.contains_key(&key);
        let number = state.members.get(&key).map(|member| member.profile.number);
        known.then_some(number).ok_or_else(|| unknown(&key))
    });
    let number = known.await?.body?;
    app.history(
        fresh,
        move |store| store.lines(key, number, after, limit),
        |page, state| Entries {
            entries: page.items.iter().map(|item| EntryView::of(&item.line, item.code, state)).collect(),
            next: page.next.map(|key| key.write()),
        },
    )
    .await
}
