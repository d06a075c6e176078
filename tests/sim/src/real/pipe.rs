//! One connection: two ways of bytes, and the ends that hold them.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::wires::Wires;
use crate::raft::Id;

/// What a client says first.
const PREFACE_BYTES: usize = 24;
/// The head of a frame of HTTP/2.
const HEAD_BYTES: usize = 9;
/// The kind of a frame that resets a stream, and where in the head the kind stands.
const RESET: u8 = 3;
const KIND_AT: usize = 3;

/// A connection, as the network knows it. A stream that is reset takes its connection with it: HTTP/2's library forgets such
/// a stream after a second of the real time, and answers otherwise to what comes for it late.
#[derive(Debug)]
pub(super) struct Line {
    /// Who made it, and who serves it.
    ends: [Id; 2],
    /// Towards each end.
    ways: [Way; 2],
    /// Whose process has ended, and what nobody hears any more.
    gone: [bool; 2],
    /// Each end knows that it is broken.
    broken: [bool; 2],
    /// Ends that are held.
    held: u8,
}

#[derive(Debug)]
struct Way {
    /// What is on its way, and when it is there; an empty piece is the end.
    pieces: VecDeque<(Instant, Vec<u8>)>,
    /// So much of the first one was read.
    read: usize,
    /// Nothing comes earlier than what was sent before it.
    last: Instant,
    reader: Option<Waker>,
    frames: Frames,
}

/// Where one is in what is sent.
#[derive(Debug)]
struct Frames {
    /// Bytes that are no head.
    skipped: usize,
    head: Vec<u8>,
}

impl Frames {
    /// Whether a stream is reset by what is sent now.
    fn reset(&mut self, piece: &[u8]) -> bool {
        let (mut rest, mut resets) = (piece, false);
        while !rest.is_empty() {
            let skipped = self.skipped.min(rest.len());
            self.skipped -= skipped;
            rest = &rest[skipped..];
            let taken = (HEAD_BYTES - self.head.len()).min(rest.len());
            self.head.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if self.head.len() == HEAD_BYTES {
                self.skipped = self.head[..KIND_AT].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                resets |= self.head[KIND_AT] == RESET;
                self.head.clear();
            }
        }
        resets
    }
}

impl Line {
    pub(super) fn new(ends: [Id; 2], now: Instant) -> Self {
        let way = |skipped| {
            let frames = Frames { skipped, head: Vec::new() };
            Way { pieces: VecDeque::new(), read: 0, last: now, reader: None, frames }
        };
        Self { ends, ways: [way(0), way(PREFACE_BYTES)], gone: [false; 2], broken: [false; 2], held: 2 }
    }

    pub(super) fn is_of(&self, id: Id) -> bool {
        self.ends.contains(&id)
    }

    pub(super) fn other(&self, id: Id) -> Id {
        if self.ends[0] == id { self.ends[1] } else { self.ends[0] }
    }

    /// Whoever waits looks again.
    pub(super) fn wake(&mut self) {
        self.ways.iter_mut().filter_map(|way| way.reader.take()).for_each(Waker::wake);
    }

    /// Both ends know that it is no more.
    pub(super) fn break_off(&mut self) {
        self.broken = [true; 2];
        self.wake();
    }

    /// The process at one end has ended; `told`: the other end knows.
    pub(super) fn end(&mut self, id: Id, told: bool) {
        for (at, end) in self.ends.into_iter().enumerate() {
            if end == id {
                self.gone[at] = true;
                self.broken[at] = true;
                self.broken[1 - at] |= told;
            }
        }
        self.wake();
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    wires: Wires,
    line: u64,
    /// Which of the two.
    end: usize,
    waits: Option<Pin<Box<Sleep>>>,
}

impl Pipe {
    pub(super) const fn new(wires: Wires, line: u64, end: usize) -> Self {
        Self { wires, line, end, waits: None }
    }

    /// Sends a piece; an empty one is the end.
    fn send(&self, piece: &[u8]) -> io::Result<()> {
        let mut inner = self.wires.inner();
        let due = Instant::now() + inner.delay();
        let Some(line) = inner.lines.get_mut(&self.line) else { return Err(io::ErrorKind::BrokenPipe.into()) };
        if line.broken[self.end] {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let there = 1 - self.end;
        if line.ways[there].frames.reset(piece) {
            line.break_off();
        } else if !line.gone[there] {
            let way = &mut line.ways[there];
            way.last = way.last.max(due);
            way.pieces.push_back((way.last, piece.to_vec()));
            if way.pieces.len() == 1
                && let Some(reader) = way.reader.take()
            {
                reader.wake();
            }
        }
        inner.carries(self.line, piece);
        Ok(())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _told = self.send(&[]);
        let mut inner = self.wires.inner();
        let Some(line) = inner.lines.get_mut(&self.line) else { return };
        line.held -= 1;
        line.gone[self.end] = true;
        if line.held == 0 {
            inner.lines.remove(&self.line);
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let due = {
                let mut inner = this.wires.inner();
                let Some(line) = inner.lines.get(&this.line) else {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                };
                if line.broken[this.end] {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                let is_cut = inner.is_cut(line.ends[1 - this.end], line.ends[this.end]);
                let Some(line) = inner.lines.get_mut(&this.line) else { return Poll::Pending };
                let way = &mut line.ways[this.end];
                let front = way.pieces.front().filter(|_| !is_cut);
                let Some((due, piece)) = front else {
                    way.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                if *due <= Instant::now() {
                    if piece.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let rest = &piece[way.read..];
                    let count = rest.len().min(to.remaining());
                    to.put_slice(&rest[..count]);
                    way.read += count;
                    if way.read == piece.len() {
                        way.read = 0;
                        way.pieces.pop_front();
                    }
                    return Poll::Ready(Ok(()));
                }
                // A cut that begins meanwhile holds it as well.
                way.reader = Some(cx.waker().clone());
                *due
            };
            let waits = this.waits.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if waits.deadline() != due {
                waits.as_mut().reset(due);
            }
            match waits.as_mut().poll(cx) {
                Poll::Ready(()) => this.waits = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if from.is_empty() {
            return Poll::Ready(Ok(0));
        }
        Poll::Ready(self.send(from).map(|()| from.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Who sends no more lets go of it soon, and says so then.
        Poll::Ready(Ok(()))
    }
}
