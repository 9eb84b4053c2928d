//! AWS's APIs `sso-oidc` and `sso`, which the AWS CLI and the SDKs call for a person who signs in. They are at the root
//! of the broker's origin. What a person may do is decided in [`crate::sign_in`] and [`crate::ops`].

mod answer;
mod oidc;
mod portal;

use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::broker::Broker;
use crate::budgets;
use crate::error::Error;
use crate::ops::{CALL_TIMEOUT, ToTheEnd};
use crate::origin::Origin;
use crate::request_body;
use crate::routes::Sso;

/// Serves one request. Work that has begun is finished even if the client has gone.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    action: Sso,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if head.method != action.method() {
        return not_allowed(action);
    }
    let late = request_body::without_texts(&origin);
    let answer = async {
        let body = request_body::read(broker, &origin, &head.headers, body, || false).await;
        let broker = broker.clone();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let headers = head.headers.clone();
        ToTheEnd::new(async move {
            match action {
                Sso::RegisterClient | Sso::StartDevice | Sso::CreateToken => {
                    oidc::answer(&broker, &origin, action, body).await
                }
                Sso::ListAccounts
                | Sso::ListAccountRoles
                | Sso::GetRoleCredentials
                | Sso::Logout => portal::answer(&broker, origin, action, &headers, &query).await,
            }
        })
        .await
    };
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(response) => response,
        Err(_) => {
            let reply = request_body::too_late(broker, late, &head.headers).await;
            let response = match action.is_of_oidc() {
                true => answer::oidc_error(&reply.error, &reply.request_id),
                false => answer::portal_error(&reply.error, &reply.request_id),
            };
            request_body::closing(response)
        }
    }
}

fn not_allowed(action: Sso) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    let allowed = match action.method() {
        Method::GET => "GET",
        _ => "POST",
    };
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Counts a request without a valid token against the budget of its source address.
///
/// # Errors
/// [`Error::Throttling`] if there were too many.
fn count_unproven(broker: &Broker, origin: &Origin) -> Result<(), Error> {
    let source = budgets::source(origin.source_ip);
    let counted = broker.budgets.unproven(source, broker.clock.monotonic());
    counted.map_err(|exceeded| broker.throttled(exceeded.name()))
}
