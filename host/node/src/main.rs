//! The binary `pingward`: everything is in the library, so that the demo and the tests start the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    node::cli::main()
}
