//! Passes each request to the module that serves its path, and answers gRPC's own services: health checks and
//! reflection.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;

use super::body::Metered;
use super::{Shared, saml_metadata};
use crate::api;
use crate::authzen::{self, Endpoint};
use crate::broker::Broker;
use crate::keystone::{self, Endpoint as Store};
use crate::oauth::well_known::{self, Document};
use crate::oauth::{sign_in, token};
use crate::ops::CALL_TIMEOUT;
use crate::origin::Origin;
use crate::portal;
use crate::routes::{self, Grpc, Http};
use crate::{grpc, query, s3_signer, sso};

/// Passes a request to the module that serves its path, such as gRPC, the Query API, or pages for people, and returns
/// the answer.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    origin: Origin,
    is_grpc: bool,
    request: Request<Metered>,
) -> Response<Body> {
    if is_grpc {
        return answer_grpc(shared, origin, request).await;
    }
    let broker = &shared.broker;
    let published =
        |document| well_known::answer(broker, request.method(), document).map(|r| r.map(Body::new));
    let route = routes::http(request.uri().path());
    if let Some(sign_ins) = &broker.sign_ins
        && (route == Http::Portal || portal::is_front_door(&request))
    {
        // Boxed, because few calls need so much room.
        let answered = Box::pin(portal::serve(broker, &sign_ins.settings, origin, request));
        return answered.await.map(Body::new);
    }
    let response = match route {
        Http::Sso(action) if broker.sign_ins.is_some() => {
            // Boxed, because few calls need it.
            let response = Box::pin(sso::serve(broker, origin, action, request)).await;
            return response.map(Body::new);
        }
        Http::SignIn(endpoint) if broker.sign_ins.is_some() => {
            let response = Box::pin(sign_in::serve(broker, origin, endpoint, request)).await;
            return response.map(Body::new);
        }
        Http::Query | Http::Portal | Http::Sso(_) | Http::SignIn(_) => None,
        Http::ProviderConfiguration => published(Document::Configuration),
        Http::KeySet => published(Document::KeySet),
        Http::SamlMetadata => {
            saml_metadata::answer(broker, request.method()).map(|r| r.map(Body::new))
        }
        Http::DecisionPoint => {
            authzen::configuration(broker, request.method()).map(|r| r.map(Body::new))
        }
        Http::AccessEvaluation => {
            let endpoint = Endpoint::Evaluation;
            let response = Box::pin(authzen::serve(broker, origin, endpoint, request)).await;
            return response.map(Body::new);
        }
        Http::AccessEvaluations => {
            let endpoint = Endpoint::Evaluations;
            let response = Box::pin(authzen::serve(broker, origin, endpoint, request)).await;
            return response.map(Body::new);
        }
        Http::KeystoneTokens | Http::KeystoneS3Tokens | Http::KeystoneCredentials
            if !broker.keystone =>
        {
            None
        }
        Http::KeystoneTokens => return ask(broker, origin, Store::Tokens, request).await,
        Http::KeystoneS3Tokens => return ask(broker, origin, Store::S3Tokens, request).await,
        Http::KeystoneCredentials => {
            return ask(broker, origin, Store::Credentials, request).await;
        }
        Http::S3Signer => match &shared.s3 {
            Some(own) => {
                let signer = s3_signer::Signer {
                    broker,
                    stores: &own.stores,
                    readiness: shared.is_ready(),
                };
                let response = Box::pin(signer.serve(origin, request)).await;
                return response.map(Body::new);
            }
            None => None,
        },
        Http::TokenExchange => {
            let response = Box::pin(token::serve(broker, origin, request)).await;
            return response.map(Body::new);
        }
    };
    match response {
        Some(response) => response,
        None => query::serve(broker, origin, request).await.map(Body::new),
    }
}

async fn ask(
    broker: &Arc<Broker>,
    origin: Origin,
    endpoint: Store,
    request: Request<Metered>,
) -> Response<Body> {
    let response = Box::pin(keystone::serve(broker, origin, endpoint, request)).await;
    response.map(Body::new)
}

async fn answer_grpc(
    shared: &Arc<Shared>,
    origin: Origin,
    request: Request<Metered>,
) -> Response<Body> {
    let (service, _) = routes::grpc(request.uri().path());
    match service {
        Grpc::SecurityTokenService | Grpc::SessionAdministration | Grpc::Relying => {
            grpc::serve(&shared.broker, origin, &shared.stop, request).await
        }
        Grpc::Health => {
            let mut service =
                tonic_health::pb::health_server::HealthServer::new(Health(shared.clone()));
            match tokio::time::timeout(CALL_TIMEOUT, Box::pin(service.call(request))).await {
                Ok(result) => infallible(result),
                Err(_) => {
                    let limit = CALL_TIMEOUT.as_secs();
                    let text = format!(
                        "The request was not received and answered within {limit} seconds."
                    );
                    tonic::Status::deadline_exceeded(text).into_http()
                }
            }
        }
        Grpc::Reflection if shared.reflection => match reflection().build_v1() {
            Ok(mut service) => infallible(service.call(request.map(in_time)).await),
            Err(_) => grpc::unimplemented(),
        },
        Grpc::ReflectionAlpha if shared.reflection => match reflection().build_v1alpha() {
            Ok(mut service) => infallible(service.call(request.map(in_time)).await),
            Err(_) => grpc::unimplemented(),
        },
        Grpc::Reflection | Grpc::ReflectionAlpha | Grpc::Unknown => grpc::unimplemented(),
    }
}

fn in_time(body: Metered) -> Metered {
    body.until(CALL_TIMEOUT)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(api::DESCRIPTORS)
}

fn infallible(result: Result<Response<Body>, Infallible>) -> Response<Body> {
    match result {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// gRPC's health service, which reports whether the broker is ready.
struct Health(Arc<Shared>);

#[tonic::async_trait]
impl tonic_health::pb::health_server::Health for Health {
    async fn check(
        &self,
        request: tonic::Request<tonic_health::pb::HealthCheckRequest>,
    ) -> Result<tonic::Response<tonic_health::pb::HealthCheckResponse>, tonic::Status> {
        let known = ["", api::SERVICE, api::ADMINISTRATION, api::RELYING];
        if !known.contains(&request.get_ref().service.as_str()) {
            return Err(tonic::Status::not_found(
                "This port reports the health of no gRPC service with this name; without a name, it reports that of the broker.",
            ));
        }
        let status = match self.0.is_ready() {
            Ok(()) => tonic_health::ServingStatus::Serving,
            Err(_) => tonic_health::ServingStatus::NotServing,
        };
        Ok(tonic::Response::new(
            tonic_health::pb::HealthCheckResponse {
                status: status as i32,
            },
        ))
    }

    type WatchStream = std::pin::Pin<
        Box<
            dyn tokio_stream::Stream<
                    Item = Result<tonic_health::pb::HealthCheckResponse, tonic::Status>,
                > + Send,
        >,
    >;

    async fn watch(
        &self,
        _: tonic::Request<tonic_health::pb::HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Err(tonic::Status::unimplemented(
            "Watch is not supported; call Check.",
        ))
    }
}
