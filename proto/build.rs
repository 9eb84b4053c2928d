//! Build script: generates the gRPC types without a system `protoc`, writes the descriptors for
//! reflection, and records the commit that is built.

use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "client")]
    generate()?;
    note_commit();
    Ok(())
}

#[cfg(feature = "client")]
fn generate() -> Result<(), Box<dyn std::error::Error>> {
    use prost::Message;

    let descriptors = protox::compile(
        [
            "brevet/sts/v1/sts.proto",
            "brevet/sts/v1/session_administration.proto",
            "brevet/relying/v1/relying.proto",
        ],
        ["proto"],
    )?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // The server is written by hand: it needs the bytes of a message to check its signature.
        .build_server(false)
        // Messages hold secrets, so generated types must not implement `Debug`.
        .skip_debug(["."])
        .compile_fds(descriptors)?;
    #[cfg(feature = "broker")]
    // Not part of the API of the broker, so not among the descriptors that reflection shows.
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(false)
        // Messages hold signatures of clients and for stores.
        .skip_debug(["."])
        .compile_fds(protox::compile(
            ["envoy/service/auth/v3/authorization.proto"],
            ["proto"],
        )?)?;
    Ok(())
}

/// Passes the commit and its date to `brevet version`: BREVET_COMMIT and BREVET_COMMIT_DATE if they are
/// set (for a build without `.git`), else what git says, else `unknown`. The date is the commit's, so
/// the same source gives the same program.
fn note_commit() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .env("TZ", "UTC")
            .output()
            .ok()
            .filter(|o| o.status.success())?;
        String::from_utf8(output.stdout)
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    for (name, arguments) in [
        (
            "BREVET_COMMIT",
            ["rev-parse", "--short=12", "HEAD"].as_slice(),
        ),
        (
            "BREVET_COMMIT_DATE",
            &["log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%d"],
        ),
    ] {
        println!("cargo:rerun-if-env-changed={name}");
        let given = std::env::var(name).ok().filter(|v| !v.is_empty());
        // A repository around this folder, if there is one, is not this project's.
        let own = PathBuf::from(".git").exists();
        let value = given.or_else(|| if own { git(arguments) } else { None });
        println!(
            "cargo:rustc-env={name}={}",
            value.unwrap_or_else(|| "unknown".to_owned())
        );
    }
    // A release build is rebuilt for each commit, so that it names the right one. A debug build is not;
    // it calls itself a debug build.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        for path in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", path]) {
                println!("cargo:rerun-if-changed={path}");
            }
        }
    }
}
