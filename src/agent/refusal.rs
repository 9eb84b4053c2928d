//! Why a workload gets no credentials.

use super::source::FetchError;
use crate::client::{ClientError, split_encoded_message};

/// Why a workload gets no credentials, and whether asking again may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The broker refused, and will do so again until somebody changes something. The endpoints report this as an error
    /// that makes an SDK stop.
    #[error("{code}: {message}")]
    Denied {
        /// The broker's AWS error code, such as `AccessDenied`.
        code: String,
        /// The broker's message, without an encoded authorization message.
        message: String,
    },
    /// There are no credentials at the moment: the broker cannot be reached or cannot answer, or this agent has no
    /// room, a wrong clock, or no usable identity. Trying again later may help.
    #[error("no credentials are available at the moment: {reason}")]
    Unavailable {
        /// The cause in plain English.
        reason: String,
    },
}

/// Decides, for an error, whether it can help the workload to ask again.
impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Client(ClientError::Refused { code, message, .. })
                if is_definite(&code) =>
            {
                let (sentence, _) = split_encoded_message(&message);
                Refusal::Denied {
                    message: sentence.to_owned(),
                    code,
                }
            }
            // Which files the agent has is not for workloads.
            FetchError::File(_) | FetchError::Identity(_) => Refusal::Unavailable {
                reason: "what this agent needs to call the broker cannot be read, or cannot be used again; the \
                    agent's log says why"
                    .to_owned(),
            },
            FetchError::Bug(_) => Refusal::Unavailable {
                reason: "this agent has a bug; its log says more".to_owned(),
            },
            error @ (FetchError::Client(_) | FetchError::Clock { .. }) => Refusal::Unavailable {
                reason: error.to_string(),
            },
        }
    }
}

/// Whether a refusal lasts until somebody changes something. Every refusal does, except those with the codes below:
/// most of them come from load, a fault or a wrong clock.
fn is_definite(code: &str) -> bool {
    !matches!(
        code,
        "" | "Throttling"
            | "ServiceUnavailable"
            | "InternalFailure"
            | "IDPCommunicationError"
            | "RequestExpired"
            | "RequestTimeout"
            | "RequestEntityTooLarge"
            | "RequestHeaderFieldsTooLarge"
            | "UnknownOperationException"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_does_not_learn_which_files_the_agent_has() {
        let error = FetchError::Identity("/etc/brevet-agent/access-key.json: no key".to_owned());
        let refusal = Refusal::from(error).to_string();
        assert!(
            refusal.contains("the agent's log says why") && !refusal.contains("/etc"),
            "{refusal}"
        );
        let error = FetchError::Bug("the task of a stream failed".to_owned());
        let refusal = Refusal::from(error).to_string();
        assert!(
            refusal.contains("its log says more") && !refusal.contains("stream"),
            "{refusal}"
        );
    }
}
