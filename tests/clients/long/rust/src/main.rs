//! The AWS SDK for Rust, unmodified: who the credentials belong to that it finds by itself.

use aws_config::BehaviorVersion;
use aws_sdk_sts::Client;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let tls = tls::Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    match Client::new(&config).get_caller_identity().send().await {
        Ok(who) => println!("{}", who.arn().unwrap_or_default()),
        Err(error) => println!("{error:?}"),
    }
}
