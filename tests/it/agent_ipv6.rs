//! The agent on addresses of IPv6: the instance metadata service, and both forms for containers.

use std::net::SocketAddr;
use std::process::Command;

use crate::agent_beside::{Beside, ask, credentials, keys, parts, token, until_available};
use crate::harness::{Answer, Broker, may_skip};
use crate::workloads::{arn, broker_with, claims, session, sign, signing_key};

/// Set in the network namespace where the addresses that SDKs know are on the loopback interface.
const AMONG_THEM: &str = "BREVET_TEST_ADDRESSES_OF_SDKS";

async fn arn_of(broker: &Broker, answer: &Answer) -> String {
    let client = broker.client(&keys(answer));
    client.get_caller_identity().await.unwrap().arn
}

#[tokio::test]
async fn credentials_come_by_ipv6_in_each_form() {
    let [imds, container, pods] = match std::env::var_os(AMONG_THEM) {
        Some(_) => [
            "[\"[fd00:ec2::254]:80\", \"169.254.169.254:80\"]",
            "\"[fd00:ec2::23]:81\"",
            "[\"[fd00:ec2::23]:80\"]",
        ],
        None => ["\"[::1]:0\"", "\"[::1]:0\"", "[\"[::1]:0\"]"],
    };
    let signing = signing_key();
    let broker = broker_with(&signing).await;
    let (web, job) = (arn("role", "web"), arn("role", "job"));
    let sections = format!(
        "[imds]\naddress = {imds}\nrole_arn = \"{web}\"\nprincipal = \"ec2.amazonaws.com\"\nmeta_data.instance-id = \"i-0abc\"\n\
         [container]\naddress = {container}\n\
         [[container.workload]]\nname = \"job-1\"\ntoken_file = \"token\"\nrole_arn = \"{job}\"\n\
         [pod_identity]\naddresses = {pods}\ncluster = \"prod\"\n"
    );
    let agent = Beside::start(&broker, "node-a", &sections).await;

    let imds = agent.imds();
    assert!(imds.is_ipv6());
    let good = token(imds).await;
    let answer = until_available(async || credentials(imds, "web", &good).await).await;
    assert_eq!(arn_of(&broker, &answer).await, session("web", "i-0abc"));

    let world = &agent.running.world;
    let (address, path) = parts(&world.ecs.as_ref().unwrap().full_uri);
    let own = std::fs::read_to_string(agent.path("token")).unwrap();
    let own = [("authorization", &*own)];
    let answer = until_available(async || ask(address, "GET", &path, &own).await).await;
    assert_eq!(arn_of(&broker, &answer).await, session("job", "job-1"));

    let (address, path) = parts(&world.pod_identity.as_ref().unwrap().full_uri);
    let of_pod = claims("pods.eks.amazonaws.com", "payments", "api", "worker-a");
    let of_pod = sign(&signing, &of_pod);
    let own = [("authorization", &*of_pod)];
    let answer = until_available(async || ask(address, "GET", &path, &own).await).await;
    let name = "eks-prod-api-7d9f-5f2a9c1e";
    assert_eq!(arn_of(&broker, &answer).await, session("pod", name));

    // Other names, another port, and the address in a spelling of IPv4.
    let (port, other) = (imds.port(), imds.port() ^ 1);
    for host in [
        format!("rebound.example.com:{port}"),
        format!("[{}]:{other}", imds.ip()),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("127.0.0.1:{port}"),
    ] {
        let headers = [("host", &*host), ("x-aws-ec2-metadata-token", &*good)];
        let path = "/latest/meta-data/iam/security-credentials/web";
        let answer = ask(imds, "GET", path, &headers).await;
        assert_eq!(answer.status, 403, "{host}: {}", answer.body);
    }
    if std::env::var_os(AMONG_THEM).is_some() {
        let v4: SocketAddr = "169.254.169.254:80".parse().unwrap();
        let answer = credentials(v4, "web", &good).await;
        assert_eq!(arn_of(&broker, &answer).await, session("web", "i-0abc"));
    }
}

/// Runs the test above where the loopback interface has the addresses that SDKs know.
#[test]
fn credentials_come_by_ipv6_at_the_addresses_of_sdks() {
    let addresses = "ip link set lo up && for ip in 169.254.169.254/32 fd00:ec2::254/128 fd00:ec2::23/128; do \
                     ip address add $ip dev lo || exit 1; done";
    let in_a_network = |script: String| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]);
        command
    };
    let tried = in_a_network(addresses.to_owned()).status();
    if !tried.is_ok_and(|status| status.success()) {
        return may_skip("a network of its own with IPv6 needs root and iproute2");
    }
    let run = "exec \"$0\" --exact agent_ipv6::credentials_come_by_ipv6_in_each_form --nocapture";
    let done = in_a_network(format!("{addresses} && {run}"))
        .arg(std::env::current_exe().unwrap())
        .env(AMONG_THEM, "1")
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("1 passed"), "it ran: {said}");
}
