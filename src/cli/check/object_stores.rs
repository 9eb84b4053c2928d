//! Checks of `[s3]`: whether the listener for proxies and the keys of the object stores can be used.

use super::Look;
use super::line::{failed, ok, warning};
use crate::server::{self, certificate};

impl Look<'_> {
    /// Adds a line if object stores are configured. All files of the section are read, as when the broker
    /// starts.
    pub(super) fn object_stores(&mut self) {
        let Some(s3) = &self.config.s3 else { return };
        let line = match server::check_object_stores(s3) {
            Ok(ends_at) => {
                let names: Vec<&str> = s3.stores.iter().map(|store| store.name.as_str()).collect();
                let says = format!("{}; proxies call {}", names.join(", "), s3.address);
                let fix = "renew the certificate in [s3]; a running broker notices the new file";
                let about = ends_at.and_then(|at| Some((at, certificate::warning(at, self.now)?)));
                match about {
                    None => ok("object stores", says),
                    Some((at, text)) if self.now < at => {
                        warning("object stores", format!("{says}; {text}"), fix)
                    }
                    Some((_, text)) => failed("object stores", format!("{says}; {text}"), fix),
                }
            }
            Err(error) => failed(
                "object stores",
                error,
                "correct the file, or create it (with mode 0600 if it holds a secret or a private key), or correct \
                 [s3]",
            ),
        };
        self.lines.push(line);
    }
}
