//! The connection of a client, which signs the requests that go through it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::transport::Channel;
use tower_service::Service;

use super::Credentials;
use crate::base::clock::Clock;
use crate::base::digest::sha256;
use crate::proof::sigv4::Signer;

/// The maximum length in bytes of an answer of the IAM API.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// A channel that signs each request, unless it has no credentials.
#[derive(Clone)]
pub(super) struct Signed {
    pub(super) channel: Channel,
    pub(super) host: String,
    pub(super) region: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Signed {
    /// Sends a signed form in AWS's Query protocol to the IAM API. Asks for an answer in JSON, and returns its status
    /// and body.
    ///
    /// # Errors
    /// The request cannot be signed or sent, or the answer is longer than [`MAX_ANSWER_BYTES`].
    pub(super) async fn form(&self, form: String) -> Result<(http::StatusCode, Bytes), BoxError> {
        let body = Bytes::from(form);
        let mut request = http::Request::post("/");
        let headers = request.headers_mut().ok_or("the request cannot be built")?;
        let kind = http::HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(http::header::CONTENT_TYPE, kind);
        headers.insert(
            http::header::ACCEPT,
            http::HeaderValue::from_static("application/json"),
        );
        self.sign("iam", "/", headers, &body)?;
        let mut channel = self.channel.clone();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
        let response = channel
            .call(request.body(Body::new(Full::new(body)))?)
            .await?;
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await?;
        Ok((head.status, body.to_bytes()))
    }

    fn sign(
        &self,
        service: &str,
        path: &str,
        headers: &mut http::HeaderMap,
        payload: &[u8],
    ) -> Result<(), BoxError> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let signer = Signer {
            access_key_id: &credentials.access_key_id,
            secret_access_key: credentials.secret_access_key.expose().as_bytes(),
            session_token: credentials
                .session_token
                .as_ref()
                .map(|t| t.expose().as_str()),
            region: &self.region,
            service,
        };
        Ok(signer.sign(
            "POST",
            path,
            &self.host,
            headers,
            &sha256(payload),
            self.clock.now(),
        )?)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<http::Request<Body>> for Signed {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The channel that was polled ready is used for this call; its clone is for the next.
        let clone = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, clone);
        let this = self.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            // The message comes after five bytes of gRPC framing: a flag and a length.
            let message: Bytes = if body.len() >= 5 {
                body.slice(5..)
            } else {
                Bytes::new()
            };
            let path = head.uri.path().to_owned();
            this.sign("sts", &path, &mut head.headers, &message)?;
            Ok(channel
                .call(http::Request::from_parts(head, Body::new(Full::new(body))))
                .await?)
        })
    }
}
