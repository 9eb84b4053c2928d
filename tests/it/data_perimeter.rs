//! The policies of AWS's data perimeter examples that speak of STS, in force outside an organization:
//! what a resource control policy says is in a role's trust policy, and what a service control policy
//! says in a permissions boundary. And AWS's example that denies access by the source address.
//!
//! <https://github.com/aws-samples/data-perimeter-policy-examples>: `identity_perimeter_rcp`,
//! `data_perimeter_governance_rcp`, `network_perimeter_sourcevpc_rcp`, `network_perimeter_sourcevpc_scp`.
//! The conditions are theirs; placeholders are filled in as for an account outside an organization.

use brevet::base::entropy::SystemEntropy;
use brevet::session::key_state::KeyState;
use brevet::session::signing_key::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::harness::*;

const ACCOUNT: &str = "111122223333";
const PARTNER_ACCOUNT: &str = "444455556666";
/// The addresses from which the test's clients call, and one from which they do not.
const HERE: &str = "127.0.0.0/8";
const ELSEWHERE: &str = "192.0.2.0/24";

/// A user with tags who may call every STS action, within a permissions boundary if one is given.
struct User {
    account: &'static str,
    name: &'static str,
    tags: Value,
    boundary: Option<Value>,
    policy: Option<Value>,
}

impl User {
    fn new(name: &'static str, tags: &[(&str, &str)]) -> Self {
        let tags = tags
            .iter()
            .map(|(key, value)| json!({"Key": key, "Value": value}))
            .collect();
        Self {
            account: ACCOUNT,
            name,
            tags,
            boundary: None,
            policy: None,
        }
    }

    fn keys(&self) -> Keys {
        keys_of(self.name)
    }
}

/// The name, trust policy and tags of a role.
type Role<'a> = (&'a str, Value, &'a [(&'a str, &'a str)]);

fn keys_of(name: &str) -> Keys {
    let id = format!("AKIA{:0>16}", name.to_ascii_uppercase());
    Keys {
        id,
        secret: format!("canary+secret/of/{name:0>23}"),
        token: None,
    }
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

fn document(statements: Vec<Value>) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn everything() -> Value {
    json!({"Effect": "Allow", "Action": "*", "Resource": "*"})
}

/// Everybody in both accounts may assume the role, except as the statements deny it.
fn trust(denies: &[Value]) -> Value {
    let actions = [
        "sts:AssumeRole",
        "sts:AssumeRoleWithWebIdentity",
        "sts:TagSession",
        "sts:SetSourceIdentity",
    ];
    let providers = [
        provider_arn("one.example.com"),
        provider_arn("two.example.com"),
        provider_arn("three.example.com"),
    ];
    let allow = json!({"Effect": "Allow", "Principal": {"AWS": [ACCOUNT, PARTNER_ACCOUNT], "Federated": providers}, "Action": actions});
    document([&[allow], denies].concat())
}

fn provider_arn(host: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{host}")
}

fn signing_key() -> SigningKey {
    SigningKey::generate(
        Algorithm::ES384,
        KeyState::Current,
        &SystemEntropy::new(),
        now(),
    )
    .unwrap()
}

async fn broker(users: &[User], roles: &[Role<'_>], signing: &SigningKey) -> Broker {
    let (mut listed, mut policies, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for user in users {
        let arn = format!("arn:aws:iam::{}:user/{}", user.account, user.name);
        let own = user
            .policy
            .clone()
            .unwrap_or_else(|| document(vec![everything()]));
        let mut entry = json!({"UserName": user.name, "UserId": format!("AIDA{:0>16}", user.name.to_ascii_uppercase()), "Arn": arn,
            "Tags": user.tags, "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": own}]});
        if let Some(boundary) = &user.boundary {
            let bound = format!("arn:aws:iam::{}:policy/{}", user.account, user.name);
            entry["PermissionsBoundary"] =
                json!({"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": bound});
            policies.push(
                json!({"PolicyName": user.name, "PolicyId": format!("ANPA{:0>16}", user.name.to_ascii_uppercase()),
                "Arn": bound, "Path": "/", "DefaultVersionId": "v1",
                "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": boundary}]}),
            );
        }
        listed.push(entry);
        let held = user.keys();
        keys.push(json!({"UserArn": arn, "AccessKeyId": held.id, "SecretAccessKey": held.secret}));
    }
    let roles: Vec<Value> = roles
        .iter()
        .map(|(name, trust, tags)| {
            let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
            json!({"RoleName": name, "RoleId": format!("AROA{:0>16}", name.to_ascii_uppercase()), "Arn": role(name), "Tags": tags,
                "AssumeRolePolicyDocument": trust,
                "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": document(vec![everything()])}]})
        })
        .collect();
    let providers: Vec<Value> = ["one.example.com", "two.example.com", "three.example.com"]
        .iter()
        .map(|host| {
            json!({"Arn": provider_arn(host), "Url": format!("https://{host}"), "ClientIDList": ["brevet"],
                "JsonWebKeySet": {"keys": [signing.jwk()]}})
        })
        .collect();
    let directory = json!({"UserDetailList": listed, "GroupDetailList": [], "RoleDetailList": roles, "Policies": policies,
        "Brevet": {"AccessKeys": keys, "OpenIDConnectProviders": providers}});
    let home = home();
    brevet::files::write_private(
        &home.path().join("directory.json"),
        directory.to_string().as_bytes(),
    )
    .unwrap();
    Broker::start_in(home, |_| {}).await
}

async fn assume(broker: &Broker, user: &str, role_name: &str, tags: &[&str]) -> String {
    let role = role(role_name);
    let mut form = vec![
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", &*role),
        ("RoleSessionName", "asked"),
    ];
    let names: Vec<_> = (1..=tags.len())
        .map(|n| {
            (
                format!("Tags.member.{n}.Key"),
                format!("Tags.member.{n}.Value"),
            )
        })
        .collect();
    for ((key, value), tag) in names.iter().zip(tags) {
        form.extend([(key.as_str(), *tag), (value.as_str(), "true")]);
    }
    broker
        .query(Some(&keys_of(user)), &form)
        .await
        .code()
        .to_owned()
}

async fn login(
    broker: &Broker,
    signing: &SigningKey,
    host: &str,
    sub: &str,
    role_name: &str,
) -> String {
    let claims = json!({"iss": format!("https://{host}"), "sub": sub, "aud": "brevet", "iat": now().seconds() - 5,
        "exp": now().seconds() + 300});
    let (role, token) = (
        role(role_name),
        signing.sign(claims.to_string().as_bytes()).unwrap(),
    );
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        VERSION,
        ("RoleArn", &*role),
        ("RoleSessionName", "asked"),
        ("WebIdentityToken", &*token),
    ];
    broker.query(None, &form).await.code().to_owned()
}

#[tokio::test]
async fn the_identity_perimeter_of_resources() {
    let tenant = |claim: &str| format!("{claim}.example.com:sub");
    let denies = [
        json!({"Sid": "TrustedIdentities", "Effect": "Deny", "Principal": "*",
            "Action": ["sts:AssumeRole", "sts:GetFederationToken", "sts:GetSessionToken", "sts:SetContext"],
            "Condition": {
                "StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-exampleorgid", "aws:PrincipalAccount": [ACCOUNT],
                    "aws:ResourceTag/dp:exclude:identity": "true"},
                "BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}}),
        json!({"Sid": "TrustedTenants", "Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringNotEqualsIfExists": {tenant("one"): "tenant-1", "aws:ResourceTag/dp:exclude:identity": "true"},
                "Null": {tenant("one"): "false"}}}),
        json!({"Sid": "TrustedProviders", "Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"Null": {tenant("one"): "true", tenant("two"): "true"}}}),
        json!({"Sid": "NoConfusedDeputy", "Effect": "Deny", "Principal": "*", "Action": "sts:*",
            "Condition": {
                "StringNotEqualsIfExists": {"aws:SourceOrgID": "o-exampleorgid", "aws:SourceAccount": [PARTNER_ACCOUNT],
                    "aws:ResourceTag/dp:exclude:identity": "true"},
                "Null": {"aws:SourceAccount": "false"},
                "Bool": {"aws:PrincipalIsAWSService": "true"}}}),
    ];
    let mut stranger = User::new("stranger", &[]);
    stranger.account = PARTNER_ACCOUNT;
    let signing = signing_key();
    let roles: [Role; 3] = [
        ("Guarded", trust(&denies), &[]),
        (
            "Excluded",
            trust(&denies),
            &[("dp:exclude:identity", "true")],
        ),
        ("Plain", trust(&[]), &[]),
    ];
    let broker = broker(&[User::new("own", &[]), stranger], &roles, &signing).await;
    for (user, role, expected) in [
        ("own", "Guarded", "ok"),
        ("own", "Excluded", "ok"),
        ("stranger", "Plain", "ok"),
        ("stranger", "Guarded", "AccessDenied"),
        ("stranger", "Excluded", "ok"),
    ] {
        assert_eq!(
            assume(&broker, user, role, &[]).await,
            expected,
            "{user} {role}"
        );
    }
    for (host, sub, role, expected) in [
        ("one.example.com", "tenant-1", "Guarded", "ok"),
        ("one.example.com", "tenant-2", "Guarded", "AccessDenied"),
        ("one.example.com", "tenant-2", "Excluded", "ok"),
        ("two.example.com", "anybody", "Guarded", "ok"),
        ("three.example.com", "tenant-1", "Guarded", "AccessDenied"),
        ("three.example.com", "tenant-1", "Plain", "ok"),
    ] {
        assert_eq!(
            login(&broker, &signing, host, sub, role).await,
            expected,
            "{host} {sub} {role}"
        );
    }
}

#[tokio::test]
async fn the_governance_of_session_tags() {
    let denies = [
        json!({"Sid": "PerimeterTags", "Effect": "Deny", "Principal": "*", "Action": ["sts:TagSession"],
        "Condition": {
            "Null": {"SAML:aud": "true"},
            "StringNotEqualsIfExists": {"aws:PrincipalTag/team": "admin", "aws:PrincipalOrgID": "o-exampleorgid"},
            "ForAnyValue:StringLike": {"aws:TagKeys": ["dp:*", "team"]}}}),
    ];
    let users = [
        User::new("admin", &[("team", "admin")]),
        User::new("other", &[("team", "blue")]),
        User::new("bare", &[]),
    ];
    let broker = broker(&users, &[("Guarded", trust(&denies), &[])], &signing_key()).await;
    for (user, tags, expected) in [
        ("admin", &["dp:exclude"][..], "ok"),
        ("admin", &["team"], "ok"),
        ("other", &[], "ok"),
        ("other", &["project"], "ok"),
        ("other", &["dp:exclude:network"], "AccessDenied"),
        ("other", &["project", "team"], "AccessDenied"),
        ("bare", &["dp:exclude"], "AccessDenied"),
        ("bare", &["project"], "ok"),
    ] {
        assert_eq!(
            assume(&broker, user, "Guarded", tags).await,
            expected,
            "{user} {tags:?}"
        );
    }
}

/// The conditions on the network, filled in for a corporate range.
fn from_elsewhere(range: &str) -> Value {
    json!({
        "NotIpAddressIfExists": {"aws:SourceIp": range},
        "StringNotEqualsIfExists": {"aws:SourceVpc": "vpc-0123456789abcdef0", "aws:PrincipalTag/dp:exclude:network": "true"},
        "BoolIfExists": {"aws:ViaAWSService": "false"},
        "ArnNotLikeIfExists": {"aws:PrincipalArn": ["arn:aws:iam::*:role/aws:ec2-infrastructure"]},
        "StringEquals": {"aws:PrincipalTag/dp:include:network": "true"}
    })
}

/// No call comes through a VPC, so this denies nothing.
fn other_region(principal: bool) -> Value {
    let mut statement = json!({"Sid": "VpcOfThisRegion", "Effect": "Deny", "Action": "*", "Condition": {
        "StringEquals": {"aws:SourceVpc": "vpc-0123456789abcdef0"},
        "StringNotEqualsIfExists": {"aws:RequestedRegion": "eu-west-1"}}});
    match principal {
        true => statement["Principal"] = json!("*"),
        false => statement["Resource"] = json!("*"),
    }
    statement
}

const INCLUDED: &[(&str, &str)] = &[("dp:include:network", "true")];
const SPARED: &[(&str, &str)] = &[
    ("dp:include:network", "true"),
    ("dp:exclude:network", "true"),
];

#[tokio::test]
async fn the_network_perimeter_of_resources() {
    let denies = |range: &str| {
        let mut condition = from_elsewhere(range);
        condition["StringNotEqualsIfExists"]["aws:PrincipalAccount"] = json!([PARTNER_ACCOUNT]);
        condition["StringNotEqualsIfExists"]["aws:ResourceTag/dp:exclude:network"] = json!("true");
        condition["BoolIfExists"]["aws:PrincipalIsAWSService"] = json!("false");
        [
            json!({"Sid": "ExpectedNetworks", "Effect": "Deny", "Principal": "*",
                "Action": ["sts:AssumeRole", "sts:DecodeAuthorizationMessage", "sts:GetAccessKeyInfo", "sts:GetFederationToken",
                    "sts:GetServiceBearerToken", "sts:GetSessionToken", "sts:SetContext"],
                "Condition": condition}),
            other_region(true),
        ]
    };
    let mut partner = User::new("partner", INCLUDED);
    partner.account = PARTNER_ACCOUNT;
    let users = [
        User::new("included", INCLUDED),
        User::new("spared", SPARED),
        User::new("plain", &[]),
        partner,
    ];
    let roles: [Role; 3] = [
        ("Here", trust(&denies(HERE)), &[]),
        ("Elsewhere", trust(&denies(ELSEWHERE)), &[]),
        (
            "Excluded",
            trust(&denies(ELSEWHERE)),
            &[("dp:exclude:network", "true")],
        ),
    ];
    let broker = broker(&users, &roles, &signing_key()).await;
    for (user, role, expected) in [
        ("included", "Here", "ok"),
        ("included", "Elsewhere", "AccessDenied"),
        ("included", "Excluded", "ok"),
        ("spared", "Elsewhere", "ok"),
        ("plain", "Elsewhere", "ok"),
        ("partner", "Elsewhere", "ok"),
    ] {
        assert_eq!(
            assume(&broker, user, role, &[]).await,
            expected,
            "{user} {role}"
        );
    }
}

#[tokio::test]
async fn the_network_perimeter_of_identities() {
    let bound = |range: &str| {
        document(vec![
            everything(),
            json!({"Sid": "ExpectedNetworks", "Effect": "Deny", "NotAction": ["es:ES*", "dax:GetItem", "neptune-db:*", "rds-db:connect"],
                "Resource": "*", "Condition": from_elsewhere(range)}),
            other_region(false),
        ])
    };
    let with = |name, tags: &[(&str, &str)], range: &str, as_boundary: bool| {
        let mut user = User::new(name, tags);
        match as_boundary {
            true => user.boundary = Some(bound(range)),
            false => user.policy = Some(bound(range)),
        }
        user
    };
    let users = [
        with("here", INCLUDED, HERE, true),
        with("elsewhere", INCLUDED, ELSEWHERE, true),
        with("spared", SPARED, ELSEWHERE, true),
        with("plain", &[], ELSEWHERE, true),
        with("ownhere", INCLUDED, HERE, false),
        with("ownelsewhere", INCLUDED, ELSEWHERE, false),
    ];
    let broker = broker(&users, &[("Target", trust(&[]), &[])], &signing_key()).await;
    for (user, expected) in [
        ("here", "ok"),
        ("elsewhere", "AccessDenied"),
        ("spared", "ok"),
        ("plain", "ok"),
        ("ownhere", "ok"),
        ("ownelsewhere", "AccessDenied"),
    ] {
        assert_eq!(
            assume(&broker, user, "Target", &[]).await,
            expected,
            "{user}"
        );
        // It holds for every action, and GetCallerIdentity needs no permission.
        let form = [
            ("Action", "GetAccessKeyInfo"),
            VERSION,
            ("AccessKeyId", "AKIA0000000000000000"),
        ];
        let denied = broker.query(Some(&keys_of(user)), &form).await;
        assert_eq!(
            denied.code() == "AccessDenied",
            expected == "AccessDenied",
            "{user}: {}",
            denied.body
        );
        let form = [("Action", "GetCallerIdentity"), VERSION];
        assert_eq!(
            broker.query(Some(&keys_of(user)), &form).await.code(),
            "ok",
            "{user}"
        );
    }
}

/// IAM User Guide, "AWS: Denies access to AWS based on the source IP".
#[tokio::test]
async fn access_is_denied_by_the_source_address() {
    let conditions = |range: &str| {
        [
            json!({"NotIpAddress": {"aws:SourceIp": [range]}}),
            json!({"NotIpAddress": {"aws:SourceIp": [range]}, "Bool": {"aws:ViaAWSService": "false"}}),
            json!({"NotIpAddress": {"aws:SourceIp": [range]}, "Bool": {"aws:PrincipalIsAWSService": "false"}}),
            json!({"NotIpAddress": {"aws:SourceIp": [range]},
                "BoolIfExists": {"aws:ViaAWSService": "false", "aws:PrincipalIsAWSService": "false"}}),
        ]
    };
    let deny = |condition: &Value| json!({"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition});
    for (range, expected) in [(HERE, "ok"), (ELSEWHERE, "AccessDenied")] {
        for condition in conditions(range) {
            let mut identity = User::new("identity", &[]);
            identity.policy = Some(document(vec![everything(), deny(&condition)]));
            let mut bounded = User::new("bounded", &[]);
            bounded.boundary = Some(document(vec![everything(), deny(&condition)]));
            let mut in_trust = deny(&condition);
            in_trust.as_object_mut().unwrap().remove("Resource");
            in_trust["Principal"] = json!("*");
            in_trust["Action"] = json!("sts:AssumeRole");
            let roles: [Role; 2] = [
                ("Open", trust(&[]), &[]),
                ("Guarded", trust(&[in_trust]), &[]),
            ];
            let broker = broker(
                &[identity, bounded, User::new("plain", &[])],
                &roles,
                &signing_key(),
            )
            .await;
            assert_eq!(
                assume(&broker, "identity", "Open", &[]).await,
                expected,
                "identity {condition}"
            );
            assert_eq!(
                assume(&broker, "bounded", "Open", &[]).await,
                expected,
                "boundary {condition}"
            );
            assert_eq!(
                assume(&broker, "plain", "Guarded", &[]).await,
                expected,
                "trust {condition}"
            );
            // A session policy, in force on the session's own calls.
            let policy = document(vec![everything(), deny(&condition)]).to_string();
            let open = role("Open");
            let form = [
                ("Action", "AssumeRole"),
                VERSION,
                ("RoleArn", &*open),
                ("RoleSessionName", "cut"),
                ("Policy", &*policy),
            ];
            let answer = broker.query(Some(&keys_of("plain")), &form).await;
            let session = answer.credentials();
            let form = [
                ("Action", "GetAccessKeyInfo"),
                VERSION,
                ("AccessKeyId", &*session.id),
            ];
            assert_eq!(
                broker.query(Some(&session), &form).await.code(),
                expected,
                "session {condition}"
            );
        }
    }
}
