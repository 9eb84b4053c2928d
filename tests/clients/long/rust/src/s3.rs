//! The AWS SDK for Rust, unmodified, through a proxy. Prints a line for each action: its name, a tab, and what it gave
//! in base64.

use std::error::Error;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_types::base64;

type Given = Result<Vec<u8>, Box<dyn Error>>;

const OK: &[u8] = b"ok";
const PART: usize = 5 << 20;

fn of(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// S3's code of an error, or all that it says.
fn gave<T, E>(result: Result<T, E>) -> Result<T, Box<dyn Error>>
where
    E: ProvideErrorMetadata + std::fmt::Debug,
{
    result.map_err(|error| match error.code() {
        Some(code) => code.to_owned().into(),
        None => format!("{error:?}").into(),
    })
}

fn report(name: &str, given: Given) {
    let bytes = given.unwrap_or_else(|error| error.to_string().into_bytes());
    println!("{name}\t{}", base64::encode(bytes));
}

struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    async fn put(&self, key: &str) -> Given {
        let body = ByteStream::from(format!("body of {key}").into_bytes());
        let sent = self.client.put_object().bucket(&self.name).key(key).body(body).send().await;
        gave(sent).map(|_| OK.to_vec())
    }

    async fn get(&self, key: &str, range: Option<&str>) -> Given {
        let asked = self.client.get_object().bucket(&self.name).key(key);
        let answer = gave(asked.set_range(range.map(str::to_owned)).send().await)?;
        Ok(answer.body.collect().await?.to_vec())
    }

    async fn large(&self, file: &str) -> Given {
        let (body, key) = (std::fs::read(file)?, "home/large");
        let made = gave(self.client.create_multipart_upload().bucket(&self.name).key(key).send().await)?;
        let upload = made.upload_id().unwrap_or_default();
        let mut parts = Vec::new();
        for (number, part) in (1..).zip(body.chunks(PART)) {
            let asked = self.client.upload_part().bucket(&self.name).key(key).upload_id(upload);
            let sent = gave(asked.part_number(number).body(ByteStream::from(part.to_vec())).send().await)?;
            parts.push(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build());
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let asked = self.client.complete_multipart_upload().bucket(&self.name).key(key).upload_id(upload);
        gave(asked.multipart_upload(parts).send().await).map(|_| OK.to_vec())
    }

    async fn copy(&self, key: &str) -> Given {
        let source = format!("{}/{key}", self.name);
        let asked = self.client.copy_object().bucket(&self.name).key("home/copy");
        gave(asked.copy_source(source).send().await).map(|_| OK.to_vec())
    }

    async fn list(&self) -> Given {
        let answer = gave(self.client.list_objects_v2().bucket(&self.name).prefix("home/").send().await)?;
        let mut keys: Vec<&str> = answer.contents().iter().filter_map(|object| object.key()).collect();
        keys.sort_unstable();
        Ok(keys.join("\n").into_bytes())
    }

    async fn delete_many(&self) -> Given {
        let named = |key: &str| ObjectIdentifier::builder().key(key).build();
        let objects = vec![named("home/gone 1")?, named("home/gone+2")?];
        let delete = Delete::builder().set_objects(Some(objects)).build()?;
        let answer = gave(self.client.delete_objects().bucket(&self.name).delete(delete).send().await)?;
        let first = answer.errors().first().and_then(|error| error.code());
        Ok(first.unwrap_or("ok").as_bytes().to_vec())
    }

    /// A presigned URL, which the test requests.
    async fn url(&self, key: &str) -> Given {
        let minute = PresigningConfig::expires_in(Duration::from_secs(60))?;
        let asked = self.client.get_object().bucket(&self.name).key(key);
        Ok(gave(asked.presigned(minute).await)?.uri().as_bytes().to_vec())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let ca = std::fs::read(of("AWS_CA_BUNDLE")).expect("the CA's certificate");
    let trusted = TrustStore::empty().with_pem_certificate(ca);
    let context = TlsContext::builder().with_trust_store(trusted).build().expect("a TLS context");
    let provider = tls::Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(context).build_https();
    let own = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let config = aws_sdk_s3::config::Builder::from(&own).endpoint_url(of("ENDPOINT")).force_path_style(true);
    let config = config.retry_config(RetryConfig::disabled()).build();
    let bucket = Bucket { client: Client::from_conf(config), name: of("BUCKET") };
    let keys = of("KEYS");
    for key in keys.lines() {
        report(&format!("put {key}"), bucket.put(key).await);
        report(&format!("get {key}"), bucket.get(key, None).await);
    }
    let first = keys.lines().next().unwrap_or_default();
    report("large", bucket.large(&of("LARGE")).await);
    report("range", bucket.get(first, Some("bytes=0-3")).await);
    report("copy", bucket.copy(first).await);
    report("list", bucket.list().await);
    report("presigned get", bucket.url(first).await);
    report("delete many", bucket.delete_many().await);
    report("elsewhere", bucket.get("elsewhere/x", None).await);
}
