//! Compiles the `.proto` files, without `protoc`.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FILES: &[&str] = &[
    "keevo/kv/v1/types.proto",
    "keevo/kv/v1/kv.proto",
    "keevo/admin/v1/admin.proto",
    "keevo/admin/v1/apilog.proto",
    "keevo/admin/v1/apps.proto",
    "keevo/admin/v1/auth.proto",
    "keevo/admin/v1/backup.proto",
    "keevo/admin/v1/moderation.proto",
    "keevo/admin/v1/observe.proto",
    "keevo/admin/v1/sinks.proto",
    "keevo/raft/v1/raft.proto",
    "keevo/feeds/v1/follows.proto",
    "keevo/feeds/v1/feeds.proto",
    "keevo/feeds/v1/social.proto",
    "keevo/chat/v1/chat.proto",
    "keevo/chat/v1/realtime.proto",
    "keevo/chat/v1/search.proto",
    "keevo/chat/v1/transfer.proto",
];

/// What the moderation sidecar serves.
const SIDECAR: &str = "keevo/moderation/v1/moderation.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let mut paths = Vec::new();
    for file in FILES {
        let path = root.join(file);
        println!("cargo:rerun-if-changed={}", path.display());
        paths.push(path);
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(&paths, [&root])?;
    std::fs::write(out.join("keevo_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    // A contract of its own: keevod does not serve it.
    let sidecar = root.join(SIDECAR);
    println!("cargo:rerun-if-changed={}", sidecar.display());
    let descriptors = protox::compile([&sidecar], [&root])?;
    std::fs::write(out.join("moderation_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
