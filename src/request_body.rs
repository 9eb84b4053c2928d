//! Receives the body of an HTTP request as a whole and within its limits, for every protocol except
//! gRPC.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full, Limited};

use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, CALL_TIMEOUT, Refusal};
use crate::origin::Origin;

/// The maximum size of a body in bytes: enough for a SAML response of 100,000 characters, encoded
/// twice.
pub const MAX_BODY_BYTES: usize = 262_144;

/// The maximum size in bytes of the body of a call that may be long: enough for the metadata of a
/// SAML provider with 10,000,000 characters, if at most a quarter of them must be escaped. Two copies
/// of it fit in the budget of long requests.
pub const MAX_LONG_BODY_BYTES: usize = 15 << 20;

/// Receives the body of a request. `may_be_long` is asked if the client announces more than
/// [`MAX_BODY_BYTES`], before anything is received.
///
/// # Errors
/// [`Error::TooLarge`] if the body is longer than [`MAX_BODY_BYTES`], or than [`MAX_LONG_BODY_BYTES`] if
/// it may be long; [`Error::Malformed`] if it ends early, and [`Error::ServiceUnavailable`] if there is
/// no capacity for it.
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
            None => Error::Malformed("the body ended early".into()),
        }),
    }
}

/// Returns a body in one piece. A body of one frame is not copied. Otherwise the frames are copied
/// together, because each of them keeps the whole buffer alive into which it was read.
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

/// The origin of a call without its texts, which are rarely needed again, for [`with_agent`].
pub fn without_texts(origin: &Origin) -> Origin {
    Origin {
        user_agent: None,
        referer: None,
        certificate: None,
        call: origin.call.clone(),
        ..*origin
    }
}

/// An origin of [`without_texts`] with the user agent, which its record has.
pub fn with_agent(origin: Origin, headers: &HeaderMap) -> Origin {
    let agent = headers.get(USER_AGENT);
    let agent = agent.map(|v| crate::audit::clip(&String::from_utf8_lossy(v.as_bytes())));
    Origin {
        user_agent: agent,
        ..origin
    }
}

/// Records the refusal of a call that was not received and answered within [`CALL_TIMEOUT`]. Its
/// answer must be passed to [`closing`].
pub async fn too_late(broker: &Arc<Broker>, origin: Origin, headers: &HeaderMap) -> Refusal {
    let origin = with_agent(origin, headers);
    let error = Error::RequestTimeout(CALL_TIMEOUT.as_secs());
    ops::refuse_unread(broker, "none", error, origin).await
}

/// Makes an answer close the connection, because the body of its request was not read and the start
/// of the next request is therefore unknown.
pub fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
