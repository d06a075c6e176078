//! Records of users on their way (PROTOCOLS 10): a follower or validator takes them in ([`ingress`]), a super checks and
//! orders them ([`intake`]) and hands the batches to validators ([`hub`]), validators judge, sign and gather signatures
//! ([`signer`]), and whoever keeps records follows the sealed batches ([`follow`]) within bounds ([`bound`]).
//!
//! What is decided is decided in the kernel; here is who says it to whom, and when again.

pub mod book;
pub mod bound;
pub mod directory;
pub mod follow;
pub mod header;
pub mod hub;
pub mod ingress;
pub mod intake;
pub mod keeper;
pub mod lots;
pub mod signer;
pub mod validator;

/// Why nothing was taken: a word and a text.
pub type Refused = (String, String);
