//! What this process asks of the operating system for itself.

/// Keeps the memory of this process, which contains keys, out of core files, and other processes of
/// the account from reading it. RLIMIT_CORE alone does not help where core files are piped to a
/// program.
pub fn keep_memory_private() {
    use rustix::process::{Resource, Rlimit, setrlimit};
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
