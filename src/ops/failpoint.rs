//! Deliberate panics, with which tests check that a bug in one call does not affect others.

/// Panics if the environment variable `BREVET_FAILPOINT_PANIC` lists the action.
#[allow(clippy::panic)] // this is its purpose
pub(super) fn hit(action: &str) {
    static IN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    if IN
        .get_or_init(|| std::env::var("BREVET_FAILPOINT_PANIC").ok())
        .as_deref()
        .is_some_and(|all| all.split(',').any(|a| a == action))
    {
        panic!("a failpoint in {action}");
    }
}
