//! Sealed records as they are sealed, as server-sent events and as a stream of gRPC.
//!
//! Batches are sealed in another order than they are numbered in, so a reader goes on from a place in the order of the seals,
//! which each event carries as its id, and not from a sequence number.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use kernel::id::{LogIndex, NodeId};
use serde::Deserialize;
use store::Records;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use utoipa::IntoParams;

use super::App;
use super::input::Params;
use super::problem::{Code, Problem};
use super::records::{KnownBatch, RecordView};
use crate::events::{Event, Subscription};
use crate::group::Group;
use crate::records::keeper::fetched_by;

pub mod grpc;

/// The route, for who must tell it from others.
pub const ROUTE: &str = "/v1/records/watch";
/// A line without meaning after so long without a record, so that what is between does not close the stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Records on their way to one reader.
const ON_THE_WAY: usize = 16;
/// Batches that are read at once, for each reader: one with its views may take 4 MiB.
const PAGE: usize = 1;

/// Parameters of the stream.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WatchQuery {
    /// Go on after the event with this id; the header `Last-Event-ID`, which browsers send by themselves, does the same. `0`
    /// begins with the oldest that is kept here. Without it: what is sealed from now on.
    pub after: Option<String>,
    /// Only records of this author, 64 hex digits.
    pub author: Option<String>,
    /// `false` ends the stream after what is kept; the default is to go on as records are sealed.
    pub follow: Option<bool>,
}

/// Sealed records with what proves them, as they are sealed (server-sent events `record`, each a RecordView). A reader that
/// comes back with the id of the last event that it got misses nothing that this node keeps. A super has the bodies of sealed
/// records no more: there they are null.
#[utoipa::path(get, path = "/v1/records/watch", tag = "records", params(WatchQuery),
    responses((status = 200, description = "A stream of sealed records", content_type = "text/event-stream", body = String)))]
pub async fn watch(
    State(app): State<App>,
    headers: HeaderMap,
    Params(query): Params<WatchQuery>,
) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    // A browser that comes back sends the query with which it began, and the header: the header is newer.
    let wanted = Wanted::read(last.or(query.after.as_deref()), query.author.as_deref(), query.follow.unwrap_or(true))?;
    let began = Line::default().comment("pingward").retry(Duration::from_secs(1));
    let lines: Stream<Result<Line, Infallible>> = open(&app, wanted, Some(Ok(began)), Box::new(|| ()))?;
    Ok(Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// What a reader asks for.
struct Wanted {
    /// `None`: what is sealed from now on.
    after: Option<Place>,
    author: Option<NodeId>,
    follow: bool,
}

impl Wanted {
    fn read(after: Option<&str>, author: Option<&str>, follow: bool) -> Result<Self, Problem> {
        let wrong = |field: &str, why: String| Problem::new(Code::BadQuery, format!("{field}: {why}"));
        let no_place = |text: &str| wrong("after", format!("`{text}` is not the id of a record's event"));
        let after = after.map(|text| text.parse::<Place>().map_err(|()| no_place(text))).transpose()?;
        let author = author.map(|text| text.parse::<NodeId>().map_err(|error| wrong("author", error.to_string())));
        Ok(Self { after, author: author.transpose()?, follow })
    }
}

/// What a reader is told.
trait Told: Sized + Send + 'static {
    /// A record and where it is.
    fn record(place: Place, record: &RecordView) -> Self;
    /// That there will be no more, where that can be told.
    fn failed(problem: Problem) -> Option<Self>;
}

impl Told for Result<Line, Infallible> {
    fn record(place: Place, record: &RecordView) -> Self {
        Ok(Line::default().id(place.to_string()).event("record").data(super::view::json(record).to_string()))
    }

    fn failed(_problem: Problem) -> Option<Self> {
        None
    }
}

/// Called when a reader takes nothing.
type LetGo = Box<dyn FnOnce() + Send>;

/// A reader's stream.
struct Stream<T> {
    told: ReceiverStream<T>,
    /// Dropped with the stream: it was read to its end, or nobody reads it.
    _over: DropGuard,
}

impl<T> tokio_stream::Stream for Stream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.told).poll_next(cx)
    }
}

/// A reader's stream, for which there must be a place. `first` is told before everything else.
fn open<T: Told>(app: &App, wanted: Wanted, first: Option<T>, let_go: LetGo) -> Result<Stream<T>, Problem> {
    let from = match app.context().as_super() {
        Some(part) => Source::Super(part.group.clone()),
        None => Source::Kept { store: app.records()?.store.clone(), sealed: app.records()?.sealed.clone() },
    };
    let Subscription { live, .. } = app.context().events.subscribe(None).ok_or_else(|| Problem::of(Code::Stopping))?;
    let Ok(place) = app.places.record_streams.clone().try_acquire_owned() else {
        return Err(Problem::of(Code::TooManyStreams));
    };
    let Wanted { after, author, follow } = wanted;
    let at = after.unwrap_or_else(|| end(from.newest()));
    let (to, told) = mpsc::channel(ON_THE_WAY);
    let over = CancellationToken::new();
    let stream = Stream { told: ReceiverStream::new(told), _over: over.clone().drop_guard() };
    let taken_within = app.inner.answer_time * 2 / 3;
    let reader = Reader { to, taken_within, author, from, at };
    tokio::spawn(async move {
        // The place is kept until all is taken: what waits for a reader waits in memory.
        let _place = place;
        let ended = tokio::select! {
            ended = reader.run(first, follow) => ended,
            () = stopping(live) => Ok(()),
        };
        // Beyond the channel one more piece may wait, with what carries it.
        let untaken = ended == Err(Ended::Untaken) || timeout(taken_within, over.cancelled()).await.is_err();
        if untaken {
            let_go();
        }
    });
    Ok(stream)
}

/// Waits until the node stops: then nothing happens any more.
async fn stopping(mut live: Receiver<Arc<Event>>) {
    while !matches!(live.recv().await, Err(RecvError::Closed)) {}
}

/// Where a record is in the order of the seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Place in the log of its batch's seal.
    at: LogIndex,
    /// Its place in the batch, from 0.
    index: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at, self.index)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, index) = text.split_once('-').unwrap_or((text, "4294967295"));
        let index = index.parse().map_err(|_| ())?;
        at.parse().map(|at| Self { at: LogIndex(at), index }).map_err(|_| ())
    }
}

/// Records after a place, and the place up to which nothing else is; nothing where nothing new is there.
type Page = Option<(Vec<(Place, RecordView)>, Place)>;

/// What is read.
enum Source {
    /// What a super knows of records until they expire.
    Super(Group),
    /// What a follower or validator keeps.
    Kept { store: watch::Receiver<Option<Arc<Records>>>, sealed: watch::Receiver<LogIndex> },
}

impl Source {
    fn newest(&self) -> LogIndex {
        match self {
            Self::Super(group) => group.read(|state| state.meta.records.sealed_at),
            Self::Kept { sealed, .. } => *sealed.borrow(),
        }
    }

    /// The next records after a place.
    async fn page(&self, after: Place) -> Result<Page, Problem> {
        match self {
            Self::Super(group) => {
                let group = group.clone();
                super::places::blocking(move || page_of_super(&group, after)).await
            }
            Self::Kept { store, .. } => {
                let Some(store) = store.borrow().clone() else { return Ok(None) };
                let read = super::places::blocking(move || page_of_store(&store, after)).await?;
                read.map_err(super::store_failed)
            }
        }
    }

    /// Waits for more; `false`: there will be no more.
    async fn more(&mut self, than: Place) -> bool {
        match self {
            Self::Super(group) => {
                let mut applied = group.applied();
                loop {
                    if group.read(|state| state.meta.records.sealed_at) > than.at {
                        return true;
                    }
                    if applied.changed().await.is_err() {
                        return false;
                    }
                }
            }
            Self::Kept { sealed, .. } => sealed.changed().await.is_ok(),
        }
    }
}

/// The whole batch of a seal.
const fn end(at: LogIndex) -> Place {
    Place { at, index: u32::MAX }
}

fn page_of_super(group: &Group, after: Place) -> Page {
    let (known, last) = group.read(|state| {
        // The batch that is named may have been told in part.
        let seals = state.known.seals.range(after.at..).filter(|(at, _)| end(**at) > after).take(PAGE);
        let (mut known, mut last) = (Vec::new(), None);
        for (at, number) in seals {
            last = Some(end(*at));
            known.extend(state.batches.get(number).map(|batch| (*at, KnownBatch::of(state, batch))));
        }
        (known, last)
    });
    let mut records = Vec::new();
    for (at, batch) in &known {
        let views = batch.views().map(|(index, view)| (Place { at: *at, index }, view));
        records.extend(views.filter(|(place, _)| *place > after));
    }
    last.map(|last| (records, last))
}

fn page_of_store(store: &Records, after: Place) -> Result<Page, store::StoreError> {
    let mut batches = store.after(after.at, usize::MAX, PAGE)?;
    if after.index < u32::MAX {
        batches.splice(0..0, store.sealed_at(after.at)?);
    }
    let Some(last) = batches.last().map(|batch| end(batch.at)) else { return Ok(None) };
    if last <= after {
        return Ok(None);
    }
    let mut records = Vec::new();
    for batch in &batches {
        let proofs = batch.proofs();
        for index in 0..batch.certificate.attestation.count {
            let place = Place { at: batch.at, index };
            if place > after {
                records.extend(fetched_by(batch, &proofs, index).map(|found| (place, RecordView::of(&found))));
            }
        }
    }
    Ok(Some((records, last)))
}

/// Why a reader is told no more before all was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It hung up.
    Gone,
    /// It takes nothing.
    Untaken,
}

/// One reader. It ends when the reader hangs up or takes nothing, or the node stops.
struct Reader<T> {
    to: mpsc::Sender<T>,
    /// It is let go when it takes nothing for so long.
    taken_within: Duration,
    author: Option<NodeId>,
    from: Source,
    at: Place,
}

impl<T: Told> Reader<T> {
    async fn tell(&self, what: T) -> Result<(), Ended> {
        let sent = timeout(self.taken_within, self.to.send(what)).await.map_err(|_| Ended::Untaken)?;
        sent.map_err(|_| Ended::Gone)
    }

    /// Tells all, and waits until it is taken.
    async fn run(mut self, first: Option<T>, follow: bool) -> Result<(), Ended> {
        self.tell_all(first, follow).await?;
        for taken in 1..=self.to.max_capacity() {
            let room = timeout(self.taken_within, self.to.reserve_many(taken)).await.map_err(|_| Ended::Untaken)?;
            room.map_err(|_| Ended::Gone)?;
        }
        Ok(())
    }

    async fn tell_all(&mut self, first: Option<T>, follow: bool) -> Result<(), Ended> {
        if let Some(first) = first {
            self.tell(first).await?;
        }
        let author = self.author.map(|author| author.to_string());
        loop {
            if let Source::Kept { sealed, .. } = &mut self.from {
                sealed.mark_unchanged();
            }
            let page = match self.from.page(self.at).await {
                Ok(page) => page,
                Err(problem) => {
                    tracing::warn!(?problem, "a reader of sealed records is let go");
                    return match T::failed(problem) {
                        Some(last) => self.tell(last).await,
                        None => Ok(()),
                    };
                }
            };
            if let Some((records, last)) = page {
                for (place, view) in records {
                    let is_wanted = author.as_ref().is_none_or(|author| *author == view.author);
                    if is_wanted {
                        self.tell(T::record(place, &view)).await?;
                    }
                }
                self.at = last;
                continue;
            }
            if !follow {
                return Ok(());
            }
            let more = tokio::select! {
                () = self.to.closed() => return Ok(()),
                more = self.from.more(self.at) => more,
            };
            if !more {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Event = Result<Line, Infallible>;

    /// A reader of a node that keeps nothing, with room for so many on their way.
    fn reader(room: usize) -> (Reader<Event>, mpsc::Receiver<Event>) {
        let ((to, told), (_, store), (_, sealed)) =
            (mpsc::channel(room), watch::channel(None), watch::channel(LogIndex(0)));
        let (from, at) = (Source::Kept { store, sealed }, end(LogIndex(0)));
        (Reader { to, taken_within: Duration::from_secs(20), author: None, from, at }, told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_let_go() {
        let (reader, mut told) = reader(1);
        let line = || Ok(Line::default());
        assert_eq!(reader.tell(line()).await, Ok(()));
        let began = tokio::time::Instant::now();
        assert_eq!(reader.tell(line()).await, Err(Ended::Untaken));
        assert_eq!(began.elapsed(), reader.taken_within);
        assert!(told.recv().await.is_some());
        assert_eq!(reader.tell(line()).await, Ok(()));
        drop(told);
        assert_eq!(reader.tell(line()).await, Err(Ended::Gone));
    }

    /// All is told, and stays in the channel.
    #[tokio::test(start_paused = true)]
    async fn a_reader_that_does_not_take_the_last_one_is_let_go() {
        let line = || Some(Ok(Line::default()));
        let (untaken, _told) = reader(2);
        assert_eq!(untaken.run(line(), false).await, Err(Ended::Untaken));
        let (taken, mut told) = reader(2);
        let (ended, line) = tokio::join!(taken.run(line(), false), told.recv());
        assert_eq!((ended, line.is_some()), (Ok(()), true));
    }

    #[test]
    fn a_place_is_read_as_it_is_written_and_a_bare_number_means_all_of_a_batch() {
        let place = Place { at: LogIndex(7), index: 3 };
        assert_eq!((place.to_string().as_str(), "7-3".parse()), ("7-3", Ok(place)));
        assert_eq!("7".parse(), Ok(end(LogIndex(7))));
        for wrong in ["", "-", "x", "7-", "7-x", "-3", "7-4294967296"] {
            assert_eq!(wrong.parse::<Place>(), Err(()), "{wrong}");
        }
    }
}
