//! The streams that a super holds, and what must be true of them: one a key, the newest; one key an (ip, port).

use std::collections::BTreeMap;
use std::net::IpAddr;

use kernel::id::{NodeId, ProtocolVersion};
use wire::message::{Ping, ToFollower};

use crate::mail::{Out, StreamId};
use crate::streams::{Connected, Streams};

/// One follower's stream.
#[derive(Debug)]
pub struct Link {
    /// Which stream.
    pub stream: StreamId,
    /// The way back. Dropping it ends the stream.
    pub out: Out,
    /// Where it comes from.
    pub ip: IpAddr,
    /// Its source port.
    pub port: u16,
    /// What it speaks.
    pub version: ProtocolVersion,
    /// When its last ping left, µs of the loop's clock.
    pub asked_us: u64,
    /// It has said goodbye: once a stream is enough.
    pub goodbye: bool,
    /// When it last asked whether this super is there, µs of the loop's clock.
    pub alive_us: Option<u64>,
    /// The news that it knows: see [`Attached::owes_news`].
    pub news: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Attached {
    links: BTreeMap<NodeId, Link>,
    ports: BTreeMap<(IpAddr, u16), NodeId>,
    /// Followers whose join is under way, with the stream that waits for it.
    waiting: BTreeMap<NodeId, StreamId>,
    streams: Streams,
}

impl Attached {
    /// None yet; `streams` is kept in step.
    #[must_use]
    pub fn new(streams: Streams) -> Self {
        Self { streams, ..Self::default() }
    }

    /// How many are attached.
    #[must_use]
    pub fn count(&self) -> usize {
        self.links.len()
    }

    /// Whether another key holds the address and port.
    #[must_use]
    pub fn is_port_taken(&self, node: &NodeId, ip: IpAddr, port: u16) -> bool {
        self.ports.get(&(ip, port)).is_some_and(|holder| holder != node)
    }

    /// The stream waits for its node's join; one that waited before is forgotten.
    pub fn wait(&mut self, node: NodeId, stream: StreamId) {
        self.waiting.insert(node, stream);
    }

    /// Joins under way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Its join is done: whether this stream still waits for it.
    pub fn waited(&mut self, node: &NodeId, stream: StreamId) -> bool {
        let current = self.waiting.get(node) == Some(&stream);
        if current {
            self.waiting.remove(node);
        }
        current
    }

    /// The newest stream of a key wins: the one before ends, because what sends to it is dropped.
    pub fn attach(&mut self, node: NodeId, link: Link, now_ms: u64) {
        self.detach(&node);
        let (ip, port) = (link.ip, link.port);
        let connected = Connected { since_ms: now_ms, last_pong_ms: None, rtt_us: None, ip, port };
        self.streams.write(|all| all.insert(node, connected));
        self.ports.insert((ip, port), node);
        self.links.insert(node, link);
    }

    /// Lets go of a node's stream; it ends after what was sent last.
    pub fn detach(&mut self, node: &NodeId) -> Option<Link> {
        let link = self.links.remove(node)?;
        let place = (link.ip, link.port);
        if self.ports.get(&place) == Some(node) {
            self.ports.remove(&place);
        }
        self.streams.write(|all| all.remove(node));
        Some(link)
    }

    /// The stream has ended by itself; whether it was the node's newest.
    pub fn ended(&mut self, node: &NodeId, stream: StreamId) -> bool {
        self.waited(node, stream);
        let current = self.is_current(node, stream);
        if current {
            self.detach(node);
        }
        current
    }

    /// Whether this is the node's newest stream.
    #[must_use]
    pub fn is_current(&self, node: &NodeId, stream: StreamId) -> bool {
        self.links.get(node).is_some_and(|link| link.stream == stream)
    }

    /// What a node says that it speaks; `None` when it has no stream.
    #[must_use]
    pub fn version(&self, node: &NodeId) -> Option<ProtocolVersion> {
        self.links.get(node).map(|link| link.version)
    }

    /// Whether the node has a stream.
    #[must_use]
    pub fn is_attached(&self, node: &NodeId) -> bool {
        self.links.contains_key(node)
    }

    /// Puts a message on a node's stream; `false` when there is none or the follower does not read it, which ends it.
    pub fn send(&self, node: &NodeId, message: ToFollower) -> bool {
        self.links.get(node).is_some_and(|link| link.out.send(message).is_ok())
    }

    /// The same for its turn, which is remembered for the round trip.
    pub fn ask(&mut self, node: &NodeId, ping: Ping, now_us: u64) -> bool {
        self.links.get_mut(node).is_some_and(|link| {
            link.asked_us = now_us;
            link.out.send(ToFollower::Ping(ping)).is_ok()
        })
    }

    /// A valid pong came off the socket at `at_us`.
    pub fn pong(&self, node: &NodeId, now_ms: u64, at_us: u64) {
        let Some(link) = self.links.get(node) else { return };
        let rtt_us = u32::try_from(at_us.saturating_sub(link.asked_us)).unwrap_or(u32::MAX).max(1);
        self.streams.write(|all| {
            if let Some(connected) = all.get_mut(node) {
                connected.last_pong_ms = Some(now_ms);
                connected.rtt_us = Some(rtt_us);
            }
        });
    }

    /// A goodbye came: whether it is the stream's first.
    pub fn goodbye(&mut self, node: &NodeId) -> bool {
        self.links.get_mut(node).is_some_and(|link| !std::mem::replace(&mut link.goodbye, true))
    }

    /// It asks whether this super is there: whether it did not do so within `within_us`.
    pub fn alive(&mut self, node: &NodeId, at_us: u64, within_us: u64) -> bool {
        self.links.get_mut(node).is_some_and(|link| {
            let before = link.alive_us.replace(at_us);
            before.is_none_or(|before_us| at_us.saturating_sub(before_us) >= within_us)
        })
    }

    /// The news that a node knows; `None` when it has no stream.
    #[must_use]
    pub fn news_of(&self, node: &NodeId) -> Option<u64> {
        self.links.get(node).map(|link| link.news)
    }

    /// Whether a node is to be told what a welcome says, because that has become another one since it was; asked once.
    pub fn owes_news(&mut self, node: &NodeId, news: u64) -> bool {
        self.links.get_mut(node).is_some_and(|link| std::mem::replace(&mut link.news, news) != news)
    }

    /// All attached keys, ascending.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.links.keys().copied().collect()
    }

    /// All streams.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Link)> {
        self.links.iter()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn link(stream: u64, port: u16) -> (Link, mpsc::Receiver<Box<ToFollower>>) {
        let (out, end, _) = Out::new(4);
        let ip = IpAddr::from([127, 0, 0, 1]);
        let (stream, version) = (StreamId(stream), ProtocolVersion::OURS);
        (Link { stream, out, ip, port, version, asked_us: 0, goodbye: false, alive_us: None, news: 0 }, end)
    }

    #[test]
    fn the_newest_stream_of_a_key_closes_the_older_one() {
        let node = NodeId([1; 32]);
        let mut attached = Attached::default();
        let (first, mut first_end) = link(1, 7101);
        let (second, _second_end) = link(2, 7101);
        attached.attach(node, first, 1);
        attached.attach(node, second, 2);
        assert!(first_end.try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Disconnected));
        assert!(!attached.ended(&node, StreamId(1)), "the old stream's end is not the node's");
        assert!(attached.is_attached(&node));
        assert!(attached.ended(&node, StreamId(2)) && !attached.is_attached(&node));
    }

    #[test]
    fn a_port_belongs_to_one_key_until_its_stream_ends() {
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        let ip = IpAddr::from([127, 0, 0, 1]);
        let mut attached = Attached::default();
        let (first, _end) = link(1, 7101);
        attached.attach(a, first, 1);
        assert!(attached.is_port_taken(&b, ip, 7101));
        assert!(!attached.is_port_taken(&a, ip, 7101), "its own port is no obstacle to coming back");
        attached.detach(&a);
        assert!(!attached.is_port_taken(&b, ip, 7101));
    }

    #[test]
    fn a_join_is_for_the_stream_that_still_waits() {
        let node = NodeId([1; 32]);
        let mut attached = Attached::default();
        attached.wait(node, StreamId(1));
        attached.wait(node, StreamId(2));
        assert!(!attached.waited(&node, StreamId(1)));
        assert!(attached.waited(&node, StreamId(2)));
        assert_eq!(attached.waiting(), 0);
    }
}
