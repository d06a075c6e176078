//! Nothing but a home for the end-to-end tests in `it/`.
#![forbid(unsafe_code)]
