//! Prints why a command failed: what happened, to what, and what to do next.

use std::path::Path;
use std::process::ExitCode;

use super::exec::{Ended, NotRun};
use super::{Failure, port, print};
use crate::client::{ClientError, split_encoded_message};

/// A file system with fewer free bytes than this counts as full.
const NEEDED_BYTES: u64 = 1 << 20;

/// The error about a failure that a full file system has caused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoRoom(String);

/// Prints why a command failed, and returns its exit status. If a program that `brevet exec` ran has ended,
/// nothing is printed, and the exit status is the program's.
pub(crate) fn failed(failure: &Failure) -> ExitCode {
    if let Some(Ended(status)) = failure.downcast_ref() {
        return ExitCode::from(*status);
    }
    print::note(format_args!("error: {}", describe(failure)));
    match failure.downcast_ref::<NotRun>() {
        Some(not_run) => ExitCode::from(not_run.exit_status()),
        None => ExitCode::FAILURE,
    }
}

/// Describes the failure, with the next step if one is known.
fn describe(failure: &Failure) -> String {
    match failure.downcast_ref::<ClientError>() {
        Some(ClientError::Refused {
            code,
            message,
            request_id,
        }) => refused(code, message, request_id),
        Some(ClientError::Unreachable { url, reason }) => unreachable(url, reason),
        _ => {
            let (text, next) = match failure.downcast_ref::<NoRoom>() {
                Some(full) => (
                    full.to_string(),
                    Some("free some space on that file system, and try again"),
                ),
                None => {
                    let text = failure.to_string();
                    let full = text.contains("No space left on device");
                    (
                        text,
                        full.then_some("free some space on that file system, and try again"),
                    )
                }
            };
            // The text may contain names and values of strangers: the bar marks lines that could be theirs.
            let mut text = print::visible_lines(text.trim_end()).replace('\n', "\n  | ");
            if let Some(next) = next {
                text.push_str(&format!("\n  next: {next}"));
            }
            text
        }
    }
}

/// Adds to a failure that the file system of one of `files` is full, if it is. SQLite reports a full disk only as an
/// "I/O error".
pub(crate) fn with_free_space(failure: Failure, files: &[&Path]) -> Failure {
    let full = files
        .iter()
        .filter_map(|file| file.parent())
        .find_map(|folder| {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            let system = rustix::fs::statvfs(folder).ok()?;
            let free = system.f_bavail.saturating_mul(system.f_frsize);
            (free < NEEDED_BYTES).then(|| {
                format!(
                    "the file system of {} is full ({free} bytes are free)",
                    folder.display()
                )
            })
        });
    match full {
        Some(full) => NoRoom(format!("{failure}: {full}")).into(),
        None => failure,
    }
}

/// Describes the broker's refusal: its message, its request id and the next step.
fn refused(code: &str, message: &str, request_id: &str) -> String {
    let (sentence, encoded) = split_encoded_message(message);
    let mut text = format!("{}: {}", print::visible(code), print::visible(sentence));
    if !request_id.is_empty() {
        text.push_str(&format!("\n  request id: {}", print::visible(request_id)));
    }
    if let Some(encoded) = encoded {
        text.push_str(&format!("\n  why: brevet explain {}", print::word(encoded)));
    }
    if let Some(step) = step(code, sentence) {
        text.push_str(&format!("\n  next: {step}"));
    }
    text
}

/// The next step after a refusal with this code and message, if one is known.
fn step(code: &str, sentence: &str) -> Option<&'static str> {
    Some(match code {
        _ if sentence.contains("valid region") => {
            "set one of these regions with --region or AWS_REGION"
        }
        _ if sentence.contains("MaxSessionDuration") => {
            "ask for fewer seconds with --duration-seconds, or raise MaxSessionDuration of the role"
        }
        _ if sentence.contains("no record of this session") => {
            "`brevet sessions list --include-revoked` lists the sessions on record; a session without a \
             record can still be revoked by its id"
        }
        "SignatureDoesNotMatch" if sentence.contains("not a name of this broker") => {
            "call the broker by one of these names (--endpoint, AWS_ENDPOINT_URL_STS), or add the host to [listen] \
            names in the broker's configuration and restart the broker"
        }
        "SignatureDoesNotMatch" => {
            "check AWS_SECRET_ACCESS_KEY, and that AWS_SESSION_TOKEN belongs to the same credentials (`unset \
             AWS_SESSION_TOKEN` for a long-term key)"
        }
        "InvalidClientTokenId" => {
            "get new credentials if your session was ended. Otherwise check the access key id and the endpoint: this broker \
             does not know the key. `brevet serve --dev` makes new keys at each start, so paste the lines that it printed again"
        }
        "ExpiredToken" => {
            "get new credentials: assume the role again, or export the long-term key and unset AWS_SESSION_TOKEN"
        }
        "ExpiredTokenException" => "get a new token or SAML response from the identity provider",
        "InvalidAuthorizationMessageException" => {
            "paste the whole message, and call a broker of the cluster that made the message"
        }
        "RequestExpired" => "correct this machine's clock, or the clock of the broker",
        "OutboundWebIdentityFederationDisabledException" => {
            "set [web_identity] issuer in the broker's configuration to an https URL at which relying parties reach it"
        }
        "Throttling" => {
            "wait a moment and try again; [budgets] in the broker's configuration sets the limits"
        }
        "ServiceUnavailable" => {
            "try again; if this lasts, run `brevet health` on the broker's machine, which prints the cause"
        }
        _ => return None,
    })
}

/// Describes that a broker did not answer, and the most likely mistake in its address.
fn unreachable(url: &str, reason: &str) -> String {
    let text = format!(
        "cannot reach {}: {}",
        print::visible(url),
        print::visible(reason)
    );
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let next = if has(&["Connection refused"]) {
        "no program listens at this address. Start the broker (`brevet serve --dev` for a try), or give another \
         address with --endpoint"
            .to_owned()
    } else if has(&["failed to lookup", "dns error", "Name or service not known"]) {
        "the address of the host name could not be found. Check --endpoint, BREVET_ENDPOINT, AWS_ENDPOINT_URL_STS and the profile".to_owned()
    } else if has(&["UnknownIssuer"]) {
        "give the certificate of the CA that signed the broker's certificate, with --ca FILE or \
         AWS_CA_BUNDLE"
            .to_owned()
    } else if has(&["invalid peer certificate"]) {
        "the broker's certificate is not valid for this call: check the host in --endpoint, the certificate's names and \
         its dates"
            .to_owned()
    } else {
        match (port::scheme_is_https(url), port::look(url)) {
            (false, port::Speaks::Tls) => {
                format!("this port expects TLS; use {}", print::visible(&port::with_scheme(url, "https")))
            }
            (true, port::Speaks::Http | port::Speaks::Else) => {
                format!("this port does not use TLS; use {}", print::visible(&port::with_scheme(url, "http")))
            }
            (false, port::Speaks::Http) => {
                "this port speaks HTTP, but does not answer as a broker does: it may be the operators' port, or a \
                 proxy without HTTP/2. A broker \
                 listens on 7480 unless [listen] address says otherwise"
                    .to_owned()
            }
            _ => "check that a broker runs at the address in --endpoint, and any proxy or firewall in between".to_owned(),
        }
    };
    format!("{text}\n  next: {next}")
}
