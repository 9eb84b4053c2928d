//! Receives the body of an HTTP request in one piece, within limits on its size. All protocols of the service's own
//! listener except gRPC use this module.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full, Limited};

use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, CALL_TIMEOUT, Refusal};
use crate::origin::Origin;

/// The maximum size of a body in bytes. It has room for a SAML response of 100,000 characters that
/// is percent-encoded twice.
pub const MAX_BODY_BYTES: usize = 262_144;

/// The maximum size in bytes of the body of a call that may be long. It has room for SAML metadata
/// of 10,000,000 characters of which a quarter must be percent-encoded. Two such bodies fit in the
/// memory budget for long requests.
pub const MAX_LONG_BODY_BYTES: usize = 15 << 20;

/// Receives the body of a request. If the client announces more than [`MAX_BODY_BYTES`],
/// `may_be_long` is called before anything is received, and decides whether the larger limit
/// applies.
///
/// # Errors
/// [`Error::TooLarge`] if the body is longer than [`MAX_BODY_BYTES`], or than
/// [`MAX_LONG_BODY_BYTES`] if `may_be_long` returned `true`; [`Error::Malformed`] if it ends early,
/// and [`Error::Overloaded`] if there is no capacity for it.
pub async fn read<B>(
    broker: &Broker,
    origin: &Origin,
    headers: &HeaderMap,
    body: B,
    may_be_long: impl FnOnce() -> bool,
) -> Result<Bytes, Error>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    let most = match declared {
        Some(length) if length > MAX_BODY_BYTES => {
            if !may_be_long() {
                return Err(Error::TooLarge(MAX_BODY_BYTES));
            }
            if length > MAX_LONG_BODY_BYTES {
                return Err(Error::TooLarge(MAX_LONG_BODY_BYTES));
            }
            if let Some(call) = &origin.call {
                call.count_as_long();
            }
            length
        }
        _ => MAX_BODY_BYTES,
    };
    match in_one_piece(Limited::new(body, most)).await {
        Ok(body) => Ok(body),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Error::TooLarge(most)),
        Err(_) => Err(match origin.shed() {
            Some(shed) => ops::shed(broker, shed),
            None => Error::Malformed("The body of the request was not received completely.".into()),
        }),
    }
}

/// Returns a body in one piece. A body of a single frame is not copied. Several frames are copied
/// into one buffer, because each frame keeps the complete buffer that it was read into in memory.
async fn in_one_piece<B: http_body::Body>(body: B) -> Result<Bytes, B::Error> {
    let mut body = std::pin::pin!(body);
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        if first.is_empty() && all.is_empty() {
            first = data.copy_to_bytes(data.remaining());
            continue;
        }
        if !first.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            all.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Returns the origin of a call without its user agent, referer and certificate. It is kept for a
/// call that may take too long, since [`with_agent`] can restore what its audit record needs.
pub fn without_texts(origin: &Origin) -> Origin {
    Origin {
        user_agent: None,
        referer: None,
        certificate: None,
        call: origin.call.clone(),
        ..*origin
    }
}

/// Adds the user agent, which the audit record contains, to an origin from [`without_texts`].
pub fn with_agent(origin: Origin, headers: &HeaderMap) -> Origin {
    let agent = headers.get(USER_AGENT);
    let agent = agent.map(|v| crate::audit::clip(&String::from_utf8_lossy(v.as_bytes())));
    Origin {
        user_agent: agent,
        ..origin
    }
}

/// Records and refuses a call that was not answered within [`CALL_TIMEOUT`]. The answer must be
/// passed to [`closing`].
pub async fn too_late(broker: &Arc<Broker>, origin: Origin, headers: &HeaderMap) -> Refusal {
    let origin = with_agent(origin, headers);
    let error = Error::RequestTimeout(CALL_TIMEOUT.as_secs());
    ops::refuse_unread(broker, "none", error, origin).await
}

/// Makes an answer close its connection. This is necessary if the body of the request was not read
/// completely, because the next request on the connection could not be found.
pub fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
