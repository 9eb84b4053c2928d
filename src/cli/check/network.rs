//! Checks of the network: Redis, identity providers, and the broker's own addresses.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Look;
use super::line::{failed, ok, warning};
use crate::base::clock::SystemClock;
use crate::cli::health;
use crate::directory::{Directory, OidcProvider};
use crate::federation::providers::Providers;
use crate::metrics::Metrics;
use crate::session::keyring::Keyring;
use crate::sessions::Sessions;

/// The maximum number of identity providers that are checked.
const MAX_PROVIDERS: usize = 256;
/// The maximum number of identity providers that are checked at the same time.
const ASKED_AT_ONCE: usize = 16;
/// How long to wait for a running broker to say whether it is ready.
const HEALTH_WITHIN: Duration = Duration::from_secs(3);

impl Look<'_> {
    pub(super) async fn redis(&mut self, keyring: Option<&Keyring>) {
        let (Some(options), Some(keyring)) = (&self.config.redis, keyring) else {
            return;
        };
        let urls = options.urls.join(", ");
        let examined = match Sessions::in_redis(options, Arc::new(Metrics::new())) {
            Ok(sessions) => sessions.examine(keyring, self.now).await,
            Err(error) => Err(error.to_string()),
        };
        self.lines.push(match examined {
            Ok(()) => ok("redis", format!("{urls}: the broker can sign in, and Redis evicts no records")),
            Err(why) => failed(
                "redis",
                format!("{urls}: {why}"),
                "start Redis, set its maxmemory-policy to noeviction, or correct the address, user and password file \
                 in [sessions.redis]",
            ),
        });
    }

    pub(super) async fn providers(&mut self, directory: Option<&Directory>) {
        let Some(directory) = directory else { return };
        let mut all: Vec<Arc<OidcProvider>> = directory.oidc_providers().cloned().collect();
        if all.is_empty() {
            return;
        }
        all.sort_by(|a, b| a.arn.cmp(&b.arn));
        let unasked = all.len().saturating_sub(MAX_PROVIDERS);
        all.truncate(MAX_PROVIDERS);
        let providers = match Providers::new(self.config.reach, Arc::new(SystemClock)) {
            Ok(providers) => Arc::new(providers),
            Err(error) => {
                return self.lines.push(failed(
                    "provider",
                    error,
                    "report this as a bug in Brevet",
                ));
            }
        };
        let mut results = Vec::with_capacity(all.len());
        for portion in all.chunks(ASKED_AT_ONCE) {
            let mut asked = JoinSet::new();
            for provider in portion {
                let (providers, provider) = (providers.clone(), provider.clone());
                asked.spawn(async move {
                    let examined = providers.examine(&provider).await;
                    (provider, examined)
                });
            }
            results.extend(asked.join_all().await);
        }
        results.sort_by(|a, b| a.0.url.cmp(&b.0.url));
        for (provider, result) in results {
            let url = &provider.url;
            self.lines.push(match result {
                Ok(keys) => ok(
                    "provider",
                    format!("{url}: {keys} keys{}", client(&provider)),
                ),
                Err(why) => failed(
                    "provider",
                    format!("{url}: {why}"),
                    "let this machine fetch the provider's discovery document and keys over the network, or correct \
                     Url and CertificateAuthority of the provider",
                ),
            });
        }
        if unasked > 0 {
            self.lines.push(warning(
                "provider",
                format!(
                    "{unasked} more providers were not checked: this command checks the first {MAX_PROVIDERS}"
                ),
                "look in the broker's log for errors of these providers",
            ));
        }
    }

    /// Checks that the broker's addresses are free, or in use by a running broker.
    pub(super) fn addresses(&mut self) {
        let operator = self.config.operator;
        let answers = || health::ask(health::reachable(operator), "/readyz", HEALTH_WITHIN).ok();
        for (check, address) in [("listen", self.config.listen), ("operator", operator)] {
            let line = match bind(address) {
                Ok(()) => ok(check, format!("{address}: is free")),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => match answers() {
                    Some((200 | 503, says)) => ok(
                        check,
                        format!(
                            "{address}: in use; a broker answers at the [operator] address {operator} ({})",
                            says.trim()
                        ),
                    ),
                    _ => failed(
                        check,
                        format!(
                            "{address}: in use, but no broker answers at the [operator] address {operator}"
                        ),
                        format!(
                            "stop the program that uses this address (`ss -ltnp` names it), or set another one in \
                             [{check}] address"
                        ),
                    ),
                },
                Err(error) => failed(
                    check,
                    format!("{address}: {error}"),
                    format!(
                        "set an address of this machine in [{check}] address; a port below 1024 needs the capability \
                         CAP_NET_BIND_SERVICE"
                    ),
                ),
            };
            self.lines.push(line);
        }
    }
}

/// The part of a provider's line that names the client with which people sign in; empty if the
/// provider has no client with a secret.
fn client(provider: &OidcProvider) -> String {
    let client = provider.sign_in_client.as_ref();
    let client = client.filter(|client| client.secret.is_some());
    client.map_or_else(String::new, |client| {
        format!(
            "; the broker signs people in as the client {}, which has a secret",
            client.id
        )
    })
}

fn bind(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}
