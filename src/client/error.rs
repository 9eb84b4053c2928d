//! Why a call failed.

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL, the CA or the connection.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// As configured.
        url: String,
        /// The chain of causes.
        reason: String,
    },
    /// The broker refused.
    #[error("{code}: {message}{}", named(.request_id))]
    Refused {
        /// The AWS error code.
        code: String,
        /// What the broker says; may end with an encoded authorization message, see
        /// [`split_encoded_message`].
        message: String,
        /// Names the call in the broker's audit log. Empty if the answer had none.
        request_id: String,
    },
    /// The URL would carry credentials in clear beyond this machine.
    #[error(
        "{url}: http:// beyond this machine would carry credentials in clear; use https://, or connect with `Client::in_clear`"
    )]
    InClear {
        /// As configured.
        url: String,
    },
    /// An answer without what every answer has.
    #[error("the answer has no {0}")]
    Incomplete(&'static str),
}

fn named(request_id: &str) -> String {
    if request_id.is_empty() {
        String::new()
    } else {
        format!(" (request id {request_id})")
    }
}

/// What the broker puts before the encoded message of a refusal.
pub(super) const ENCODED_MESSAGE_MARK: &str = "Encoded authorization failure message: ";

/// Splits what a refusal says into its sentence and the encoded message for
/// DecodeAuthorizationMessage, if it has one.
pub fn split_encoded_message(message: &str) -> (&str, Option<&str>) {
    match message.rsplit_once(ENCODED_MESSAGE_MARK) {
        Some((sentence, rest)) => (
            sentence.trim_end().trim_end_matches('.'),
            rest.split_whitespace().next(),
        ),
        None => (message, None),
    }
}

/// An error and its causes on one line.
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
