//! Settings of the operating system for this process: the privacy of its memory, and the number of
//! file descriptors.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Keeps the keys in the memory of this process secret: out of core files and, on Linux, from other processes of the
/// same account. RLIMIT_CORE alone is not enough on systems that pipe core files to a program.
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
        tracing::debug!(%error, "the memory of this process could not be kept private: a program that receives core \
            dumps, and other processes of the same account, may be able to read the keys in it");
    }
}

/// Raises the soft limit of file descriptors to the hard limit. Most systems set the soft limit to
/// 1,024, because programs that use select(2) cannot handle more.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the soft limit of file descriptors could not be raised to the hard limit, and stays \
            as it was");
    }
}

/// Returns the soft limit of file descriptors of this process.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
