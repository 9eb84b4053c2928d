//! Sends one request repeatedly to a server in a process of its own, and measures the CPU time of
//! that process.

// Each benchmark uses only a part of this module.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brevet::base::clock::{Clock, SystemClock};
use brevet::base::digest::sha256;
use brevet::proof::sigv4::Signer;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

/// Settings to append to a configuration: calls are counted, but no budget is ever used up.
pub const WIDE_BUDGETS: &str = r#"
[budgets]
principal = { calls_per_second = 4000000000, reads_per_second = 4000000000 }
account = { calls_per_second = 4000000000 }
"#;

/// Makes a broker's home in a folder, with free ports; returns the key of its administrator.
pub fn init(home: &Path) -> (String, String) {
    let made = Command::new(env!("CARGO_BIN_EXE_brevet"))
        .arg("init")
        .arg(home)
        .args(["--account", "111122223333"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let value = |name: &str| {
        text.split_whitespace()
            .find_map(|w| w.strip_prefix(name))
            .unwrap()
            .to_owned()
    };
    let config = home.join("brevet.toml");
    let toml = std::fs::read_to_string(&config)
        .unwrap()
        .replace("127.0.0.1:7480", "127.0.0.1:0")
        .replace("127.0.0.1:7481", "127.0.0.1:0");
    std::fs::write(&config, toml).unwrap();
    (value("AWS_ACCESS_KEY_ID="), value("AWS_SECRET_ACCESS_KEY="))
}

const CONNECTIONS: usize = 4;
const IN_FLIGHT: usize = 128;

/// The result of a run.
pub struct Outcome {
    pub per_second: f64,
    pub cpu_micros: f64,
    pub busy: f64,
}

impl Outcome {
    pub fn print(&self, name: &str, a: Option<&Outcome>, b: Option<&Outcome>) {
        // The ratio is of CPU time, because the core of the load generator may be the bottleneck.
        let ratio = |base: Option<&Outcome>| {
            base.map_or(String::new(), |base| {
                format!("{:.2}", base.cpu_micros / self.cpu_micros)
            })
        };
        println!(
            "{name:<46} {:>9.0} {:>12.1} {:>6} {:>6} {:>6.0}%",
            self.per_second,
            self.cpu_micros,
            ratio(a),
            ratio(b),
            self.busy * 100.0
        );
    }
}

/// A request, framed and signed, that can be sent repeatedly.
pub struct Load {
    uri: String,
    headers: HeaderMap,
    body: Bytes,
}

pub fn load(
    method: &str,
    message: &impl Message,
    keys: Option<(&str, &str, Option<&str>)>,
    address: SocketAddr,
) -> Load {
    let path = format!("/{}/{method}", brevet::api::SERVICE);
    let message = message.encode_to_vec();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Some((id, secret, token)) = keys {
        let signer = Signer {
            access_key_id: id,
            secret_access_key: secret.as_bytes(),
            session_token: token,
            region: "us-east-1",
            service: "sts",
        };
        signer
            .sign(
                "POST",
                &path,
                &address.to_string(),
                &mut headers,
                &sha256(&message),
                SystemClock.now(),
            )
            .unwrap();
    }
    headers.insert("te", HeaderValue::from_static("trailers"));
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(&message);
    Load {
        uri: format!("http://{address}{path}"),
        headers,
        body: body.freeze(),
    }
}

pub fn drive(address: SocketAddr, server: u32, load: &Load, span: Duration) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            for _ in 0..IN_FLIGHT / CONNECTIONS {
                tasks.push(tokio::spawn(repeat(
                    sender.clone(),
                    load.uri.clone(),
                    load.headers.clone(),
                    load.body.clone(),
                    done.clone(),
                )));
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (count, cpu, started) = (
            done.load(Ordering::Relaxed),
            cpu_seconds(server),
            Instant::now(),
        );
        tokio::time::sleep(span).await;
        let (count, cpu, wall) = (
            done.load(Ordering::Relaxed) - count,
            cpu_seconds(server) - cpu,
            started.elapsed().as_secs_f64(),
        );
        for task in tasks {
            task.abort();
        }
        Outcome {
            per_second: count as f64 / wall,
            cpu_micros: cpu * 1e6 / count as f64,
            busy: cpu / wall,
        }
    })
}

async fn repeat(
    mut sender: SendRequest<Full<Bytes>>,
    uri: String,
    headers: HeaderMap,
    body: Bytes,
    done: Arc<AtomicU64>,
) {
    loop {
        let mut request = Request::post(uri.as_str())
            .body(Full::new(body.clone()))
            .unwrap();
        *request.headers_mut() = headers.clone();
        let response = sender.send_request(request).await.unwrap();
        let failed = response
            .headers()
            .get("grpc-status")
            .filter(|s| *s != "0")
            .cloned();
        assert_eq!(failed, None, "{:?}", response.headers().get("grpc-message"));
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn pin(pid: u32, core: u32) {
    let done = Command::new("taskset")
        .args(["-a", "-p", "-c", &core.to_string(), &pid.to_string()])
        .stdout(Stdio::null())
        .status();
    assert!(
        done.is_ok_and(|s| s.success()),
        "taskset from util-linux is required to pin the processes"
    );
}

/// The user and system time of all threads in seconds: proc(5), `stat`, fields 14 and 15, in
/// hundredths of a second.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
