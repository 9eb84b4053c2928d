//! An error answer of Amazon S3, with its code, status and XML: Amazon S3 API Reference, "Error
//! responses".

use crate::proof::sigv4::S3SigError;

/// The error codes that the broker returns, with Amazon S3's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    BadDigest,
    ExpiredToken,
    InternalError,
    InvalidAccessKeyId,
    InvalidArgument,
    InvalidBucketName,
    InvalidDigest,
    InvalidRequest,
    InvalidToken,
    InvalidUri,
    KeyTooLong,
    MalformedXml,
    MethodNotAllowed,
    NotImplemented,
    RequestTimeTooSkewed,
    ServiceUnavailable,
    SignatureDoesNotMatch,
    SlowDown,
}

impl Code {
    /// Returns the error code and its HTTP status.
    fn kind(self) -> (&'static str, u16) {
        match self {
            Self::AccessDenied => ("AccessDenied", 403),
            Self::AuthorizationHeaderMalformed => ("AuthorizationHeaderMalformed", 400),
            Self::AuthorizationQueryParametersError => ("AuthorizationQueryParametersError", 400),
            Self::BadDigest => ("BadDigest", 400),
            Self::ExpiredToken => ("ExpiredToken", 400),
            Self::InternalError => ("InternalError", 500),
            Self::InvalidAccessKeyId => ("InvalidAccessKeyId", 403),
            Self::InvalidArgument => ("InvalidArgument", 400),
            Self::InvalidBucketName => ("InvalidBucketName", 400),
            Self::InvalidDigest => ("InvalidDigest", 400),
            Self::InvalidRequest => ("InvalidRequest", 400),
            Self::InvalidToken => ("InvalidToken", 400),
            Self::InvalidUri => ("InvalidURI", 400),
            Self::KeyTooLong => ("KeyTooLongError", 400),
            Self::MalformedXml => ("MalformedXML", 400),
            Self::MethodNotAllowed => ("MethodNotAllowed", 405),
            Self::NotImplemented => ("NotImplemented", 501),
            Self::RequestTimeTooSkewed => ("RequestTimeTooSkewed", 403),
            Self::ServiceUnavailable => ("ServiceUnavailable", 503),
            Self::SignatureDoesNotMatch => ("SignatureDoesNotMatch", 403),
            Self::SlowDown => ("SlowDown", 503),
        }
    }

    /// The code as Amazon S3 spells it.
    pub fn as_str(self) -> &'static str {
        self.kind().0
    }

    /// The HTTP status with which Amazon S3 returns the code.
    pub fn status(self) -> u16 {
        self.kind().1
    }
}

/// The refusal of a request, with everything that its caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Refusal {
    pub code: Code,
    /// The error message for the caller.
    pub message: String,
    /// The sealed reason of an AccessDenied, which `brevet explain` opens; empty if there is none.
    pub encoded_message: String,
    /// The path of the request without its query, for the `Resource` element of the XML.
    pub resource: String,
    /// The id of the request in the audit log; empty until it is recorded.
    pub request_id: String,
}

impl S3Refusal {
    /// Creates a refusal without a sealed reason. The resource and the request id are added when
    /// the refusal is recorded.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            encoded_message: String::new(),
            resource: String::new(),
            request_id: String::new(),
        }
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The message, to which the sealed reason is appended as in answers of STS and IAM.
    pub fn full_message(&self) -> String {
        match self.encoded_message.as_str() {
            "" => self.message.clone(),
            encoded => format!(
                "{} Encoded authorization failure message: {encoded}",
                self.message
            ),
        }
    }

    /// Formats the refusal as the XML body of an answer.
    pub fn xml(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        for (name, text) in [
            ("Code", self.code.as_str()),
            ("Message", &self.full_message()),
            ("Resource", &self.resource),
            ("RequestId", &self.request_id),
            ("HostId", ""),
        ] {
            xml.push_str(&format!("<{name}>"));
            escape(&mut xml, text);
            xml.push_str(&format!("</{name}>"));
        }
        xml.push_str("</Error>");
        xml
    }
}

/// Appends a text, with special characters escaped and without characters that XML does not allow.
fn escape(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => xml.push(c),
            _ => xml.push('\u{fffd}'),
        }
    }
}

impl From<S3SigError> for S3Refusal {
    fn from(error: S3SigError) -> Self {
        let code = match &error {
            S3SigError::Header(_) => Code::AuthorizationHeaderMalformed,
            S3SigError::Query(_) => Code::AuthorizationQueryParametersError,
            S3SigError::Unsupported(_) => Code::InvalidRequest,
            S3SigError::Unsigned(_) | S3SigError::Expired(_) => Code::AccessDenied,
            S3SigError::Skewed(_) => Code::RequestTimeTooSkewed,
            S3SigError::Mismatch(_) => Code::SignatureDoesNotMatch,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_chose_cannot_change_the_answer() {
        let refusal = S3Refusal {
            resource: "/b/<x>&\"\u{0}\u{1b}".into(),
            request_id: "id".into(),
            encoded_message: "abc".into(),
            ..S3Refusal::new(Code::AccessDenied, "No </Message>.")
        };
        let xml = refusal.xml();
        let document = roxmltree::Document::parse(&xml).unwrap();
        let text = |name: &str| {
            let found = document.descendants().find(|n| n.has_tag_name(name));
            found.unwrap().text().unwrap_or_default().to_owned()
        };
        assert_eq!(text("Code"), "AccessDenied");
        assert_eq!(
            text("Message"),
            "No </Message>. Encoded authorization failure message: abc"
        );
        assert_eq!(text("Resource"), "/b/<x>&\"\u{fffd}\u{fffd}");
        assert_eq!(document.root_element().children().count(), 5);
    }
}
