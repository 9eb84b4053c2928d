//! The state of the listener for proxies in front of object stores: its certificate, the CA and the secrets by which it
//! recognizes proxies, and the stores with their keys.

use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::{StartError, certificate, s3_key};
use crate::base::secret::Secret;
use crate::config;
use crate::files::{self, Audience};
use crate::metrics::Unlabelled;
use crate::s3::{Bucket, DataEvents, S3Store, StoreKey, StoreRules, Style};
use crate::s3_proxy::{Gate, Memory};
use crate::tls::{self, Identity};

const MAX_SECRET_BYTES: u64 = 4_096;
/// The minimum length of a shared secret in bytes, so that it cannot be guessed.
const MIN_SECRET: usize = 32;

/// The state of the listener. Its files are read again when they change.
pub(super) struct S3Parts {
    pub(super) tls: ArcSwapOption<ServerConfig>,
    /// When the listener's certificate expires.
    pub(super) certificate: certificate::Ends,
    pub(super) gate: ArcSwap<Gate>,
    /// Changes when the files were read again.
    pub(super) reloaded: watch::Sender<()>,
    pub(super) stores: Arc<[Arc<S3Store>]>,
    pub(super) memory: Arc<Memory>,
    /// The regions for which gateways may have signing keys; `None` if there are no gateways.
    pub(super) gateway_regions: Option<Arc<[String]>>,
}

impl S3Parts {
    /// Reads the files that the section `[s3]` names. `metric` shows when the listener's certificate expires.
    ///
    /// # Errors
    /// [`StartError`] with the file that cannot be used.
    pub(super) fn new(
        config: &config::S3,
        events: DataEvents,
        metric: &Family<Unlabelled, Gauge>,
    ) -> Result<Self, StartError> {
        let (identity, gate) = Self::read(config)?;
        let validity = identity.as_ref().and_then(|identity| identity.validity);
        let stores = config.stores.iter().map(|settings| {
            let key = s3_key::read(&settings.key_file).map_err(StartError::S3)?;
            Ok(Arc::new(store(settings, key, events)))
        });
        Ok(Self {
            stores: stores.collect::<Result<_, StartError>>()?,
            tls: ArcSwapOption::from(identity.map(|identity| identity.config)),
            certificate: certificate::Ends::new(validity, metric),
            gate: ArcSwap::from_pointee(gate),
            reloaded: watch::Sender::new(()),
            memory: Arc::default(),
            gateway_regions: config.gateway_regions.as_deref().map(Arc::from),
        })
    }

    /// Reads the files again. If one of them cannot be used, nothing changes.
    ///
    /// # Errors
    /// [`StartError`] with the file that cannot be used, and the reason.
    pub(super) fn reload(&self, config: &config::S3) -> Result<(), StartError> {
        let (identity, gate) = Self::read(config)?;
        let keys = config
            .stores
            .iter()
            .map(|settings| s3_key::read(&settings.key_file));
        let keys: Vec<StoreKey> = keys.collect::<Result<_, _>>().map_err(StartError::S3)?;
        self.certificate
            .set(identity.as_ref().and_then(|identity| identity.validity));
        // In this order, because a new connection reads them in the opposite one.
        self.tls.store(identity.map(|identity| identity.config));
        self.gate.store(Arc::new(gate));
        for (store, key) in self.stores.iter().zip(keys) {
            store.key.store(Arc::new(key));
        }
        self.reloaded.send_replace(());
        Ok(())
    }

    fn read(config: &config::S3) -> Result<(Option<Identity>, Gate), StartError> {
        let ca = config.client_ca.as_deref();
        // Without secrets, a client without a certificate is refused in the handshake.
        let clients = match (ca, config.secret_files.is_empty()) {
            (None, _) => tls::Clients::Unknown,
            (Some(ca), true) => tls::Clients::Certified(ca),
            (Some(ca), false) => tls::Clients::MayBeCertified(ca),
        };
        let files = config.tls.as_ref();
        let identity = files.map(|(c, k)| tls::load(c, k, clients)).transpose();
        let identity = identity.map_err(|error| StartError::S3(error.to_string()))?;
        let secrets = config.secret_files.iter().map(|path| secret(path));
        let gate = Gate {
            client_ca: identity.as_ref().and_then(|identity| identity.client_ca),
            client_names: config.client_names.clone(),
            secrets: secrets.collect::<Result<_, _>>()?,
        };
        Ok((identity, gate))
    }
}

/// Makes a store from its settings in `[[s3.stores]]` and its access key.
fn store(settings: &config::StoreSettings, key: StoreKey, events: DataEvents) -> S3Store {
    let rules = StoreRules {
        style: match settings.virtual_host {
            true => Style::VirtualHost,
            false => Style::Path,
        },
        names: settings.hosts.clone(),
        keeps_slashes: settings.keeps_slashes,
        takes_trailers: settings.takes_trailers,
        region: settings.region.clone(),
    };
    let mut store = S3Store::new(
        settings.name.clone(),
        rules,
        settings.authority.clone(),
        key,
    );
    store.data_events = events;
    store.remote_signing = settings.remote_signing;
    let buckets = settings.buckets.iter().map(|(name, account)| {
        let bucket = Bucket {
            account: *account,
            cors: settings.cors.clone(),
        };
        (name.clone(), bucket)
    });
    store.buckets = buckets.collect();
    store
}

/// Reads a shared secret; white space at its end is removed.
fn secret(path: &Path) -> Result<Secret<Vec<u8>>, StartError> {
    let bytes = files::read(path, Audience::Owner, MAX_SECRET_BYTES)
        .map_err(|error| StartError::S3(error.to_string()))?;
    let secret = bytes.expose().trim_ascii_end();
    if secret.len() < MIN_SECRET || !secret.iter().all(u8::is_ascii_graphic) {
        return Err(StartError::S3(format!(
            "secret_files: {} must hold at least {MIN_SECRET} printable characters without spaces, such as `openssl rand -hex 32` prints",
            path.display()
        )));
    }
    Ok(Secret::new(secret.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_listeners_certificate_is_in_the_metric_and_follows_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |year: i32| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 7, 8);
            let certificate = params.self_signed(&key).unwrap().pem();
            files::write_private(&at("tls.crt"), certificate.as_bytes()).unwrap();
            files::write_private(&at("tls.key"), key.serialize_pem().as_bytes()).unwrap();
        };
        let config = config::S3 {
            address: "127.0.0.1:0".parse().unwrap(),
            tls: Some((at("tls.crt"), at("tls.key"))),
            client_ca: None,
            client_names: None,
            secret_files: Vec::new(),
            gateway_regions: None,
            stores: Vec::new(),
        };
        let metric = Family::default();
        write(2049);
        let parts = S3Parts::new(&config, DataEvents::default(), &metric).unwrap();
        let first = parts.certificate.get().unwrap();
        assert_eq!(first.to_string(), "2049-07-08T00:00:00Z");
        assert_eq!(metric.get_or_create(&[]).get(), first.seconds());
        write(2051);
        parts.reload(&config).unwrap();
        let second = parts.certificate.get().unwrap();
        assert_eq!(second.to_string(), "2051-07-08T00:00:00Z");
        assert_eq!(metric.get_or_create(&[]).get(), second.seconds());
    }
}
