//! Which protocol versions we speak.

use kernel::id::ProtocolVersion;

/// What our hellos and pongs say.
pub const OURS: ProtocolVersion = ProtocolVersion::OURS;

/// The software version that our hellos say. For people: no rule reads it.
pub const SOFTWARE: &str = env!("CARGO_PKG_VERSION");
