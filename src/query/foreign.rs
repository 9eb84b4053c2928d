//! Refuses requests for AWS services that Brevet does not have, in the protocol of the service.
//!
//! A client with this broker as its endpoint for all services (`AWS_ENDPOINT_URL`) sends the
//! requests for other services here, too. Such a client could not parse a refusal in XML, and would
//! show its user no reason. The service comes from unverified headers, which is safe, because it
//! only decides the format of the refusal.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use memchr::memmem;
use serde_json::json;

use super::answer::{self, text};
use crate::base::form::FORM;
use crate::base::http::media_type;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops;
use crate::origin::Origin;
use crate::routes;

/// The header that names the action in AWS's JSON protocols.
const X_AMZ_TARGET: &str = "x-amz-target";
/// The services with S3's REST protocol, by their names in a signature's scope.
const S3: &[&str] = &["s3", "s3express", "s3-outposts", "s3-object-lambda"];
/// The services with other REST protocols in XML, whose errors look like those of the Query protocol.
const REST_XML: &[&str] = &["cloudfront", "route53"];
/// The services that Brevet implements, by their names in a signature's scope.
const OURS: &[&str] = &["sts", "iam"];

/// The protocol of another AWS service, in which Brevet can only refuse requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// AWS JSON 1.0 or 1.1. The text is the media type of the answer.
    Json(&'static str),
    RestJson,
    S3,
}

/// A request in a protocol, or for a service, that Brevet does not have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    protocol: Protocol,
    asked: String,
}

impl Foreign {
    /// Determines the protocol of a request; `None` if the request may be for Brevet, in the Query
    /// protocol.
    pub(super) fn read(head: &http::request::Parts) -> Option<Self> {
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .map(media_type)
            .unwrap_or_default();
        let target = head
            .headers
            .get(X_AMZ_TARGET)
            .map(|v| String::from_utf8_lossy(v.as_bytes()));
        // This covers most requests of Brevet's own services without copying anything.
        if target.is_none()
            && kind.eq_ignore_ascii_case(FORM)
            && routes::is_query(head.uri.path())
            && is_signed_for_us(head)
        {
            return None;
        }
        let kind = kind.to_ascii_lowercase();
        let of_json = match kind.as_slice() {
            b"application/x-amz-json-1.0" => Some("application/x-amz-json-1.0"),
            b"application/x-amz-json-1.1" => Some("application/x-amz-json-1.1"),
            _ => target.is_some().then_some("application/x-amz-json-1.1"),
        };
        let request = || format!("{} {}", head.method, head.uri.path());
        if let Some(kind) = of_json {
            return Some(Self::new(
                Protocol::Json(kind),
                &target.map_or_else(request, |t| t.into_owned()),
            ));
        }
        let service = scope_service(head);
        let service = service.as_deref();
        let is_any = |list: &[&str]| service.is_some_and(|s| list.contains(&s));
        if is_any(S3) {
            return Some(Self::new(Protocol::S3, &request()));
        }
        let is_json = kind == b"application/json";
        let is_rest = match service {
            Some(_) if is_any(OURS) || is_any(REST_XML) => false,
            Some(_) => is_json || !routes::is_query(head.uri.path()),
            None => is_json,
        };
        is_rest.then(|| Self::new(Protocol::RestJson, &request()))
    }

    fn new(protocol: Protocol, asked: &str) -> Self {
        let asked = asked
            .chars()
            .filter(|c| !c.is_control())
            .take(128)
            .collect();
        Self { protocol, asked }
    }

    /// Records the refusal, and answers it in the request's own protocol.
    pub(super) async fn refuse(
        self,
        broker: &Arc<Broker>,
        origin: Origin,
    ) -> Response<Full<Bytes>> {
        let error = Error::UnknownOperation(format!(
            "`{}` is not an operation of this endpoint, which only serves STS and IAM (AWS Query) and gRPC. To send only \
             those requests here, set AWS_ENDPOINT_URL_STS and AWS_ENDPOINT_URL_IAM instead of AWS_ENDPOINT_URL.",
            self.asked
        ));
        let reply = ops::refuse_unread(broker, "none", error, origin).await;
        self.protocol.answer(
            reply.error.code(),
            &reply.error.message(),
            &reply.request_id,
        )
    }
}

/// Returns whether the Authorization header contains a signature for STS or IAM.
fn is_signed_for_us(head: &http::request::Parts) -> bool {
    let scopes: [&[u8]; 2] = [b"/sts/aws4_request", b"/iam/aws4_request"];
    let signed = head
        .headers
        .get(AUTHORIZATION)
        .map_or(&b""[..], HeaderValue::as_bytes);
    scopes
        .iter()
        .any(|scope| memmem::find(signed, scope).is_some())
}

impl Protocol {
    fn answer(self, code: &'static str, message: &str, request_id: &str) -> Response<Full<Bytes>> {
        let (kind, body) = match self {
            Self::Json(kind) => (
                kind,
                json!({"__type": code, "message": message})
                    .to_string()
                    .into_bytes(),
            ),
            Self::RestJson => (
                "application/json",
                json!({"code": code, "message": message})
                    .to_string()
                    .into_bytes(),
            ),
            Self::S3 => {
                let error = [
                    text("Code", code),
                    text("Message", message),
                    text("RequestId", request_id),
                ];
                ("application/xml", answer::s3_error(error.into()))
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self == Self::RestJson {
            headers.insert("x-amzn-errortype", HeaderValue::from_static(code));
        }
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }
}

/// Returns the service in the scope of the signature in the header or the URL. The signature is not
/// verified.
fn scope_service(head: &http::request::Parts) -> Option<String> {
    let third = |scope: &str| scope.split('/').nth(3).map(str::to_ascii_lowercase);
    if let Some(header) = head.headers.get(AUTHORIZATION) {
        let (_, credential) = header.to_str().ok()?.split_once("Credential=")?;
        return third(credential.split([',', ' ']).next()?);
    }
    let query = head.uri.query()?;
    let credential = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("X-Amz-Credential="))?;
    third(
        &percent_encoding::percent_decode_str(credential)
            .decode_utf8()
            .ok()?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, target: &str, headers: &[(&str, &str)]) -> Option<(Protocol, String)> {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Foreign::read(&request.body(()).unwrap().into_parts().0).map(|f| (f.protocol, f.asked))
    }

    #[test]
    fn a_request_is_for_what_it_says() {
        const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
        let scope = |service: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIA/20260102/us-east-1/{service}/aws4_request, SignedHeaders=host"
            )
        };
        let target = ("x-amz-target", "AWSOrganizationsV20161128.ListAccounts");
        assert_eq!(
            read(
                "POST",
                "/",
                &[target, ("content-type", "application/x-amz-json-1.1")]
            )
            .unwrap(),
            (
                Protocol::Json("application/x-amz-json-1.1"),
                target.1.to_owned()
            )
        );
        assert_eq!(
            read("POST", "/", &[target, FORM]).unwrap().0,
            Protocol::Json("application/x-amz-json-1.1")
        );
        let kind = ("content-type", "Application/X-Amz-JSON-1.0; charset=utf-8");
        assert_eq!(
            read("POST", "/", &[kind]).unwrap().0,
            Protocol::Json("application/x-amz-json-1.0")
        );
        for (service, method, path, expected) in [
            ("s3", "GET", "/", Some(Protocol::S3)),
            ("s3", "PUT", "/bucket/key?x=y", Some(Protocol::S3)),
            ("eks", "GET", "/clusters/a", Some(Protocol::RestJson)),
            ("sts", "GET", "/clusters/a", None),
            ("ec2", "POST", "/", None),
            ("route53", "GET", "/2013-04-01/hostedzone", None),
        ] {
            let header =
                read(method, path, &[("authorization", &scope(service)), FORM]).map(|f| f.0);
            let separator = if path.contains('?') { '&' } else { '?' };
            let presigned = format!(
                "{path}{separator}X-Amz-Credential=AKIA%2F20260102%2Fus-east-1%2F{service}%2Faws4_request"
            );
            assert_eq!(
                (header, read(method, &presigned, &[]).map(|f| f.0)),
                (expected, expected),
                "{service} {path}"
            );
        }
        assert_eq!(
            read(
                "POST",
                "/client/register",
                &[("content-type", "application/json")]
            )
            .unwrap()
            .0,
            Protocol::RestJson
        );
        assert_eq!(read("POST", "/", &[FORM]), None);
        assert_eq!(
            read(
                "POST",
                "/",
                &[
                    ("authorization", &scope("sts")),
                    ("content-type", "application/json")
                ]
            ),
            None
        );
        assert_eq!(read("GET", "/bucket", &[]), None);
        for odd in [
            "Credential=",
            "AWS4-HMAC-SHA256 Credential=//",
            "Basic x",
            "",
        ] {
            assert_eq!(read("GET", "/", &[("authorization", odd)]), None);
        }
    }

    #[test]
    fn each_protocol_has_its_form() {
        use http_body_util::BodyExt;
        let text = |protocol: Protocol| {
            let body = protocol
                .answer("UnknownOperationException", "no <such>", "id")
                .into_body();
            let body = futures_util::future::FutureExt::now_or_never(body.collect())
                .unwrap()
                .unwrap()
                .to_bytes();
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert_eq!(
            text(Protocol::Json("application/x-amz-json-1.1")),
            r#"{"__type":"UnknownOperationException","message":"no <such>"}"#
        );
        assert_eq!(
            text(Protocol::RestJson),
            r#"{"code":"UnknownOperationException","message":"no <such>"}"#
        );
        assert_eq!(
            text(Protocol::S3),
            "<Error><Code>UnknownOperationException</Code><Message>no &lt;such&gt;</Message><RequestId>id</RequestId></Error>"
        );
    }
}
