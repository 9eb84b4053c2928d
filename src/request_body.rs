//! The body of an HTTP request, received whole and within its limits, for every protocol that is
//! no gRPC.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt, Full, Limited};

use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, CALL_TIMEOUT, Refusal};
use crate::origin::Origin;

/// The longest body, in bytes: a SAML response of 100,000 characters, encoded twice.
pub const MAX_BODY_BYTES: usize = 262_144;

/// Receives a body.
///
/// # Errors
/// When it is longer than [`MAX_BODY_BYTES`], ends early, or there is no room for it.
pub async fn read<B>(
    broker: &Broker,
    origin: &Origin,
    headers: &HeaderMap,
    body: B,
) -> Result<Bytes, Error>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(Error::TooLarge(MAX_BODY_BYTES));
    }
    match in_one_piece(Limited::new(body, MAX_BODY_BYTES)).await {
        Ok(body) => Ok(body),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::TooLarge(MAX_BODY_BYTES))
        }
        Err(_) => Err(match origin.shed() {
            Some(shed) => ops::shed(broker, shed),
            None => Error::Malformed("the body ended early".into()),
        }),
    }
}

/// A body that comes in one frame stays where it is. Otherwise its frames are copied together, since
/// each of them keeps the whole buffer that it was read into.
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

/// Where a call came from, without the texts, which are rarely needed again: what [`too_late`]
/// takes.
pub fn without_texts(origin: &Origin) -> Origin {
    Origin {
        user_agent: None,
        referer: None,
        call: origin.call.clone(),
        ..*origin
    }
}

/// Records the refusal of a call that was not received and answered within [`CALL_TIMEOUT`]. Its
/// answer must be [`closing`].
pub async fn too_late(broker: &Arc<Broker>, origin: Origin, headers: &HeaderMap) -> Refusal {
    let agent = headers
        .get(USER_AGENT)
        .map(|v| crate::audit::clip(&String::from_utf8_lossy(v.as_bytes())));
    let origin = Origin {
        user_agent: agent,
        ..origin
    };
    let error = Error::RequestTimeout(CALL_TIMEOUT.as_secs());
    ops::refuse_unread(broker, "none", error, origin).await
}

/// Ends the connection after an answer to a request whose body was not read, because the start of the
/// next request is then unknown.
pub fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
