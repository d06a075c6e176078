//! The binary `pingward`.

fn main() {}
