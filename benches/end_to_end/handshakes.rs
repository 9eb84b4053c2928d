//! TLS handshakes with a certificate of P-256 and with one of RSA-2048: how many a second one core makes, and what
//! each costs it. The client never resumes a session and checks no certificate, so that it does less than the
//! server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::brokers::{Broker, Settings};
use crate::load::{Outcome, cpu_seconds};
use crate::table::{Beside, Row, comparisons, results};
use crate::{Options, print_conditions};

/// How many handshakes are in progress at any time.
const AT_ONCE: usize = 16;
/// A key of RSA-2048, which ring cannot generate.
const RSA_KEY: &str = include_str!("../../tests/data/saml/rsa.key");

/// Starts the brokers, measures them and prints the tables.
pub fn measure(options: &Options) {
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let rsa =
        rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(RSA_KEY, &rcgen::PKCS_RSA_SHA256).unwrap();
    let brokers = [("a", "P-256", p256), ("", "RSA-2048", rsa)].map(|(letter, name, key)| {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let parameters = rcgen::CertificateParams::new(names).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let settings = Settings {
            tls: Some((&certificate.pem(), &key.serialize_pem())),
            ..Settings::default()
        };
        let beside = match letter {
            "" => vec![Beside::only("a")],
            _ => Vec::new(),
        };
        let row = Row {
            letter,
            name: format!("TLS 1.3 handshakes, certificate of {name}"),
            beside,
            outcomes: Vec::new(),
        };
        (Broker::start(&settings, "0"), row)
    });
    let mut brokers = brokers;
    for _ in 0..options.rounds {
        for (broker, row) in &mut brokers {
            row.outcomes.push(shake(broker, options.span()));
        }
    }
    print_conditions(options, &format!("{AT_ONCE} handshakes at once"));
    let rows = brokers.map(|(_, row)| row);
    println!("{}", results(&rows));
    println!("{}", comparisons(&rows));
}

/// Makes handshakes, one after the other in each of several tasks.
fn shake(broker: &Broker, span: Duration) -> Outcome {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (connector, done, address) = (connector.clone(), done.clone(), broker.address);
            tasks.spawn(async move {
                loop {
                    let stream = TcpStream::connect(address).await.unwrap();
                    // The connection is reset in the end, so that no port waits for late packets.
                    stream.set_zero_linger().unwrap();
                    let name = ServerName::try_from("localhost").unwrap();
                    connector.connect(name, stream).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let measured = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let (count, cpu, began) = (
                done.load(Ordering::Relaxed),
                cpu_seconds(broker.pid()),
                Instant::now(),
            );
            tokio::time::sleep(span).await;
            let count = (done.load(Ordering::Relaxed) - count) as f64;
            let cpu = cpu_seconds(broker.pid()) - cpu;
            let wall = began.elapsed().as_secs_f64();
            Outcome {
                per_second: count / wall,
                cpu_micros: cpu * 1e6 / count,
                busy: cpu / wall,
                latency_micros: None,
                answer_bytes: 0.0,
            }
        };
        tokio::select! {
            outcome = measured => outcome,
            Some(ended) = tasks.join_next() => panic!("a handshake failed: {ended:?}"),
        }
    })
}

/// Accepts every certificate, because the client's work is not what is measured.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
