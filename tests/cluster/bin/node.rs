//! The program under test: `pingward` itself.

fn main() -> std::process::ExitCode {
    node::cli::main()
}
