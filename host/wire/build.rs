//! Makes Rust of the proto files. `protox` reads them, so no `protoc` is needed.

use std::error::Error;

const PROTO: [&str; 5] = [
    "proto/pingward/v1/node.proto",
    "proto/pingward/v1/raft.proto",
    "proto/pingward/v1/super.proto",
    "proto/pingward/v1/records.proto",
    "proto/pingward/v1/watch.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(PROTO, ["proto"])?;
    tonic_prost_build::configure().build_transport(false).codec_path("crate::codec::Codec").compile_fds(files)?;
    Ok(())
}
