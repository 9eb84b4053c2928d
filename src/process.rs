//! What this process asks of the operating system for itself.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Keeps the memory of this process, which contains keys, out of core files, and other processes of
/// the account from reading it. RLIMIT_CORE alone does not help where core files are piped to a
/// program.
pub fn keep_memory_private() {
    use rustix::process::Rlimit;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Lowering a limit is always allowed.
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::debug!(%error, "the process could not be excluded from core dumps");
    }
}

/// Raises the soft limit of file descriptors to the hard limit. The soft limit is 1,024 on most systems, for
/// the sake of programs that use select(2).
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "cannot raise the limit of file descriptors");
    }
}

/// How many file descriptors this process may have.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
