//! Compiles the part of etcd's contract that the comparison speaks, without `protoc`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let path = root.join("etcd_kv.proto");
    println!("cargo:rerun-if-changed={}", path.display());
    let descriptors = protox::compile([&path], [&root])?;
    tonic_prost_build::configure().build_server(false).bytes(".").compile_fds(descriptors)?;
    Ok(())
}
