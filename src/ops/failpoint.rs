//! A defect where a test wants one.

/// Panics in the action that `BREVET_FAILPOINT_PANIC` names, so that a test sees what becomes of it.
#[allow(clippy::panic)] // its purpose
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
