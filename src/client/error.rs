//! The errors of the client, and the parts of a broker's error message.

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL or the CA cannot be used, the connection failed, or something other than a broker answered.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The URL of the endpoint that was called.
        url: String,
        /// The error and its causes, on one line.
        reason: String,
    },
    /// The broker refused the call with an AWS error code.
    #[error("{code}: {message}{}", named(.request_id))]
    Refused {
        /// The AWS error code, such as `AccessDenied`.
        code: String,
        /// The broker's message. It may end with an encoded authorization message, see
        /// [`split_encoded_message`].
        message: String,
        /// The id of the call in the broker's audit log; empty if the answer had no request id.
        request_id: String,
    },
    /// The URL is `http://` to another machine, so credentials would be sent unencrypted.
    #[error(
        "{url}: http:// to another machine would send credentials unencrypted; use https://, or connect with `Client::in_clear`"
    )]
    InClear {
        /// The URL of the endpoint, which was not called.
        url: String,
    },
    /// The answer lacks a field that every answer must have, or is not JSON where it must be. Contains the name of what
    /// is missing.
    #[error("the broker's answer has no {0}")]
    Incomplete(&'static str),
    /// The access token of a sign-in is not one that a broker has issued, because it cannot be sent in a header. No
    /// call was made.
    #[error("the access token has characters that no access token has; sign in again")]
    AccessToken,
}

fn named(request_id: &str) -> String {
    if request_id.is_empty() {
        String::new()
    } else {
        format!(" (request id {request_id})")
    }
}

/// The text that precedes the encoded message in a refusal.
pub(super) const ENCODED_MESSAGE_MARK: &str = "Encoded authorization failure message: ";

/// Splits the message of a refusal into its sentence and, if it has one, the encoded message for
/// DecodeAuthorizationMessage.
pub fn split_encoded_message(message: &str) -> (&str, Option<&str>) {
    match message.rsplit_once(ENCODED_MESSAGE_MARK) {
        Some((sentence, rest)) => (
            sentence.trim_end().trim_end_matches('.'),
            rest.split_whitespace().next(),
        ),
        None => (message, None),
    }
}

/// Joins an error and its causes on one line; a cause that the line already contains is left out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_message_is_told_from_its_sentence() {
        let message = "User: x is not authorized. Encoded authorization failure message: AbC_1-2 ";
        assert_eq!(
            split_encoded_message(message),
            ("User: x is not authorized", Some("AbC_1-2"))
        );
        assert_eq!(
            split_encoded_message("no such role."),
            ("no such role.", None)
        );
    }
}
