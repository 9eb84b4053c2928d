//! How far an answer with a token travels: network namespaces as a machine, a router behind it, and a stranger behind
//! the router.

use std::path::Path;
use std::process::Command;

use crate::agent::Process;
use crate::binary::brevet;
use crate::harness::may_skip;

/// Makes the three namespaces, and runs a broker and an agent in the first. Prints what the others see.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs none /run
ip link set lo up
ip netns add router
ip netns add stranger
ip link add agent type veth peer name to-agent netns router
ip -n router link add to-stranger type veth peer name stranger netns stranger
ip address add 10.99.1.1/24 dev agent
ip -n router address add 10.99.1.2/24 dev to-agent
ip -n router address add 10.99.2.2/24 dev to-stranger
ip -n stranger address add 10.99.2.1/24 dev stranger
ip link set agent up
ip -n router link set to-agent up
ip -n router link set to-stranger up
ip -n stranger link set stranger up
ip route add 10.99.2.0/24 via 10.99.1.2
ip -n stranger route add default via 10.99.2.2
ip netns exec router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'

"$BREVET" serve --dev --listen 127.0.0.1:0 --world "$DIR/broker.json" >/dev/null 2>&1 &
trap 'kill $(jobs -p)' EXIT
until [ -s "$DIR/broker.json" ]; do sleep 0.05; done
value() { sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" "$DIR/broker.json" | head -n 1; }
(umask 077; printf '{"AccessKeyId": "%s", "SecretAccessKey": "%s"}' "$(value access_key_id)" "$(value secret_access_key)" > "$DIR/key.json")
for hops in 1 2; do
  cat > "$DIR/agent.toml" <<END
broker.endpoint = "$(value grpc_endpoint)"
identity.access_key_file = "key.json"
operator.address = "127.0.0.1:0"
[imds]
address = "10.99.1.1:8$hops"
off_loopback = "only workloads that may have these credentials reach this address"
role_arn = "arn:aws:iam::111122223333:role/Demo"
token_hop_limit = $hops
END
  "$BREVET" agent --config "$DIR/agent.toml" --world "$DIR/agent-$hops.json" >/dev/null 2>&1 &
  until [ -s "$DIR/agent-$hops.json" ]; do sleep 0.05; done
done

# ask NAMESPACE PORT REQUEST: the status of the answer, or nothing.
ask() {
  ip netns exec "$1" timeout "$4" bash -c '
    exec 3<>/dev/tcp/10.99.1.1/$1
    printf "%s\r\nHost: 10.99.1.1:$1\r\nConnection: close\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n" "$2" >&3
    head -n 1 <&3' bash "$2" "$3" | cut -d " " -f 2 || true
}
echo "neighbour token: $(ask router 81 'PUT /latest/api/token HTTP/1.1' 30)"
echo "stranger page: $(ask stranger 81 'GET /latest/ HTTP/1.1' 30)"
echo "stranger token: $(ask stranger 81 'PUT /latest/api/token HTTP/1.1' 5)"
echo "stranger token within 2 hops: $(ask stranger 82 'PUT /latest/api/token HTTP/1.1' 30)"
"#;

/// Whether this machine lets the tests make network namespaces, as root mostly may.
fn may_make_namespaces() -> bool {
    let tried = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs none /run && ip netns add t && ip netns exec t sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'")
        .output();
    tried.is_ok_and(|output| output.status.success())
}

#[test]
fn ag_03_a_token_does_not_travel_further_than_it_may() {
    if !may_make_namespaces() {
        return may_skip("network namespaces need root and iproute2");
    }
    let dir = tempfile::tempdir().unwrap();
    let path: &Path = dir.path();
    let child = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "bash",
            "-c",
            SCRIPT,
        ])
        .env("BREVET", brevet().get_program())
        .env("DIR", path)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Process(child);
    let mut output = String::new();
    let mut stdout = process.0.stdout.take().unwrap();
    std::io::Read::read_to_string(&mut stdout, &mut output).unwrap();
    let mut errors = String::new();
    let mut stderr = process.0.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut errors).unwrap();
    let expected = "neighbour token: 200\nstranger page: 401\nstranger token: \nstranger token within 2 hops: 200\n";
    assert_eq!(output, expected, "{errors}");
}
