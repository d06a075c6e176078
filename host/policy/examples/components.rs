//! Builds policies: `components OUT_DIR TARGET_DIR SOURCE_DIR...`. What `.ci/components` runs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use policy::{BuildError, BuildOptions, build};

fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [out, target_dir, sources @ ..] = args.as_slice() else {
        eprintln!("usage: components OUT_DIR TARGET_DIR SOURCE_DIR...");
        return ExitCode::from(2);
    };
    let options = BuildOptions { target_dir: Some(target_dir.clone()), locked: true };
    for source in sources {
        let name = source.file_name().map(Path::new).unwrap_or(source).with_extension("wasm");
        match build(source, Some(&out.join(name)), &options) {
            Ok(built) => println!("{} {} {} bytes", built.digest, built.path.display(), built.size),
            Err(error @ BuildError::NoTarget) => {
                eprintln!("{error}");
                return ExitCode::from(3);
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
