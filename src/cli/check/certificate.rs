//! Checks of the certificate, and of the names by which clients call the broker.

use std::path::Path;

use super::Look;
use super::line::{Line, failed, ok, warning};
use crate::base::host_names::{HostName, HostNames};
use crate::config::Names;
use crate::files::FileError;
use crate::server::{self, certificate};
use crate::tls::{self, Identity, TlsError};

impl Look<'_> {
    pub(super) fn certificate(&mut self) {
        let identity = self.config.tls.as_ref().map(|(certificate, key)| {
            (
                certificate,
                tls::load(certificate, key, self.config.client_ca.as_deref().into()),
            )
        });
        let names = identity
            .as_ref()
            .and_then(|(_, i)| i.as_ref().ok())
            .map_or(&[] as &[HostName], |identity| identity.names.as_slice());
        let names = server::host_names(self.config, names);
        let line = match &identity {
            None => ok("certificate", "none: plaintext"),
            Some((path, Err(error))) => {
                let says = match error {
                    // Only this error does not name its file.
                    TlsError::Unusable(_) => format!("{}: {error}", path.display()),
                    _ => error.to_string(),
                };
                let fix = match error {
                    TlsError::File(FileError::Unfit { .. }) => "follow the rule above",
                    _ => {
                        "put the certificate, its private key and the CA of client certificates into the files that \
                         [tls] names, or correct [tls]"
                    }
                };
                failed("certificate", says, fix)
            }
            Some((path, Ok(identity))) => self.judge(path, identity, names.as_ref().ok()),
        };
        self.lines.push(line);
        self.lines.push(match names {
            Ok(names) => ok("names", names.to_string()),
            Err(error) => failed(
                "names",
                error,
                "set [listen] names to the names by which clients call this broker",
            ),
        });
    }

    /// Checks the dates and the names of a certificate whose key was found to be the right one.
    fn judge(&self, path: &Path, identity: &Identity, names: Option<&HostNames>) -> Line {
        let path = path.display();
        let Some((from, until)) = identity.validity else {
            return failed(
                "certificate",
                format!("{path}: the certificate has no readable validity dates"),
                "replace the certificate with another one",
            );
        };
        if self.now < from {
            return failed(
                "certificate",
                format!("{path}: the certificate is not valid before {from}"),
                "check this machine's clock, or use another certificate",
            );
        }
        if let Some(text) = certificate::warning(until, self.now) {
            let says = format!("{path}: {text}");
            return match self.now < until {
                true => warning(
                    "certificate",
                    says,
                    "renew the certificate; a running broker notices the new file",
                ),
                false => failed(
                    "certificate",
                    says,
                    "renew the certificate; a running broker notices the new file",
                ),
            };
        }
        let certified = HostNames::new(identity.names.iter().cloned());
        let listed = names.filter(|_| matches!(self.config.listener.names, Names::Listed(_)));
        let missing = listed.map_or_else(Vec::new, |names| uncovered(names, &certified));
        let refused = listed.map_or_else(Vec::new, |names| uncovered(&certified, names));
        let days = until.since(self.now).as_secs() / 86_400;
        let mut says = format!("{path}: for {certified}, until {until}, {days} days left");
        let mut steps = Vec::new();
        if !missing.is_empty() {
            says += &format!("; not for {}", missing.join(", "));
            steps.push(
                "get a certificate for each of the `names` in [listen] that clients call over TLS",
            );
        }
        if !refused.is_empty() {
            says += &format!("; requests for {} are refused", refused.join(", "));
            steps.push(
                "if clients call this broker by these names, add them to `names` in [listen]",
            );
        }
        match steps.is_empty() {
            true => ok("certificate", says),
            false => warning("certificate", says, steps.join("; ")),
        }
    }
}

/// The `names` that no name in `others` covers.
fn uncovered(names: &HostNames, others: &HostNames) -> Vec<String> {
    let missing = names.iter().filter(|name| !covers(others, name));
    missing.map(ToString::to_string).collect()
}

/// Whether a list of names, such as those of a certificate, covers a name.
fn covers(certified: &HostNames, name: &HostName) -> bool {
    match name {
        // A pattern is only covered by a certificate for the same pattern.
        HostName::AnyLabel(_) => certified.iter().any(|own| own == name),
        _ => certified.contains(&name.to_string()),
    }
}
