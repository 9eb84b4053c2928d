//! Generates the gRPC types without a system `protoc`, keeps the descriptors for reflection, and
//! notes the commit that is built.

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
        ],
        ["proto"],
    )?;
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

/// The commit and its date, for `brevet version`: of BREVET_COMMIT and BREVET_COMMIT_DATE where they
/// are set (a build without `.git`), else of git, else `unknown`. The date is the commit's own, so
/// that the same source gives the same program.
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
        // Another repository that this folder happens to lie in says nothing of it.
        let own = PathBuf::from(".git").exists();
        let value = given.or_else(|| if own { git(arguments) } else { None });
        println!(
            "cargo:rustc-env={name}={}",
            value.unwrap_or_else(|| "unknown".to_owned())
        );
    }
    // A release says exactly what it is. A debug build, made after each edit, is not made anew for
    // each commit as well, and calls itself a debug build.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        for path in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", path]) {
                println!("cargo:rerun-if-changed={path}");
            }
        }
    }
}
