//! The REST interface.

pub mod view;
