//! The REST interface: what people and programs read, signed requests, and the operator's decisions.
//!
//! One file per family of routes. Every route is declared with its description, so `openapi.json` cannot miss one; every
//! answer is made of views ([`view`]); every error is a [`problem`] from one table. Reads run beside the node's loops, never
//! in them, and whatever a client sends is bounded in bytes, time and number.
//!
//! Invariants: nothing a client sends reaches a panic; what changes the cluster is a command of the log, and the answer
//! comes when it is durable; whoever has neither token nor socket can read, and send what carries its own signature.
#![allow(unused_qualifications, reason = "the macros that describe routes write whole paths")]

pub mod access;
pub mod problem;
pub mod view;

mod accounts;
mod answer;
mod backup;
mod bans;
mod claims;
mod cluster;
mod events;
mod health;
mod input;
mod inputs;
mod layers;
mod nodes;
mod operate;
mod order;
mod places;
mod policies;
mod queue;
pub(crate) mod records;
mod rewards;
mod rounds;
pub mod serve;
mod settings;
mod shadow;
pub(crate) mod signed;
mod stage;
mod status;
mod tag;
mod transfers;
mod validators;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use kernel::state::State;
use store::{Store, StoreError};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::context::{Context, SuperPart};
use crate::group::GroupError;

use access::{Admin, Caller};
use answer::{Fresh, Read};
use input::ReadLevel;
use order::Orders;
use places::{Places, Turns, blocking};
use problem::{Code, Problem};

/// All that routes work on, as seen from one entrance.
#[derive(Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
    places: Arc<Places>,
}

struct Inner {
    context: Arc<Context>,
    admin: Admin,
    answer_time: Duration,
    orders: Orders,
    openapi: String,
}

/// The same routes twice, each with places of its own: whatever strangers do over TCP, an operator gets in.
#[derive(Clone, Debug)]
pub struct Entrances {
    /// For everybody.
    pub tcp: Router,
    /// For programs that speak gRPC at the same port, with the places of that one.
    pub grpc: Router,
    /// For the admin socket.
    pub socket: Router,
}

/// The routes of a node. `admin` says who may decide over TCP.
pub fn entrances(context: Arc<Context>, admin: Admin) -> Entrances {
    let tcp = app(context, admin, layers::ANSWER_TIME);
    let socket = App { inner: Arc::clone(&tcp.inner), places: Arc::default() };
    Entrances { grpc: watch::grpc::router(&tcp), tcp: router(tcp), socket: router(socket) }
}

fn router(app: App) -> Router {
    layers::around(routes().split_for_parts().0, &app).with_state(app)
}

fn app(context: Arc<Context>, admin: Admin, answer_time: Duration) -> App {
    let openapi = health::openapi_text(&openapi());
    let inner = Inner { context, admin, answer_time, orders: Orders::default(), openapi };
    App { inner: Arc::new(inner), places: Arc::default() }
}

/// The description of all routes, as `/openapi.json` serves it.
#[must_use]
pub fn openapi() -> OpenApi {
    health::described(routes().into_openapi())
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(health::head())
        .routes(routes!(status::status))
        .routes(routes!(queue::queue))
        .routes(routes!(nodes::nodes))
        .routes(routes!(nodes::node))
        .routes(routes!(nodes::moves))
        .routes(routes!(rewards::rewards))
        .routes(routes!(claims::claim))
        .routes(routes!(transfers::transfer))
        .routes(routes!(records::submit, records::list))
        .routes(routes!(validators::retry))
        .routes(routes!(records::one))
        .routes(routes!(watch::watch))
        .routes(routes!(validators::validators, validators::add))
        .routes(routes!(validators::remove))
        .routes(routes!(validators::evidence))
        .routes(routes!(validators::directory))
        .routes(routes!(accounts::account))
        .routes(routes!(accounts::entries))
        .routes(routes!(bans::bans, operate::ban))
        .routes(routes!(operate::lift))
        .routes(routes!(rounds::rounds))
        .routes(routes!(rounds::round))
        .routes(routes!(rounds::members))
        .routes(routes!(inputs::inputs))
        .routes(routes!(operate::accept_round))
        .routes(routes!(policies::policies))
        .routes(routes!(stage::stage))
        .routes(routes!(stage::activate))
        .routes(routes!(shadow::report, shadow::begin))
        .routes(routes!(operate::accept_policy))
        .routes(routes!(operate::rollback))
        .routes(routes!(operate::compensate))
        .routes(routes!(operate::class))
        .routes(routes!(settings::settings, operate::set))
        .routes(routes!(settings::changes))
        .routes(routes!(cluster::members, cluster::add))
        .routes(routes!(cluster::state))
        .routes(routes!(backup::backup))
        .routes(routes!(cluster::remove))
        .routes(routes!(cluster::promote))
        .routes(routes!(events::events))
        .routes(routes!(health::problems))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::openapi_json))
        .routes(routes!(health::index))
}

impl App {
    fn context(&self) -> &Context {
        &self.inner.context
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.inner.admin
    }

    /// The super's part, or a problem that says whom to ask.
    fn part(&self) -> Result<&SuperPart, Problem> {
        self.context().as_super().ok_or_else(|| {
            let role = self.context().role.word();
            Problem::new(Code::WrongRole, format!("this node is a {role}")).hint(self.whom_to_ask())
        })
    }

    fn whom_to_ask(&self) -> String {
        let supers =
            self.context().as_follower().map(|part| status::attached_to(&part.own.borrow())).unwrap_or_default();
        match supers.as_slice() {
            [] => "ask a super of the cluster".into(),
            supers => format!("ask a super: this node is attached to {}", supers.join(", ")),
        }
    }

    /// Waits until this super may answer a read at that level.
    async fn fresh(&self, level: ReadLevel) -> Result<Fresh, Problem> {
        match level {
            ReadLevel::Local => Ok(Fresh::LOCAL),
            ReadLevel::Linearizable => self.current().await.map_err(|problem| {
                if problem.code != Code::NoLeader {
                    return problem;
                }
                problem.hint(
                    "add ?read=local (on the command line: --read local) to see what this super has, which may be old",
                )
            }),
        }
    }

    /// Waits until this super has applied all that was acknowledged anywhere.
    async fn current(&self) -> Result<Fresh, Problem> {
        let waiting = self.part()?.group.linearizable();
        let waited = tokio::time::timeout(self.inner.answer_time / 6, waiting).await;
        waited.unwrap_or(Err(GroupError::NoLeader))?;
        Ok(Fresh::LINEARIZABLE)
    }

    /// Reads a little of the state, on a thread that may wait: a commit holds it for as long as the disk takes.
    async fn read<T: Send + 'static>(
        &self,
        fresh: Fresh,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<Read<T>, Problem> {
        let group = self.part()?.group.clone();
        blocking(move || group.read(|state| fresh.read(state, look))).await
    }

    /// Reads much of the state, in turn. Commands wait meanwhile, so what looks must be bounded.
    async fn read_in_turn<T: Send + 'static>(
        &self,
        fresh: Fresh,
        turns: &Turns,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<Read<T>, Problem> {
        let group = self.part()?.group.clone();
        let look = move || group.read(|state| fresh.read(state, look));
        turns.run(self.patience(), look).await
    }

    /// Reads history, then the state to name what is in it.
    async fn history<H, T>(
        &self,
        fresh: Fresh,
        read: impl FnOnce(&Store) -> Result<H, StoreError> + Send + 'static,
        look: impl FnOnce(H, &State) -> T + Send + 'static,
    ) -> Result<Read<T>, Problem>
    where
        T: Send + 'static,
    {
        let part = self.part()?;
        let (group, store) = (part.group.clone(), Arc::clone(&part.store));
        let found = self.places.history.run(self.patience(), move || {
            let found = read(&store)?;
            Ok(group.read(|state| fresh.read(state, |state| look(found, state))))
        });
        found.await?.map_err(store_failed)
    }

    /// How long a read waits for its turn: whoever is told to come back is told so well before an answer is given up.
    fn patience(&self) -> Duration {
        self.inner.answer_time / 10
    }

    /// Whether whoever asks may see ip, port and address of nodes.
    fn shows_addresses(&self, caller: Caller) -> bool {
        self.context().public_addresses || caller.operator.is_some()
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it ends here")]
fn store_failed(error: StoreError) -> Problem {
    tracing::error!(%error, "history cannot be read");
    Problem::of(Code::StoreFailed)
}

/// The kernel answered a command with another kind of reply than it has for it.
fn unexpected(reply: &kernel::outcome::Reply) -> Problem {
    tracing::error!(?reply, "a reply that does not fit its command");
    Problem::of(Code::Internal)
}
