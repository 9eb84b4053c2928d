//! Generates the gRPC types without a system `protoc`, and keeps the descriptors for reflection.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors =
        protox::compile(["brevet/sts/v1/sts.proto", "brevet/sts/v1/session_administration.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // The server side is written by hand: it needs the message's own bytes to check a signature.
        .build_server(false)
        // Requests and answers hold secrets; nothing generated may print them.
        .skip_debug(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
