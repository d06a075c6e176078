//! Protobuf messages to plain types and back: the only place that reads a message.
//!
//! Each field is checked against its bound here, once. What does not fit is [`Malformed`], never cut or guessed. Texts
//! hold nothing that could forge a line of a log or a screen.

use kernel::id::{ClusterId, NodeId, ProtocolVersion, RoundId, Term};
use kernel::limits::{PONG_ADDRESS_CHARS, REASON_BYTES};
use kernel::members::{Refusal, is_printable};
use kernel::outcome::Told;
use kernel::round::Presence;
use kernel::standing::Standing;
use kernel::units::Points;

use crate::message::{FromFollower, Hello, Malformed, Own, Ping, Pong, Role, SUPERS, SuperAt, ToFollower, Welcome};
use crate::pb;
use crate::pb::from_follower::What as From_;
use crate::pb::refusal::Why;
use crate::pb::to_follower::What as To;
use crate::raft::ADDRESS_BYTES;

mod policies;

/// `id#genesis`: 32 characters, the sign, 32 hex digits.
const CLUSTER_BYTES: usize = 65;
/// Names and software versions: twice what the kernel allows, so that what is a little too long gets the kernel's
/// refusal with its cure, and what is far too long costs nothing.
const NAME_BYTES: usize = 64;
/// Reasons, warnings, ranges of versions and other texts of a super.
const TEXT_BYTES: usize = 2 * REASON_BYTES;

/// Reads what a follower says. What cannot be read is [`FromFollower::Malformed`].
#[must_use]
pub fn from_follower(message: pb::FromFollower) -> FromFollower {
    read_from_follower(message).unwrap_or_else(FromFollower::Malformed)
}

fn read_from_follower(message: pb::FromFollower) -> Result<FromFollower, Malformed> {
    Ok(match message.what.ok_or(Malformed("no message that is known here"))? {
        From_::Hello(hello) => FromFollower::Hello(read_hello(hello)?),
        From_::Pong(pong) => FromFollower::Pong(Pong {
            round: RoundId(pong.round),
            term: Term(pong.term),
            nonce: pong.nonce,
            version: version(pong.version)?,
            data: pong.data,
            address: text(pong.address, PONG_ADDRESS_CHARS, "an address of more than 64 printable characters")?,
        }),
        From_::Ping(ping) => FromFollower::Ping(read_ping(&ping)),
        From_::Goodbye(pb::Goodbye {}) => FromFollower::Goodbye,
        From_::Return(pb::Return {}) => FromFollower::Return,
        From_::Alive(pb::Alive {}) => FromFollower::Alive,
    })
}

fn read_hello(hello: pb::Hello) -> Result<Hello, Malformed> {
    let role = match hello.role() {
        pb::Role::Unspecified => return Err(Malformed("a hello without a role")),
        pb::Role::Follower => Role::Follower,
        pb::Role::Validator => Role::Validator,
        pb::Role::Super => Role::Super,
        pb::Role::Bootstrap => Role::Bootstrap,
    };
    let rest =
        hello.rest.map(|rest| text(rest, PONG_ADDRESS_CHARS, "a REST address of more than 64 printable characters"));
    Ok(Hello {
        cluster: text(hello.cluster, CLUSTER_BYTES, "a cluster that is no id#genesis")?,
        role,
        name: text(hello.name, NAME_BYTES, "a name that is far too long")?,
        version: version(hello.version)?,
        software: text(hello.software, NAME_BYTES, "a software version that is far too long")?,
        port: port(hello.port)?,
        rest: rest.transpose()?,
    })
}

/// Writes what a follower says. `None` for [`FromFollower::Malformed`], which nobody sends.
#[must_use]
pub fn from_follower_pb(message: FromFollower) -> Option<pb::FromFollower> {
    let what = match message {
        FromFollower::Hello(hello) => From_::Hello(write_hello(hello)),
        FromFollower::Pong(pong) => From_::Pong(pb::Pong {
            round: pong.round.0,
            term: pong.term.0,
            nonce: pong.nonce,
            version: Some(version_pb(pong.version)),
            data: pong.data,
            address: pong.address,
        }),
        FromFollower::Ping(ping) => From_::Ping(write_ping(ping)),
        FromFollower::Goodbye => From_::Goodbye(pb::Goodbye {}),
        FromFollower::Return => From_::Return(pb::Return {}),
        FromFollower::Alive => From_::Alive(pb::Alive {}),
        FromFollower::Malformed(_) => return None,
    };
    Some(pb::FromFollower { what: Some(what) })
}

fn write_hello(hello: Hello) -> pb::Hello {
    let role = match hello.role {
        Role::Follower => pb::Role::Follower,
        Role::Validator => pb::Role::Validator,
        Role::Super => pb::Role::Super,
        Role::Bootstrap => pb::Role::Bootstrap,
    };
    pb::Hello {
        cluster: hello.cluster,
        role: role.into(),
        name: hello.name,
        version: Some(version_pb(hello.version)),
        software: hello.software,
        port: hello.port.into(),
        rest: hello.rest,
    }
}

/// Reads what a super says to the follower `me`.
///
/// # Errors
/// [`Malformed`]: the super speaks another language, and the stream is worth nothing.
pub fn to_follower(message: pb::ToFollower, me: NodeId) -> Result<ToFollower, Malformed> {
    Ok(match message.what.ok_or(Malformed("no message that is known here"))? {
        To::Welcome(welcome) => ToFollower::Welcome(read_welcome(welcome)?),
        To::Refusal(refusal) => ToFollower::Refused(read_refusal(refusal)?),
        To::Ping(ping) => ToFollower::Ping(read_ping(&ping)),
        To::Pong(pong) => ToFollower::Pong { nonce: pong.nonce },
        To::Own(own) => ToFollower::Own(read_own(own, me)?),
        To::Alive(pb::Alive {}) => ToFollower::Alive,
    })
}

/// Writes what a super says.
#[must_use]
pub fn to_follower_pb(message: ToFollower) -> pb::ToFollower {
    let what = match message {
        ToFollower::Welcome(welcome) => To::Welcome(pb::Welcome {
            cluster: welcome.cluster.to_string(),
            leader: welcome.leader.map(|leader| leader.0.to_vec()),
            interval_ms: welcome.interval_ms,
            timeout_ms: welcome.timeout_ms,
            settings_version: welcome.settings_version,
            reconnect_spread_ms: welcome.reconnect_spread_ms,
            backoff_cap_ms: welcome.backoff_cap_ms,
            supers: welcome.supers.into_iter().map(super_at_pb).collect(),
            observers: welcome.observers,
            set_version: welcome.set_version,
            policies: welcome.policies.map(policies::write),
        }),
        ToFollower::Refused(refusal) => To::Refusal(pb::Refusal { why: Some(write_refusal(refusal)) }),
        ToFollower::Ping(ping) => To::Ping(write_ping(ping)),
        ToFollower::Pong { nonce } => To::Pong(pb::OwnPong { nonce }),
        ToFollower::Own(own) => To::Own(write_own(own)),
        ToFollower::Alive => To::Alive(pb::Alive {}),
    };
    pb::ToFollower { what: Some(what) }
}

fn read_welcome(welcome: pb::Welcome) -> Result<Welcome, Malformed> {
    let leader = welcome.leader.map(|bytes| key(&bytes, "a leader that is no key"));
    if welcome.supers.len() > SUPERS {
        return Err(Malformed("more supers than a group has"));
    }
    Ok(Welcome {
        cluster: cluster(&welcome.cluster)?,
        leader: leader.transpose()?,
        interval_ms: welcome.interval_ms,
        timeout_ms: welcome.timeout_ms,
        settings_version: welcome.settings_version,
        reconnect_spread_ms: welcome.reconnect_spread_ms,
        backoff_cap_ms: welcome.backoff_cap_ms,
        supers: welcome.supers.into_iter().map(read_super_at).collect::<Result<_, _>>()?,
        observers: welcome.observers,
        set_version: welcome.set_version,
        policies: welcome.policies.map(policies::read).transpose()?,
    })
}

fn read_super_at(at: pb::SuperAt) -> Result<SuperAt, Malformed> {
    let address = text(at.address, ADDRESS_BYTES, "a super's address that is too long or not printable")?;
    Ok(SuperAt { key: key(&at.key, "a super that is no key")?, address })
}

fn super_at_pb(at: SuperAt) -> pb::SuperAt {
    pb::SuperAt { key: at.key.0.to_vec(), address: at.address }
}

fn key(bytes: &[u8], what: &'static str) -> Result<NodeId, Malformed> {
    let bytes = bytes.try_into().map_err(|_| Malformed(what))?;
    NodeId::checked(bytes).map_err(|_| Malformed(what))
}

fn read_refusal(refusal: pb::Refusal) -> Result<Refusal, Malformed> {
    Ok(match refusal.why.ok_or(Malformed("a refusal that is not known here"))? {
        Why::WrongCluster(why) => Refusal::WrongCluster { ours: cluster(&why.ours)?.to_string() },
        Why::Outdated(why) => Refusal::Outdated { accept: said(why.accept)? },
        Why::Banned(why) => {
            Refusal::Banned { until: RoundId(why.until_round), until_ms: why.until_ms, reason: said(why.reason)? }
        }
        Why::PortMismatch(why) => Refusal::PortMismatch { declared: port(why.declared)?, seen: port(why.seen)? },
        Why::PortTaken(pb::refusal::PortTaken {}) => Refusal::PortTaken,
        Why::Busy(why) => Refusal::Busy { retry_ms: why.retry_ms },
        Why::Full(why) => Refusal::Full { what: said(why.what)?, retry_ms: why.retry_ms },
        Why::SlowDown(why) => Refusal::SlowDown { retry_ms: why.retry_ms },
        Why::WrongRole(pb::refusal::WrongRole {}) => Refusal::WrongRole,
        Why::Malformed(why) => Refusal::Malformed { what: said(why.what)? },
    })
}

fn write_refusal(refusal: Refusal) -> Why {
    use pb::refusal as to;
    match refusal {
        Refusal::WrongCluster { ours } => Why::WrongCluster(to::WrongCluster { ours }),
        Refusal::Outdated { accept } => Why::Outdated(to::Outdated { accept }),
        Refusal::Banned { until, until_ms, reason } => {
            Why::Banned(to::Banned { until_round: until.0, until_ms, reason: sayable(&reason) })
        }
        Refusal::PortMismatch { declared, seen } => {
            Why::PortMismatch(to::PortMismatch { declared: declared.into(), seen: seen.into() })
        }
        Refusal::PortTaken => Why::PortTaken(to::PortTaken {}),
        Refusal::Busy { retry_ms } => Why::Busy(to::Busy { retry_ms }),
        Refusal::Full { what, retry_ms } => Why::Full(to::Full { what: sayable(&what), retry_ms }),
        Refusal::SlowDown { retry_ms } => Why::SlowDown(to::SlowDown { retry_ms }),
        Refusal::WrongRole => Why::WrongRole(to::WrongRole {}),
        Refusal::Malformed { what } => Why::Malformed(to::Malformed { what: sayable(&what) }),
    }
}

fn read_own(own: pb::Own, me: NodeId) -> Result<Own, Malformed> {
    let presence = match own.presence() {
        pb::Presence::Unknown => Presence::Unknown,
        pb::Presence::Up => Presence::Up,
        pb::Presence::Down => Presence::Down,
    };
    let standing = match own.standing() {
        pb::Standing::Unspecified => return Err(Malformed("an own line without a standing")),
        pb::Standing::Good => Standing::Good,
        pb::Standing::Warned => Standing::Warned,
        pb::Standing::Suspended => Standing::Suspended,
        pb::Standing::Banned => Standing::Banned,
        pb::Standing::Probation => Standing::Probation,
    };
    let told = Told {
        node: me,
        round: RoundId(own.round),
        presence,
        standing,
        reason: said(own.reason)?,
        earned: Points(own.earned),
        wallet: Points(own.wallet),
        until: own.until_round.map(RoundId),
    };
    Ok(Own { told, until_ms: own.until_ms, warning: own.warning.map(said).transpose()? })
}

fn write_own(own: Own) -> pb::Own {
    let presence = match own.told.presence {
        Presence::Unknown => pb::Presence::Unknown,
        Presence::Up => pb::Presence::Up,
        Presence::Down => pb::Presence::Down,
    };
    let standing = match own.told.standing {
        Standing::Good => pb::Standing::Good,
        Standing::Warned => pb::Standing::Warned,
        Standing::Suspended => pb::Standing::Suspended,
        Standing::Banned => pb::Standing::Banned,
        Standing::Probation => pb::Standing::Probation,
    };
    pb::Own {
        round: own.told.round.0,
        presence: presence.into(),
        standing: standing.into(),
        reason: sayable(&own.told.reason),
        earned: own.told.earned.0,
        wallet: own.told.wallet.0,
        until_round: own.told.until.map(|round| round.0),
        until_ms: own.until_ms,
        warning: own.warning.as_deref().map(sayable),
    }
}

fn read_ping(ping: &pb::Ping) -> Ping {
    Ping { round: RoundId(ping.round), term: Term(ping.term), nonce: ping.nonce }
}

fn write_ping(ping: Ping) -> pb::Ping {
    pb::Ping { round: ping.round.0, term: ping.term.0, nonce: ping.nonce }
}

fn version(version: Option<pb::Version>) -> Result<ProtocolVersion, Malformed> {
    let number = |n: u32| u16::try_from(n).map_err(|_| Malformed("a protocol version above 65535"));
    let version = version.ok_or(Malformed("no protocol version"))?;
    Ok(ProtocolVersion { major: number(version.major)?, minor: number(version.minor)? })
}

fn version_pb(version: ProtocolVersion) -> pb::Version {
    pb::Version { major: version.major.into(), minor: version.minor.into() }
}

fn port(port: u32) -> Result<u16, Malformed> {
    u16::try_from(port).map_err(|_| Malformed("a port above 65535"))
}

fn cluster(text: &str) -> Result<ClusterId, Malformed> {
    text.parse().map_err(|_| Malformed("a cluster that is no id#genesis"))
}

fn text(text: String, longest: usize, what: &'static str) -> Result<String, Malformed> {
    if is_printable(&text, longest) { Ok(text) } else { Err(Malformed(what)) }
}

fn said(said: String) -> Result<String, Malformed> {
    plain(said, TEXT_BYTES, "a text that is too long or not printable")
}

fn plain(text: String, longest: usize, what: &'static str) -> Result<String, Malformed> {
    if text.len() <= longest && text.chars().all(is_plain) { Ok(text) } else { Err(Malformed(what)) }
}

/// Reasons come from policies and operators; on the wire they are within the bound and have no character that could
/// break a line or turn its direction.
fn sayable(text: &str) -> String {
    made_plain(text, TEXT_BYTES)
}

fn made_plain(text: &str, longest: usize) -> String {
    let mut plain = String::new();
    for c in text.chars().map(|c| if is_plain(c) { c } else { '?' }) {
        if plain.len() + c.len_utf8() > longest {
            break;
        }
        plain.push(c);
    }
    plain
}

fn is_plain(c: char) -> bool {
    let directs = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && !directs
}

#[cfg(test)]
mod tests;
