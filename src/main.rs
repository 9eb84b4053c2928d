//! Arguments in, exit code out.

use std::process::ExitCode;

/// A call makes some hundred small allocations; the system's allocator takes a fifth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    brevet::cli::main()
}
