//! What the store promises, tried: a player sends random commands through the kernel, and what was applied is compared
//! with what the disk gives back, also after it lost power in the middle of a write.

pub(crate) mod lossy;
pub(crate) mod player;
