//! The AWS SDK for Rust, unmodified: a role, and who its session is.

use aws_sdk_sts::config::{Credentials, Region};
use aws_sdk_sts::error::ProvideErrorMetadata;
use aws_sdk_sts::{Client, Config};

fn client(credentials: Credentials) -> Client {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_STS").expect("an endpoint");
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = Config::builder().http_client(http).endpoint_url(endpoint).region(Region::new("us-east-1"));
    Client::from_conf(config.credentials_provider(credentials).build())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let role = std::env::args().nth(1).expect("a role");
    let get = |name: &str| std::env::var(name).expect("an access key");
    let first = client(Credentials::new(get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"), None, None, "test"));
    let assumed = first.assume_role().role_arn(&role).role_session_name("rust").send().await.expect("a session");
    let c = assumed.credentials().expect("credentials");
    let token = Some(c.session_token().to_owned());
    let session = client(Credentials::new(c.access_key_id(), c.secret_access_key(), token, None, "test"));
    let identity = session.get_caller_identity().send().await.expect("an identity");
    println!("{}", identity.arn().unwrap_or_default());
    let refused = first.assume_role().role_arn(role + "x").role_session_name("rust").send().await.unwrap_err();
    println!("{}", refused.code().unwrap_or_default());
}
