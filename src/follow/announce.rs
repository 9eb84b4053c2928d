//! Logs the warnings about a directory that was just loaded.

use super::audit;
use crate::broker::Broker;
use crate::directory::Directory;

/// The maximum number of warnings about one directory that are logged; the others are only counted.
const MAX_WARNED: usize = 50;

/// Logs the warnings about a directory that was just loaded. If the directory is a file, the roles
/// whose tags switch off a rule about whom a trust policy may allow are also written to the audit log. A directory in
/// the store needs no such record, because every change of it is in the audit log already.
pub fn announce(broker: &Broker, directory: &Directory) {
    let mut warnings: Vec<String> = directory
        .own_provider(broker.issuer.as_deref())
        .into_iter()
        .collect();
    warnings.extend(directory.warnings());
    if broker.service_provider.accepts_nobody() && directory.saml_providers().next().is_some() {
        let fix = "set [web_identity] issuer, or [saml] audiences and recipients";
        warnings.push(format!(
            "this broker accepts no SAML assertion, because it has no audience or no recipient: {fix}"
        ));
    }
    for warning in warnings.iter().take(MAX_WARNED) {
        tracing::warn!("{warning}");
    }
    if let Some(rest) = warnings
        .len()
        .checked_sub(MAX_WARNED)
        .filter(|rest| *rest > 0)
    {
        tracing::warn!(
            "there are {rest} more warnings about the directory; `brevet check` prints all of them"
        );
    }
    if !broker.directory_is_in_the_store {
        audit::write_down_overridden(broker, directory);
    }
}
