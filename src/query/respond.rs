//! Builds the HTTP responses of the Query protocol: the headers, and the body in XML, or in JSON if
//! the client asks for it.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::answer::{self, Element};
use super::fault::fault;
use crate::error::Error;

/// The XML namespace of the STS API. Answers to requests for an unknown API have it, too.
pub(super) const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The format and the namespace in which a request is answered.
#[derive(Clone, Copy)]
pub(super) struct Respond {
    json: bool,
    /// The XML namespace of the API that the request is for.
    namespace: &'static str,
}

impl Respond {
    /// Returns the format that the request's `Accept` header asks for, with the namespace of STS.
    pub(super) fn to(headers: &HeaderMap) -> Self {
        let json = headers
            .get(ACCEPT)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
        Self {
            json,
            namespace: STS_NAMESPACE,
        }
    }

    /// Sets the XML namespace, for an API other than STS.
    pub(super) fn within(self, namespace: &'static str) -> Self {
        Self { namespace, ..self }
    }

    pub(super) fn success(
        &self,
        action: &str,
        result: Option<Vec<Element>>,
        request_id: &str,
    ) -> Response<Full<Bytes>> {
        self.whole(
            StatusCode::OK,
            request_id,
            answer::success(action, self.namespace, result, request_id, self.json),
        )
    }

    pub(super) fn failure(&self, request_id: &str, error: &Error) -> Response<Full<Bytes>> {
        let (status, side) = fault(error);
        let error_element = answer::error(side, error.code(), &error.message());
        let body = answer::failure(error_element, self.namespace, request_id, self.json);
        let mut response = self.whole(status, request_id, body);
        if error.is_temporary() {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn whole(&self, status: StatusCode, request_id: &str, body: Vec<u8>) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let kind = if self.json {
            "application/json"
        } else {
            "text/xml"
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }
}
