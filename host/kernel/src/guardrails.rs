//! Bounds on what a policy may decide.
