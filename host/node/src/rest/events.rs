//! The stream of events, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::App;
use super::input::Params;
use super::problem::{Code, Problem};
use crate::events::{Event, EventId, Kind, Subscription};
use crate::metrics::Metrics;

/// The route, for who must tell it from others.
pub const ROUTE: &str = "/v1/events";
/// A line without meaning after so long without an event, so that what is between does not close the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events on their way to one reader.
const ON_THE_WAY: usize = 16;

/// Parameters of the stream.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Go on after this event; the header `Last-Event-ID`, which browsers send by themselves, does the same.
    pub after: Option<String>,
    /// Only these kinds, separated by commas: `round`, `standing`, `ban`, `claim`, `policy`, `leader`, `settings`,
    /// `change`, `suspect`, `clock`.
    pub kinds: Option<String>,
    /// Begin with so many of the last events that are kept; not with `after`.
    pub recent: Option<u16>,
    /// `false` ends the stream after what is kept; the default is to go on as things happen.
    pub follow: Option<bool>,
}

/// What happens, as it happens (server-sent events). Each has an `id`; a reader that comes back with it gets what it missed.
/// A reader that missed more than is kept gets an event `lagged` and reads again what it shows.
#[utoipa::path(get, path = "/v1/events", tag = "read", params(EventsQuery),
    responses((status = 200, description = "A stream of events", content_type = "text/event-stream", body = String)))]
pub async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Response, Problem> {
    let kinds = kinds(query.kinds.as_deref())?;
    let after = match (query.after.as_deref(), headers.get("last-event-id")) {
        (Some(text), _) => Some(
            text.parse()
                .map_err(|()| Problem::new(Code::BadQuery, format!("after: `{text}` is not the id of an event")))?,
        ),
        // An id that is none of ours comes from another run: what it names is gone.
        (None, Some(value)) => Some(value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN)),
        (None, None) => None,
    };
    let Ok(permit) = app.places.event_streams.clone().try_acquire_owned() else {
        return Err(Problem::of(Code::TooManyStreams));
    };
    let subscription = match (after, query.recent) {
        (Some(_), Some(_)) if query.after.is_some() => {
            return Err(Problem::new(Code::BadQuery, "recent: not together with `after`"));
        }
        (None, Some(recent)) => app.context().events.recent(recent.into()),
        // A browser that comes back sends the query with which it began, and the header: the header is newer.
        (after, _) => app.context().events.subscribe(after),
    };
    let subscription = subscription.ok_or_else(|| Problem::of(Code::Stopping))?;
    let (to, lines) = mpsc::channel(ON_THE_WAY);
    let reader = Reader { to, kinds, metrics: Arc::clone(&app.context().metrics), _permit: permit };
    let follow = query.follow.unwrap_or(true);
    tokio::spawn(reader.run(subscription, follow));
    let alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(ReceiverStream::new(lines)).keep_alive(alive).into_response())
}

const UNKNOWN: EventId = EventId { run: 0, number: 0 };

fn kinds(text: Option<&str>) -> Result<Vec<Kind>, Problem> {
    let Some(text) = text else { return Ok(Kind::ALL.to_vec()) };
    let known = |word: &str| {
        let words = Kind::ALL.map(Kind::name).join(", ");
        let unknown = || Problem::new(Code::BadQuery, format!("kinds: `{word}` is not one of {words}"));
        Kind::ALL.into_iter().find(|kind| kind.name() == word).ok_or_else(unknown)
    };
    text.split(',').map(str::trim).map(known).collect()
}

/// One reader. It ends when the reader hangs up or the node stops.
struct Reader {
    to: mpsc::Sender<Result<Line, Infallible>>,
    kinds: Vec<Kind>,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    async fn run(self, subscription: Subscription, follow: bool) {
        let Subscription { missed, kept, live } = subscription;
        if self.send(Line::default().comment("pingward").retry(Duration::from_secs(1))).await.is_err() {
            return;
        }
        if missed && self.lagged(None).await.is_err() {
            return;
        }
        if self.kept(kept.into()).await.is_err() || (follow && self.follow(live).await.is_err()) {
            tracing::trace!("a reader of events hung up");
        }
    }

    async fn kept(&self, mut kept: VecDeque<Arc<Event>>) -> Result<(), HungUp> {
        while let Some(event) = kept.pop_front() {
            self.event(&event).await?;
        }
        Ok(())
    }

    async fn follow(&self, mut live: Receiver<Arc<Event>>) -> Result<(), HungUp> {
        loop {
            let next = tokio::select! {
                () = self.to.closed() => return Err(HungUp),
                next = live.recv() => next,
            };
            match next {
                Ok(event) => self.event(&event).await?,
                Err(RecvError::Lagged(missed)) => self.lagged(Some(missed)).await?,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn event(&self, event: &Event) -> Result<(), HungUp> {
        if !self.kinds.contains(&event.kind) {
            return Ok(());
        }
        self.send(Line::default().id(event.id.to_string()).event(event.kind.name()).data(&event.data)).await
    }

    async fn lagged(&self, missed: Option<u64>) -> Result<(), HungUp> {
        self.metrics.events_lagged.inc();
        let hint = "events were missed: read again what you show";
        let data = serde_json::json!({ "missed": missed, "hint": hint });
        self.send(Line::default().event("lagged").data(data.to_string())).await
    }

    async fn send(&self, line: Line) -> Result<(), HungUp> {
        self.to.send(Ok(line)).await.map_err(|_| HungUp)
    }
}

/// The reader is gone.
struct HungUp;
