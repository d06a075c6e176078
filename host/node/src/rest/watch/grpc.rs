//! The same stream for programs that speak gRPC.

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::{Next, from_fn_with_state};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};
use wire::pb;
use wire::pb::records_server::{Records, RecordsServer};

use super::{Place, RecordView, Stream, Told, Wanted, open};
use crate::listen::http::Cut;
use crate::rest::App;
use crate::rest::problem::Problem;

/// Bytes of a request: a place and an author.
const REQUEST_BYTES: usize = 1 << 10;
const PATH: &str = "/pingward.v1.Records/{call}";
/// As metrics name it: what a client calls is not bounded.
const ROUTE: &str = "/pingward.v1.Records";

/// What an entrance serves to programs that speak gRPC.
pub fn router(app: &App) -> Router {
    let service = RecordsServer::new(Watching { app: app.clone() }).max_decoding_message_size(REQUEST_BYTES);
    let other = async || {
        let what = "over gRPC there is pingward.v1.Records; everything else is asked over HTTP/1.1";
        Status::unimplemented(what).into_http::<Body>()
    };
    let around = from_fn_with_state(app.clone(), counted_and_in_time);
    Router::new().route_service(PATH, service).fallback(other).layer(around)
}

/// An answer begins in time or not at all: a request may be as slow as who sends it.
async fn counted_and_in_time(State(app): State<App>, request: http::Request<Body>, next: Next) -> http::Response<Body> {
    let route = request.extensions().get::<MatchedPath>().map_or("none", |_| ROUTE);
    let late = || Status::deadline_exceeded("the request did not come in time").into_http();
    let answer = timeout(app.inner.answer_time, next.run(request)).await.unwrap_or_else(|_| late());
    app.context().metrics.request("POST", route, answer.status().as_u16());
    answer
}

struct Watching {
    app: App,
}

type Watched = Result<pb::WatchedRecord, Status>;

impl Told for Watched {
    fn record(place: Place, record: &RecordView) -> Self {
        Ok(pb::WatchedRecord { id: place.to_string(), record: crate::rest::view::json(record).to_string() })
    }

    fn failed(problem: Problem) -> Option<Self> {
        Some(Err(status(&problem)))
    }
}

#[tonic::async_trait]
impl Records for Watching {
    type WatchStream = Stream<Watched>;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let pb::WatchRequest { after, author, no_follow } = request.get_ref();
        let after = Some(after.as_str()).filter(|text| !text.is_empty());
        let author = Some(author.as_str()).filter(|text| !text.is_empty());
        let wanted = Wanted::read(after, author, !no_follow).map_err(|problem| status(&problem))?;
        let cut = request.extensions().get::<Cut>().cloned();
        let let_go = Box::new(move || cut.iter().for_each(Cut::now));
        let told = open(&self.app, wanted, None, let_go).map_err(|problem| status(&problem))?;
        Ok(Response::new(told))
    }
}

/// A problem in the words of gRPC.
fn status(problem: &Problem) -> Status {
    let code = match problem.code.row().status {
        400 => Code::InvalidArgument,
        404 => Code::Unimplemented,
        401..500 => Code::FailedPrecondition,
        503 => Code::Unavailable,
        _ => Code::Internal,
    };
    Status::new(code, problem.words())
}
