//! Bounds that are part of the protocol, each with what it prevents. Bounds that an operator may move are in
//! [`settings`](crate::settings); bounds of one machine (connections, bodies) are in the node's config.

/// Seats: one byte of bits a member tells which supers asked it.
pub const SEATS: u8 = 8;
/// Printable characters of a pong's `address`: it is copied into state and shown, never dialled.
pub const PONG_ADDRESS_CHARS: usize = 64;
/// Unasked messages of a follower in one round before its stream is closed with the fact `flood`.
pub const UNASKED_MESSAGES: u16 = 100;
/// A loop later than the ping timeout divided by this voids the pings in flight: pongs may have waited on us.
pub const VOID_LAG_DIVISOR: u64 = 4;
/// A worst loop lag above the ping timeout divided by this counts towards a suspect round.
pub const SUSPECT_LAG_DIVISOR: u64 = 2;
/// Rounds in a row for which refusing handshakes extends a super's grace: past it absence counts and the guard decides,
/// so that a flood of strangers cannot keep everybody unjudged.
pub const LOAD_GRACE_ROUNDS: u32 = 10;
/// Graces that a member may be on its way without being seen, while its supers fail one after the other: past it absence
/// counts, so that supers that never stay up hide nobody who has gone.
pub const WAY_GRACES: u64 = 3;
/// Intervals without a round after which a super is not open for attaching: whoever hangs on it is pinged by nobody, and is
/// to be at another one before its grace ends.
pub const IDLE_INTERVALS: u64 = 2;
/// Queues of settled rounds that a super keeps: two rounds may be open, and the word of the second may be late.
pub const QUEUES: usize = 4;
/// Longest reconnect spread: twice of it is the least grace of a super.
pub const RECONNECT_SPREAD_MS: u64 = 60_000;
/// Goodbyes that take effect within [`GOODBYE_WINDOW_MS`]: leaving must not become an excuse for every bad hour. A member
/// that comes with a version that is not accepted, while the one that it had still is, says goodbye too.
pub const GOODBYES: usize = 3;
/// See [`GOODBYES`].
pub const GOODBYE_WINDOW_MS: u64 = 24 * HOUR_MS;
/// Hellos of a member that go through the log in a round: whoever says something else each time fills it.
pub const HELLOS_ROUND: u32 = 10;
/// An activation or a setting counts from this many rounds after the last settled one: the next settlement is in flight.
pub const NOTICE_ROUNDS: u64 = 2;
/// Component size: compiling time and the size of a snapshot.
pub const COMPONENT_BYTES: usize = 4 << 20;
/// A component goes through the log in pieces of this size, so that no log entry delays heartbeats.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Candidates staged per slot.
pub const STAGED: usize = 4;
/// A candidate that nothing refers to is dropped after this many rounds, and so is a component that no policy uses yet.
pub const STAGED_ROUNDS: u64 = 1_000;
/// Bytes of a policy's config as JSON.
pub const CONFIG_BYTES: usize = 64 << 10;
/// Components that no policy uses yet, under way or complete: each is held in memory. The one of which nothing came for the
/// longest time gives way to another one, so that uploads that were given up are in nobody's way.
pub const UPLOADS: usize = 4;
/// Bytes of a reason, an operator's or a policy's.
pub const REASON_BYTES: usize = 200;
/// Lines of one compensation file: one log entry.
pub const COMPENSATIONS: usize = 10_000;
/// Points of one compensation line, so that a slip cannot overflow an account.
pub const COMPENSATION_POINTS: i64 = 1_000_000_000_000;
/// Settings named by one change: more than there are keys, so that one entry can change them all.
pub const SETTING_CHANGES: usize = 100;
/// Nodes named by one `bans lift`.
pub const LIFTS: usize = 10_000;
/// A signed claim may expire at most this far ahead: what must be remembered is bounded.
pub const SIGNED_EXPIRY_MS: u64 = 24 * HOUR_MS;
/// Claims of one key that are answered by the log between two settlements. An over-claim of a key that has earned nothing
/// costs it nothing, but each one is a durable entry, a row of history and an event.
pub const CLAIMS_ROUND: u32 = 8;
/// An empty wallet is dropped after this time.
pub const EMPTY_WALLET_MS: u64 = 24 * HOUR_MS;
/// A leader whose clock is further off than this stamps last stamp + elapsed: one bad clock must not freeze time.
pub const CLOCK_OFF_MS: u64 = 30_000;
/// A clock that is off and has not been set for this long is approached, half a second a second: after a start with a wrong
/// clock the stamps are wrong, and the clock that was set since is right.
pub const CLOCK_EVEN_MS: u64 = 10 * 60 * 1_000;
/// A clock that moved by more than this against the elapsed time was set.
pub const CLOCK_UNEVEN_MS: u64 = 1_000;
/// Members in a block of stored columns and of policy memory.
pub const BLOCK_MEMBERS: u32 = 256;
/// Upper bound of the members setting; every column and bitmap is sized by it.
pub const MEMBERS: u64 = 1_000_000;
/// Rounds of a leader's faults that are remembered per slot.
pub const FAULT_WINDOW_ROUNDS: u64 = 10;
/// Wall-clock faults in a row that are worth an event.
pub const DEADLINE_FAULTS: u32 = 3;
/// A refused follower tries again after at most this time.
pub const REFUSED_WAIT_MS: u64 = 10 * 60 * 1_000;
/// Rounds after which whoever found no room is asked back: room comes with a settlement only, and not with each one.
pub const FULL_RETRY_ROUNDS: u64 = 10;
/// First wait of a follower's reconnect; it doubles.
pub const BACKOFF_MS: u64 = 500;
/// Bytes of a record's body.
pub const RECORD_BODY: usize = 64 << 10;
/// Bytes of the line of JSON before it.
pub const RECORD_HEADER: usize = 512;
/// Records of one forward: a batch has no more.
pub const FORWARD_RECORDS: usize = 512;
/// Validators of a set: each certificate may carry a signature of every one.
pub const VALIDATORS: usize = 64;
/// Earlier sets of validators that are kept, so that what they signed can be checked.
pub const VALIDATOR_SETS: usize = 256;
/// Keys that were validators and are none any more: what they may have signed must not be forgotten at once.
pub const FORMER_VALIDATORS: usize = 1_024;
/// Rows of batches that one ordered batch takes out of the way at most: more than come in, so that they become fewer.
pub const BATCHES_DROPPED: usize = 4;

const HOUR_MS: u64 = 3_600_000;
