//! The entry point of `brevet-agent`: the commands of the agent alone, without the broker.

use std::process::ExitCode;

fn main() -> ExitCode {
    brevet::agent_main()
}
