//! Serves this broker's SAML metadata, which describe it as a service provider. Anybody may read the document without
//! credentials.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use crate::broker::Broker;

/// The response with the metadata document; `None` if the broker has no entity ID.
pub(super) fn answer(broker: &Broker, method: &Method) -> Option<Response<Full<Bytes>>> {
    let document = broker.service_provider.metadata()?;
    let mut response = Response::new(Full::new(Bytes::new()));
    if method != Method::GET {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET"));
        return Some(response);
    }
    *response.body_mut() = Full::new(Bytes::from(document));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/samlmetadata+xml"),
    );
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    Some(response)
}
