//! The pingward node.
