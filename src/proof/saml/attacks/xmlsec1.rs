//! Verifies the signatures of a response with xmlsec1, an independent implementation with its own
//! parser, canonicalization and cryptography. It does not check the rules of SAML.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// The XPath expression that selects the signatures of a response.
const SIGNATURES: &str =
    "//*[local-name()='Signature' and namespace-uri()='http://www.w3.org/2000/09/xmldsig#']";

/// Runs xmlsec1 with the certificate of one identity provider.
pub(super) struct Xmlsec1 {
    folder: tempfile::TempDir,
    certificate: PathBuf,
}

impl Xmlsec1 {
    /// Prepares xmlsec1 with the certificate that verifies the target's signature.
    pub fn new(target: &Target) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metadata = data(&format!("{}-metadata.xml", target.provider));
        let metadata = Document::parse(&metadata).unwrap();
        let certificates = metadata
            .descendants()
            .filter(|node| xml::is(*node, signature::NAMESPACE, "X509Certificate"));
        let mut this = Self {
            folder,
            certificate: PathBuf::new(),
        };
        for (number, certificate) in certificates.enumerate() {
            let text: String = xml::text(certificate).unwrap().split_whitespace().collect();
            let lines: Vec<_> = text
                .as_bytes()
                .chunks(64)
                .map(String::from_utf8_lossy)
                .collect();
            let pem = format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                lines.join("\n")
            );
            this.certificate = this.folder.path().join(format!("{number}.pem"));
            std::fs::write(&this.certificate, pem).unwrap();
            if this.accepts(target.xml.as_bytes()) {
                return this;
            }
        }
        panic!(
            "xmlsec1 does not accept the unchanged response {}",
            target.name
        );
    }

    /// Returns whether the response has a signature, and all its signatures are valid.
    pub fn accepts(&self, response: &[u8]) -> bool {
        let file = self.write(0, response);
        (1..=wanted(response)).all(|number| self.verifies(number, std::slice::from_ref(&file)))
    }

    /// Returns the responses that xmlsec1 does not accept.
    pub fn refused<'a>(&self, responses: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
        let files: Vec<_> = responses
            .iter()
            .enumerate()
            .map(|(number, response)| (self.write(number, response), wanted(response)))
            .collect();
        let most = files.iter().map(|(_, signatures)| *signatures).max();
        // One process verifies all responses. Only if it fails, each gets a process of its own.
        let all_are_good = (1..=most.unwrap_or(0)).all(|number| {
            let with_it = files.iter().filter(|(_, signatures)| *signatures >= number);
            let with_it: Vec<_> = with_it.map(|(file, _)| file.clone()).collect();
            self.verifies(number, &with_it)
        });
        if all_are_good {
            return Vec::new();
        }
        let all = responses.iter().map(Vec::as_slice);
        all.filter(|response| !self.accepts(response)).collect()
    }

    fn write(&self, number: usize, response: &[u8]) -> PathBuf {
        let file = self.folder.path().join(format!("{number}.xml"));
        std::fs::write(&file, response).unwrap();
        file
    }

    /// Returns whether the signature with this number is valid in all of the files.
    fn verifies(&self, number: usize, files: &[impl AsRef<Path>]) -> bool {
        let output = Command::new("xmlsec1")
            .args(["--verify", "--enabled-reference-uris", "same-doc"])
            .args(["--enabled-key-data", "raw-x509-cert", "--pubkey-cert-pem"])
            .arg(&self.certificate)
            .args(["--id-attr:ID", &format!("{SAML}:Assertion")])
            .args(["--id-attr:ID", &format!("{SAMLP}:Response")])
            .args(["--node-xpath", &format!("({SIGNATURES})[{number}]")])
            .args(files.iter().map(AsRef::as_ref))
            .output()
            .expect("this test runs xmlsec1, which is Debian's package xmlsec1");
        output.status.success()
    }
}

/// Counts the signatures to verify in a response: all of them, but at least one, so that a response without a
/// signature, or one that cannot be parsed, is not accepted.
fn wanted(response: &[u8]) -> usize {
    let text = String::from_utf8_lossy(response);
    let is_signature = |node: &Node<'_, '_>| xml::is(*node, signature::NAMESPACE, "Signature");
    let found = Document::parse(&text).map_or(0, |d| d.descendants().filter(is_signature).count());
    found.max(1)
}
