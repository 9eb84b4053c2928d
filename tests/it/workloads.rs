//! Credentials for workloads: what a node may hand out, to whom, and when it ends.

use std::time::Duration;

use brevet::base::entropy::SystemEntropy;
use brevet::client::{
    AssumeRoleForWorkload, AssumeRoleWithWebIdentity, Client, Endpoint, RevocationWatch,
    RevocationsSeen, WatchedSession, Workload,
};
use brevet::commands::Edit;
use brevet::directory::resource::ResourceKind;
use brevet::session::key_state::KeyState;
use brevet::session::signing_key::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::harness::*;

const ACCOUNT: &str = "111122223333";
const ISSUER: &str = "https://cluster.example.com";
const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/cluster.example.com";
const ACTION: &str = "brevet:AssumeRoleForWorkload";

pub fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:{kind}/{name}")
}

fn policy(statements: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

pub fn keys_of(user: &str) -> Keys {
    Keys {
        id: format!("AKIA{:0>16}", user.to_ascii_uppercase().replace('-', "")),
        secret: format!("canary+secret/of/{user:0>23}"),
        token: None,
    }
}

pub fn signing_key() -> SigningKey {
    let entropy = SystemEntropy::new();
    SigningKey::generate(Algorithm::ES384, KeyState::Current, &entropy, now()).unwrap()
}

/// The trust policy of a role that a service assumes, as AWS's documentation writes it.
fn trusts(service: &str, condition: Value) -> Value {
    policy(
        json!([{"Effect": "Allow", "Principal": {"Service": service},
        "Action": ["sts:AssumeRole", "sts:TagSession"], "Condition": condition}]),
    )
}

fn directory(signing: &SigningKey) -> Value {
    let user = |name: &str, tags: Value, roles: &[&str]| {
        let roles: Vec<String> = roles.iter().map(|role| arn("role", role)).collect();
        let own = json!([{"Effect": "Allow", "Action": ACTION, "Resource": roles},
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": arn("role", "job")},
            {"Effect": "Allow", "Action": "brevet:WatchRevocations",
                "Resource": "arn:aws:iam::111122223333:user/${aws:username}",
                "Condition": {"StringNotEquals": {"aws:username": "node-c"}}}]);
        json!({"UserName": name, "Arn": arn("user", name), "Tags": tags,
            "UserId": format!("AIDA{:0>16}", name.to_ascii_uppercase().replace('-', "")),
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": policy(own)}]})
    };
    let tags = |profile: &str, node: &str| json!([{"Key": "brevet:instance-profile", "Value": profile}, {"Key": "brevet:node", "Value": node}]);
    let users = json!([
        user(
            "node-a",
            tags("web", "prod/worker-a"),
            &["web", "task", "pod", "job"]
        ),
        user("node-b", tags("db", "prod/worker-b"), &["db", "pod"]),
        user("node-c", tags("web", "prod/worker-c"), &["db"]),
        user("alice", json!([]), &["web", "pod"]),
        {"UserName": "admin", "Arn": arn("user", "admin"), "UserId": "AIDA00000000000ADMIN", "UserPolicyList": [
            {"PolicyName": "own", "PolicyDocument": policy(json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]))}]},
    ]);
    let role = |name: &str, trust: Value, own: Value| {
        json!({"RoleName": name, "RoleId": format!("AROA{:0>16}", name.to_ascii_uppercase()),
            "Arn": arn("role", name), "AssumeRolePolicyDocument": trust, "MaxSessionDuration": 7200,
            "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": policy(own)}]})
    };
    let nothing = || json!([{"Effect": "Deny", "Action": ACTION, "Resource": "*"}]);
    let instances = json!({"StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": "arn:aws:ec2:*:111122223333:instance/*"}});
    let tasks = json!({"ArnLike": {"aws:SourceArn": "arn:aws:ecs:*:111122223333:task/prod/*"}});
    let pods = json!({"StringEquals": {"aws:RequestTag/kubernetes-namespace": "payments",
        "aws:RequestTag/eks-cluster-name": "prod", "aws:SourceAccount": ACCOUNT}});
    let agents = json!({"StringEquals": {"cluster.example.com:sub": "system:serviceaccount:brevet:agent",
        "cluster.example.com:aud": "sts.amazonaws.com"}});
    let job = policy(
        json!([{"Effect": "Allow", "Principal": {"AWS": arn("user", "node-a")}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"AWS": arn("user", "node-a")}, "Action": "sts:TagSession",
            "Condition": {"StringEquals": {"aws:RequestTag/unit": "backup.service"}}}]),
    );
    let agent = policy(
        json!([{"Effect": "Allow", "Principal": {"Federated": PROVIDER},
        "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"], "Condition": agents}]),
    );
    let hands_out = json!([{"Effect": "Allow", "Action": ACTION, "Resource": [arn("role", "pod"), arn("role", "job")]}]);
    let roles = json!([
        role(
            "web",
            trusts("ec2.amazonaws.com", instances.clone()),
            nothing()
        ),
        role("db", trusts("ec2.amazonaws.com", instances), nothing()),
        role("task", trusts("ecs-tasks.amazonaws.com", tasks), nothing()),
        role("pod", trusts("pods.eks.amazonaws.com", pods), nothing()),
        role(
            "job",
            job,
            json!([{"Effect": "Allow", "Action": ACTION, "Resource": "*"}])
        ),
        role("node", agent, hands_out),
    ]);
    let profile = |n: u8, name: &str| {
        json!({"InstanceProfileName": name, "Arn": arn("instance-profile", name),
            "InstanceProfileId": format!("AIPA{n:0>16}"), "Roles": [{"RoleName": name}]})
    };
    let key = |name: &str| {
        let keys = keys_of(name);
        json!({"UserArn": arn("user", name), "AccessKeyId": keys.id, "SecretAccessKey": keys.secret})
    };
    let pod = |namespace: &str, account: &str, role: &str| {
        json!({"Cluster": "prod", "Namespace": namespace, "ServiceAccount": account,
            "RoleArn": arn("role", role), "ProviderArn": PROVIDER})
    };
    json!({"UserDetailList": users, "RoleDetailList": roles, "Brevet": {
        "InstanceProfiles": [profile(1, "web"), profile(2, "db")],
        "AccessKeys": [key("node-a"), key("node-b"), key("node-c"), key("alice"), key("admin")],
        "OpenIDConnectProviders": [{"Arn": PROVIDER, "Url": ISSUER, "JsonWebKeySet": {"keys": [signing.jwk()]},
            "ClientIDList": ["sts.amazonaws.com", "pods.eks.amazonaws.com"]}],
        "PodAssociations": [pod("payments", "api", "pod"), pod("staging", "api", "pod")],
        "TaskAssociations": [{"Cluster": "prod", "Family": "billing", "RoleArn": arn("role", "task")},
            {"Cluster": "test", "Family": "billing", "RoleArn": arn("role", "task")}]}})
}

pub async fn broker_with(signing: &SigningKey) -> Broker {
    configured_broker_with(signing, |_| {}).await
}

async fn configured_broker_with(
    signing: &SigningKey,
    change: impl FnOnce(&mut brevet::config::Config),
) -> Broker {
    let home = home();
    let text = directory(signing).to_string();
    brevet::files::write_private(&home.path().join("directory.json"), text.as_bytes()).unwrap();
    Broker::start_in(home, change).await
}

/// The session that the agent of a node of the cluster gets for its own token, with one more claim.
async fn node_of_cluster(
    broker: &Broker,
    signing: &SigningKey,
    name: &str,
    (claim, value): (&str, Value),
) -> Result<Keys, String> {
    let endpoint = Endpoint {
        url: broker.url(),
        region: "us-east-1".into(),
        ca_pem: None,
    };
    let mut claims = claims("sts.amazonaws.com", "brevet", "agent", name);
    claims[claim] = value;
    let token = sign(signing, &claims);
    let request = AssumeRoleWithWebIdentity {
        role_arn: arn("role", "node"),
        role_session_name: "agent".into(),
        token: std::sync::Arc::new(brevet::base::secret::Secret::new(token)),
        duration_seconds: None,
        policy: None,
        policy_arns: Vec::new(),
    };
    let client = Client::anonymous(&endpoint, false).unwrap();
    let got = client.assume_role_with_web_identity(&request).await;
    let got = got.map_err(|error| code(&error))?;
    Ok(Keys::from(&got.role.credentials))
}

/// The claims of a pod's projected token.
pub fn claims(audience: &str, namespace: &str, account: &str, node: &str) -> Value {
    let at = now().seconds();
    json!({"iss": ISSUER, "aud": [audience], "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "iat": at - 10, "nbf": at - 10, "exp": at + 3_600, "kubernetes.io": {
            "namespace": namespace, "serviceaccount": {"name": account, "uid": "0b1c2d3e"},
            "pod": {"name": format!("{account}-7d9f"), "uid": "5f2a9c1e-0000-4000-8000-000000000001"},
            "node": {"name": node, "uid": "9a8b7c6d"}}})
}

pub fn sign(signing: &SigningKey, claims: &Value) -> String {
    signing.sign(claims.to_string().as_bytes()).unwrap()
}

fn pod(token: &str) -> Workload {
    Workload::Pod {
        cluster: "prod".into(),
        token: std::sync::Arc::new(brevet::base::secret::Secret::new(token.to_owned())),
    }
}

fn instance(id: &str) -> Workload {
    Workload::Instance {
        instance_id: id.into(),
    }
}

fn task(cluster: &str) -> Workload {
    Workload::Task {
        cluster: cluster.into(),
        family: "billing".into(),
        task_id: "0af1".into(),
    }
}

/// A program of a unit, with its role and tags.
fn process(role: &str, tags: &[(&str, &str)]) -> AssumeRoleForWorkload {
    let tag = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    AssumeRoleForWorkload {
        role_arn: Some(arn("role", role)),
        role_session_name: Some("backup".into()),
        tags: tags.iter().map(tag).collect(),
        ..AssumeRoleForWorkload::new(Workload::Process {
            uid: Some(107),
            unit: Some("backup.service".into()),
            name: Some("backup".into()),
        })
    }
}

/// The ARN of the session that the workload gets, or the error code.
async fn ask(broker: &Broker, node: &Keys, request: &AssumeRoleForWorkload) -> String {
    match broker.client(node).assume_role_for_workload(request).await {
        Ok(got) => {
            let keys = Keys::from(&got.role.credentials);
            let who = broker.client(&keys).get_caller_identity().await.unwrap();
            assert_eq!(who.arn, got.role.arn);
            who.arn
        }
        Err(error) => code(&error),
    }
}

async fn ask_for(broker: &Broker, node: &Keys, workload: Workload) -> String {
    ask(broker, node, &AssumeRoleForWorkload::new(workload)).await
}

pub fn session(role: &str, name: &str) -> String {
    format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}")
}

#[tokio::test]
async fn ag_06_a_node_gets_the_role_of_its_own_instance_profile_and_no_other() {
    let broker = broker_with(&signing_key()).await;
    let (a, b) = (keys_of("node-a"), keys_of("node-b"));
    let wanted = |role: &str| AssumeRoleForWorkload {
        role_arn: Some(arn("role", role)),
        ..AssumeRoleForWorkload::new(instance("i-0abc"))
    };
    assert_eq!(
        ask(&broker, &a, &wanted("web")).await,
        session("web", "i-0abc")
    );
    assert_eq!(
        ask_for(&broker, &b, instance("i-0def")).await,
        session("db", "i-0def")
    );
    // Another node's role, a role that the profile has and the policies do not allow, no profile, and a
    // session that a node handed out.
    assert_eq!(ask(&broker, &b, &wanted("web")).await, "AccessDenied");
    for other in ["node-c", "alice"] {
        let got = ask_for(&broker, &keys_of(other), instance("i-0abc")).await;
        assert_eq!(got, "AccessDenied", "{other}");
    }
    let client = broker.client(&a);
    let handed_out = client.assume_role_for_workload(&process("job", &[])).await;
    let handed_out = Keys::from(&handed_out.unwrap().role.credentials);
    assert_eq!(
        ask_for(&broker, &handed_out, instance("i-0abc")).await,
        "AccessDenied"
    );
    let audit = broker.into_audit().await;
    let of_action = |refused: bool| {
        audit.iter().filter(move |record| {
            record["eventName"] == "AssumeRoleForWorkload"
                && (record["errorCode"] == "AccessDenied") == refused
        })
    };
    assert_eq!((of_action(false).count(), of_action(true).count()), (3, 4));
    let first = of_action(false).next().unwrap();
    assert_eq!(
        first["requestParameters"]["workload"]["instanceId"],
        "i-0abc"
    );
    assert_eq!(first["responseElements"]["roleArn"], arn("role", "web"));
    let reasons: Vec<&Value> = of_action(true)
        .map(|record| &record["additionalEventData"]["reason"])
        .collect();
    assert!(
        reasons.contains(&&json!(
            "The directory assigns another role than RoleArn to the workload."
        )),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn ag_06_a_pod_gets_its_role_through_its_own_node_alone() {
    let signing = signing_key();
    let broker = broker_with(&signing).await;
    let (a, b) = (keys_of("node-a"), keys_of("node-b"));
    let audience = "pods.eks.amazonaws.com";
    let good = claims(audience, "payments", "api", "worker-a");
    let token = sign(&signing, &good);
    let name = "eks-prod-api-7d9f-5f2a9c1e";
    assert_eq!(
        ask_for(&broker, &a, pod(&token)).await,
        session("pod", name)
    );
    // The pod's token is good for as long as it lives, and only with its node.
    assert_eq!(
        ask_for(&broker, &a, pod(&token)).await,
        session("pod", name)
    );
    assert_eq!(ask_for(&broker, &b, pod(&token)).await, "AccessDenied");
    assert_eq!(
        ask_for(&broker, &keys_of("alice"), pod(&token)).await,
        "AccessDenied"
    );
    let without = |path: &str| {
        let mut claims = good.clone();
        claims["kubernetes.io"]
            .as_object_mut()
            .unwrap()
            .remove(path);
        claims
    };
    let mut other_subject = good.clone();
    other_subject["sub"] = json!("system:serviceaccount:payments:other");
    let mut expired = good.clone();
    expired["exp"] = json!(now().seconds() - 1);
    for (claims, expected) in [
        // For AssumeRoleWithWebIdentity and not for this, another service account, and a role that does not
        // trust the namespace.
        (
            claims("sts.amazonaws.com", "payments", "api", "worker-a"),
            "AccessDenied",
        ),
        (
            claims(audience, "payments", "other", "worker-a"),
            "AccessDenied",
        ),
        (
            claims(audience, "staging", "api", "worker-a"),
            "AccessDenied",
        ),
        (
            claims("other", "payments", "api", "worker-a"),
            "InvalidIdentityToken",
        ),
        (without("node"), "AccessDenied"),
        (without("pod"), "InvalidIdentityToken"),
        (without("namespace"), "InvalidIdentityToken"),
        (other_subject, "InvalidIdentityToken"),
        (expired, "ExpiredTokenException"),
    ] {
        let got = ask_for(&broker, &a, pod(&sign(&signing, &claims))).await;
        assert_eq!(got, expected, "{claims}");
    }
    let forged = sign(&signing_key(), &good);
    assert_eq!(
        ask_for(&broker, &a, pod(&forged)).await,
        "InvalidIdentityToken"
    );
    // In another cluster of the node's account there is no such association.
    let elsewhere = Workload::Pod {
        cluster: "test".into(),
        token: std::sync::Arc::new(brevet::base::secret::Secret::new(token)),
    };
    assert_eq!(ask_for(&broker, &a, elsewhere).await, "AccessDenied");
    let audit = broker.into_audit().await;
    let granted = audit.iter().find(|record| {
        record["eventName"] == "AssumeRoleForWorkload" && record["errorCode"].is_null()
    });
    let workload = &granted.unwrap()["requestParameters"]["workload"];
    assert_eq!(
        (
            &workload["namespace"],
            &workload["serviceAccount"],
            &workload["nodeName"]
        ),
        (&json!("payments"), &json!("api"), &json!("worker-a"))
    );
    assert!(
        !audit
            .iter()
            .any(|record| record.to_string().contains("eyJ")),
        "a token in the audit"
    );
}

#[tokio::test]
async fn ag_06_a_node_with_a_token_of_its_own_is_the_node_that_the_token_names() {
    let signing = signing_key();
    let broker = broker_with(&signing).await;
    let node_with = async |name: &str, claim: &str, value: Value| {
        let claim = (claim, value);
        let got = node_of_cluster(&broker, &signing, name, claim).await;
        got.unwrap()
    };
    let node = async |name: &str| node_with(name, "jti", json!("1")).await;
    let token = sign(
        &signing,
        &claims("pods.eks.amazonaws.com", "payments", "api", "worker-a"),
    );
    let (a, b) = (node("worker-a").await, node("worker-b").await);
    assert_eq!(
        ask_for(&broker, &a, pod(&token)).await,
        session("pod", "eks-prod-api-7d9f-5f2a9c1e")
    );
    assert_eq!(ask_for(&broker, &b, pod(&token)).await, "AccessDenied");
    // What must be passed on along a chain of sessions is not lost on the way.
    let tags = json!({"principal_tags": {"Team": ["blue"]}, "transitive_tag_keys": ["Team"]});
    for (claim, value) in [
        ("https://aws.amazon.com/source_identity", json!("somebody")),
        ("https://aws.amazon.com/tags", tags),
    ] {
        let marked = node_with("worker-a", claim, value).await;
        let refused = ask_for(&broker, &marked, pod(&token)).await;
        assert_eq!(refused, "AccessDenied", "{claim}");
    }
    // As with every chain of sessions, an hour is the most.
    let long = AssumeRoleForWorkload {
        duration_seconds: Some(3_601),
        ..AssumeRoleForWorkload::new(pod(&token))
    };
    assert_eq!(ask(&broker, &a, &long).await, "ValidationError");
    assert!(
        ask(&broker, &keys_of("node-a"), &long)
            .await
            .starts_with("arn:")
    );
}

#[tokio::test]
async fn nodes_of_a_cluster_that_share_a_role_have_budgets_of_their_own() {
    let signing = signing_key();
    let broker = configured_broker_with(&signing, |c| {
        c.budgets = brevet::budgets::BudgetLimits {
            principal_calls: std::num::NonZeroU32::new(5),
            ..brevet::budgets::BudgetLimits::OFF
        };
    })
    .await;
    let node =
        async |name: &str| node_of_cluster(&broker, &signing, name, ("jti", json!("1"))).await;
    let token = sign(
        &signing,
        &claims("pods.eks.amazonaws.com", "payments", "api", "worker-a"),
    );
    // The tokens and the sessions of one node, however many agents it starts, and those of another one.
    let a = node("worker-a").await.unwrap();
    let mut asked = 0;
    while ask_for(&broker, &a, pod(&token)).await != "Throttling" {
        asked += 1;
        assert!(asked < 100, "calls are not bounded");
    }
    let b = node("worker-b").await.unwrap();
    assert_eq!(ask_for(&broker, &b, pod(&token)).await, "AccessDenied");
    let mut exchanged = 0;
    let refused = loop {
        match node("worker-a").await {
            Ok(_) => exchanged += 1,
            Err(code) => break code,
        }
        assert!(exchanged < 100, "exchanges are not bounded");
    };
    assert_eq!(refused, "Throttling");
    assert!(node("worker-c").await.is_ok());
}

#[tokio::test]
async fn lists_of_sessions_name_the_workload() {
    let broker = broker_with(&signing_key()).await;
    let a = keys_of("node-a");
    ask_for(&broker, &a, instance("i-0abc")).await;
    ask(&broker, &a, &process("job", &[("unit", "backup.service")])).await;
    broker.assume(&a, &arn("role", "job")).await.unwrap();
    let admin = broker.client(&keys_of("admin"));
    let listed = admin.list_sessions(Default::default()).await.unwrap();
    let mut found: Vec<(&str, &str)> = listed
        .sessions
        .iter()
        .map(|session| (session.made_by.as_str(), session.workload.as_str()))
        .collect();
    found.sort_unstable();
    let expected = [
        ("AssumeRole", ""),
        ("AssumeRoleForWorkload", "instance i-0abc"),
        ("AssumeRoleForWorkload", "unit backup.service"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn imported_trust_policies_decide_for_tasks_and_processes() {
    let broker = broker_with(&signing_key()).await;
    let a = keys_of("node-a");
    assert_eq!(
        ask_for(&broker, &a, task("prod")).await,
        session("task", "0af1")
    );
    // The trust policy is for another cluster; and no association.
    assert_eq!(ask_for(&broker, &a, task("test")).await, "AccessDenied");
    assert_eq!(ask_for(&broker, &a, task("none")).await, "AccessDenied");
    assert_eq!(
        ask_for(&broker, &keys_of("node-b"), task("prod")).await,
        "AccessDenied"
    );
    let good = process("job", &[("unit", "backup.service")]);
    assert_eq!(ask(&broker, &a, &good).await, session("job", "backup"));
    let other = process("job", &[("unit", "web.service")]);
    assert_eq!(ask(&broker, &a, &other).await, "AccessDenied");
    // A role of a service is not one of a process.
    assert_eq!(ask(&broker, &a, &process("web", &[])).await, "AccessDenied");
    let no_role = AssumeRoleForWorkload {
        role_arn: None,
        ..process("job", &[])
    };
    let tagged_pod = AssumeRoleForWorkload {
        tags: vec![("unit".into(), "x".into())],
        ..AssumeRoleForWorkload::new(pod("a.b.c"))
    };
    for wrong in [
        no_role,
        tagged_pod,
        AssumeRoleForWorkload::new(instance("i-")),
        AssumeRoleForWorkload::new(instance("x-0abc")),
        AssumeRoleForWorkload::new(task("a/b")),
    ] {
        assert_eq!(
            ask(&broker, &a, &wrong).await,
            "ValidationError",
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn what_a_node_handed_out_ends_with_the_nodes_key() {
    let dir = home();
    let place = brevet::store::Place::Sqlite(dir.path().join("store.db"));
    fill_store_with(dir.path(), &place, &directory(&signing_key()).to_string()).await;
    let broker = Broker::start_in(dir, in_the_store).await;
    let get = async |node: &str| {
        let request = AssumeRoleForWorkload::new(instance("i-0abc"));
        let client = broker.client(&keys_of(node));
        let got = client.assume_role_for_workload(&request).await.unwrap();
        Keys::from(&got.role.credentials)
    };
    let (of_a, of_b) = (get("node-a").await, get("node-b").await);
    assert_eq!(
        (broker.who(&of_a).await, broker.who(&of_b).await),
        ("ok".into(), "ok".into())
    );
    let hand = broker.hand().await;
    let key = keys_of("node-a").id;
    let change = hand
        .edit(ResourceKind::AccessKey, &key, Edit::SetActive(false))
        .await;
    broker.reaches(change.unwrap()).await;
    assert_ne!(broker.who(&of_a).await, "ok");
    assert_eq!(broker.who(&of_b).await, "ok");
    broker.clock.advance(Duration::from_secs(1));
    // The key becomes active again, but what has ended stays so.
    let change = hand
        .edit(ResourceKind::AccessKey, &key, Edit::SetActive(true))
        .await;
    broker.reaches(change.unwrap()).await;
    assert_ne!(broker.who(&of_a).await, "ok");
    assert_eq!(broker.who(&get("node-a").await).await, "ok");
}

/// A session that a node handed out, as it watches it.
async fn handed_out(broker: &Broker, node: &str) -> (Keys, WatchedSession) {
    let request = AssumeRoleForWorkload::new(instance("i-0abc"));
    let client = broker.client(&keys_of(node));
    let got = client.assume_role_for_workload(&request).await.unwrap();
    let credentials = got.role.credentials;
    let watched = WatchedSession {
        access_key_id: credentials.access_key_id.clone(),
        session_token: credentials.session_token.clone().unwrap(),
    };
    (Keys::from(&credentials), watched)
}

async fn watch(
    broker: &Broker,
    node: &str,
    sessions: &[WatchedSession],
    after: Option<i64>,
) -> Result<RevocationWatch, String> {
    let client = broker.client(&keys_of(node));
    let stream = client.watch_revocations(sessions, after).await;
    stream.map_err(|error| code(&error))
}

/// The next message, or the error code; `None` at the end.
async fn message(stream: &mut RevocationWatch) -> Result<Option<RevocationsSeen>, String> {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("a message comes every five seconds")
        .map_err(|error| code(&error))
}

/// Reads messages until one names a session, and returns it.
async fn next_end(stream: &mut RevocationWatch) -> RevocationsSeen {
    loop {
        let seen = message(stream).await.unwrap().expect("the stream goes on");
        if !seen.ended_access_key_ids.is_empty() {
            return seen;
        }
    }
}

#[tokio::test]
async fn ag_04_a_node_is_told_of_the_end_of_its_sessions_and_of_no_others() {
    let broker = broker_with(&signing_key()).await;
    let (first, one) = handed_out(&broker, "node-a").await;
    let (second, two) = handed_out(&broker, "node-a").await;
    let (_, other) = handed_out(&broker, "node-b").await;
    let both = [one.clone(), two.clone()];
    let mut stream = watch(&broker, "node-a", &both, None).await.unwrap();
    let begun = message(&mut stream).await.unwrap().unwrap();
    assert_eq!(begun.ended_access_key_ids, Vec::<String>::new());
    let admin = keys_of("admin");
    let revoke = async |keys: &Keys| {
        let selector = Selector::AccessKeyId(keys.id.clone());
        broker.revoke(&admin, selector).await.unwrap()
    };
    let change = revoke(&first).await;
    let seen = next_end(&mut stream).await;
    assert_eq!(seen.ended_access_key_ids, std::slice::from_ref(&first.id));
    assert!(seen.sequence_number >= change);
    // A heartbeat names nobody, and nobody twice.
    let heartbeat = message(&mut stream).await.unwrap().unwrap();
    assert!(heartbeat.ended_access_key_ids.is_empty(), "{heartbeat:?}");
    drop(stream);
    // What ends between two streams is in the first message of the next one.
    let change = revoke(&second).await;
    let after = Some(seen.sequence_number.max(change));
    let mut stream = watch(&broker, "node-a", &both, after).await.unwrap();
    let mut ended = next_end(&mut stream).await.ended_access_key_ids;
    ended.sort();
    let mut expected = vec![first.id, second.id];
    expected.sort();
    assert_eq!(ended, expected);
    // Sessions of another node, a token of another key, a session that no node got, and no permission.
    let (_, good) = handed_out(&broker, "node-a").await;
    let swapped = WatchedSession {
        access_key_id: good.access_key_id.clone(),
        ..other.clone()
    };
    let plain = broker
        .assume(&keys_of("node-a"), &arn("role", "job"))
        .await
        .unwrap();
    let plain = WatchedSession {
        access_key_id: plain.id,
        session_token: std::sync::Arc::new(brevet::base::secret::Secret::new(plain.token.unwrap())),
    };
    for (node, sessions, expected) in [
        ("node-a", vec![good.clone(), other.clone()], "AccessDenied"),
        ("node-a", vec![swapped], "AccessDenied"),
        ("node-a", vec![plain], "AccessDenied"),
        ("node-b", vec![good.clone()], "AccessDenied"),
        ("node-c", vec![good.clone()], "AccessDenied"),
        (
            "node-a",
            vec![good.clone(), good.clone()],
            "ValidationError",
        ),
        ("node-a", Vec::new(), "ValidationError"),
    ] {
        let got = watch(&broker, node, &sessions, None).await.map(drop);
        assert_eq!(got, Err(expected.to_owned()), "{node} {sessions:?}");
    }
    let unknown = Some(change + 1_000);
    let got = watch(&broker, "node-a", &[good], unknown).await.map(drop);
    assert_eq!(got, Err("ServiceUnavailable".to_owned()));
}

#[tokio::test]
async fn a_watch_ends_with_the_right_to_watch_and_is_bounded() {
    let dir = home();
    let place = brevet::store::Place::Sqlite(dir.path().join("store.db"));
    fill_store_with(dir.path(), &place, &directory(&signing_key()).to_string()).await;
    let mut broker = Broker::start_in(dir, in_the_store).await;
    let (_, of_a) = handed_out(&broker, "node-a").await;
    let (_, of_b) = handed_out(&broker, "node-b").await;
    let (of_a, of_b) = ([of_a], [of_b]);
    let mut open = Vec::new();
    let refused = loop {
        match watch(&broker, "node-a", &of_a, None).await {
            Ok(stream) => open.push(stream),
            Err(code) => break code,
        }
        assert!(open.len() < 100, "streams are not bounded");
    };
    assert_eq!(refused, "Throttling");
    let mut beside = watch(&broker, "node-b", &of_b, None).await.unwrap();
    let hand = broker.hand().await;
    let key = keys_of("node-a").id;
    let change = hand
        .edit(ResourceKind::AccessKey, &key, Edit::SetActive(false))
        .await;
    broker.reaches(change.unwrap()).await;
    let mut stream = open.pop().unwrap();
    let ended = loop {
        match message(&mut stream).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(ended, Err("InvalidClientTokenId".to_owned()));
    // Streams do not keep the broker from stopping.
    assert!(message(&mut beside).await.unwrap().is_some());
    broker.stop().await;
    while let Ok(Some(_)) = message(&mut beside).await {}
}
