//! Arguments in, exit code out.

use std::process::ExitCode;

/// A call makes some hundred small allocations; the system's allocator takes a fifth of its time. This
/// one also gives memory back to the system, by a thread of its own, when connections have gone.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    brevet::main()
}
