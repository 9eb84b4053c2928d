//! Every documented condition key, evaluated by a running broker in an identity policy, a trust
//! policy, a session policy and a permissions boundary, with Allow and with Deny.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use brevet::base::clock::Clock;
use brevet::base::digest::sha256;
use brevet::base::entropy::SystemEntropy;
use brevet::client::{AssumeRoleForWorkload, Workload};
use brevet::evaluator::keys::{self, ConditionKey, Presence, Source, Type};
use brevet::session::key_state::KeyState;
use brevet::session::signing_key::{Algorithm, SigningKey};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::harness::*;
use crate::saml_idp::{Idp, RECIPIENT, Says};

const ACCOUNT: &str = "111122223333";
const HOST: &str = "idp.example.com/tenant";
const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/idp.example.com/tenant";
const SAML_PROVIDER: &str = "arn:aws:iam::111122223333:saml-provider/corp";
const ENTITY: &str = "https://idp.example.com/saml";
/// The attributes of assertions, with the condition keys that they set.
const ATTRIBUTES: [(&str, &str); 26] = [
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.1",
        "saml:edupersonaffiliation",
    ),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.2", "saml:edupersonnickname"),
    ("urn:oid:1.3.6.1.4.1.5923.1.1.1.3", "saml:edupersonorgdn"),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.4",
        "saml:edupersonorgunitdn",
    ),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.5",
        "saml:edupersonprimaryaffiliation",
    ),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.6",
        "saml:edupersonprincipalname",
    ),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.7",
        "saml:edupersonentitlement",
    ),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.8",
        "saml:edupersonprimaryorgunitdn",
    ),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.9",
        "saml:edupersonscopedaffiliation",
    ),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.10",
        "saml:edupersontargetedid",
    ),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.1.1.11",
        "saml:edupersonassurance",
    ),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.2", "saml:eduorghomepageuri"),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.2.1.3",
        "saml:eduorgidentityauthnpolicyuri",
    ),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.4", "saml:eduorglegalname"),
    ("urn:oid:1.3.6.1.4.1.5923.1.2.1.5", "saml:eduorgsuperioruri"),
    (
        "urn:oid:1.3.6.1.4.1.5923.1.2.1.6",
        "saml:eduorgwhitepagesuri",
    ),
    ("urn:oid:2.5.4.3", "saml:cn"),
    (
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
        "saml:name",
    ),
    (
        "http://schemas.xmlsoap.org/claims/CommonName",
        "saml:commonName",
    ),
    (
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname",
        "saml:givenName",
    ),
    (
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname",
        "saml:surname",
    ),
    ("urn:oid:0.9.2342.19200300.100.1.3", "saml:mail"),
    (
        "http://schemas.microsoft.com/ws/2008/06/identity/claims/primarygroupsid",
        "saml:primaryGroupSID",
    ),
    ("2.5.4.45", "saml:x500UniqueIdentifier"),
    ("urn:oid:0.9.2342.19200300.100.1.1", "saml:uid"),
    ("0.9.2342.19200300.100.1.45", "saml:organizationStatus"),
];
const AWS_POLICY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const SEED: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";
/// The service that assumes the roles of tasks.
const SERVICE: &str = "ecs-tasks.amazonaws.com";
/// A principal that is not under test, and what is asked for if its trust policy is not under test.
const CALLER: &str = "caller";
const BASE: &str = "Base";
const TARGET: &str = "Target";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Identity,
    Trust,
    Session,
    Boundary,
}

/// The credentials with which the question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The long-term key of a user.
    User,
    /// A session of GetSessionToken with MFA.
    Mfa,
    /// A session of AssumeRole, with a source identity and a transitive tag.
    Role,
    /// A session of AssumeRoleWithWebIdentity.
    Web,
    /// A provider's token alone: the question is AssumeRoleWithWebIdentity itself.
    Token,
    /// A session of AssumeRoleWithSAML.
    Saml,
    /// An assertion alone: the question is AssumeRoleWithSAML itself.
    Assertion,
    /// A node that asks for a task of its: the question is AssumeRoleForWorkload itself.
    Node,
}

/// The call of the question, unless it is AssumeRoleWithWebIdentity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    AssumeRole,
    GetWebIdentityToken,
    AttachUserPolicy,
    PutUserPermissionsBoundary,
    AddRoleToInstanceProfile,
}

/// One question: whether a call is allowed if the policy in this place has this condition.
#[derive(Debug, Clone)]
struct Ask {
    place: Place,
    by: By,
    what: What,
    key: String,
    operator: String,
    wanted: Value,
    /// Whether the condition is met.
    holds: bool,
    denies: bool,
    number: usize,
}

impl Ask {
    /// The principal under test, or the caller if no principal's policies are under test.
    fn user(&self) -> String {
        if self.is_own() {
            format!("ask-{}", self.number)
        } else {
            CALLER.to_owned()
        }
    }

    fn role(&self) -> String {
        if self.is_own() {
            format!("Ask-{}", self.number)
        } else {
            BASE.to_owned()
        }
    }

    fn target(&self) -> String {
        if self.place == Place::Trust {
            format!("Target-{}", self.number)
        } else {
            TARGET.to_owned()
        }
    }

    fn is_own(&self) -> bool {
        matches!(self.place, Place::Identity | Place::Boundary)
    }

    /// The statements of the policy under test, with a principal element if it is a trust policy.
    fn statements(&self) -> Value {
        let actions = json!([
            "sts:AssumeRole",
            "sts:TagSession",
            "sts:SetSourceIdentity",
            "sts:AssumeRoleWithWebIdentity",
            "sts:AssumeRoleWithSAML",
            "sts:GetWebIdentityToken",
            "sts:TagGetWebIdentityToken"
        ]);
        // The condition keys of a role that is passed are those of `iam:PassRole`, which a call includes.
        let passes = self.what == What::AddRoleToInstanceProfile;
        let statement = |effect: &str, condition: Value| {
            let mut s = json!({"Effect": effect, "Action": actions});
            match self.what {
                What::AddRoleToInstanceProfile if !condition.is_null() => {
                    s["Action"] = json!("iam:PassRole");
                }
                What::AssumeRole | What::GetWebIdentityToken => {}
                _ => s["Action"] = json!("iam:*"),
            }
            match self.place {
                Place::Trust => {
                    s["Principal"] = json!({"AWS": ACCOUNT, "Federated": [PROVIDER, SAML_PROVIDER],
                        "Service": SERVICE})
                }
                _ => s["Resource"] = json!("*"),
            }
            if !condition.is_null() {
                s["Condition"] = condition;
            }
            s
        };
        let condition = json!({self.operator.clone(): {self.key.clone(): self.wanted.clone()}});
        match self.denies {
            false if passes => json!([
                {"Effect": "Allow", "Action": "iam:AddRoleToInstanceProfile", "Resource": "*"},
                statement("Allow", condition)
            ]),
            false => json!([statement("Allow", condition)]),
            true => json!([
                statement("Allow", Value::Null),
                statement("Deny", condition)
            ]),
        }
    }

    fn document(&self) -> Value {
        json!({"Version": "2012-10-17", "Statement": self.statements()})
    }

    fn expected(&self) -> &'static str {
        if self.holds != self.denies {
            "ok"
        } else {
            "AccessDenied"
        }
    }
}

fn policy(document: Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": document})
}

fn everything() -> Value {
    policy(
        json!([{"Effect": "Allow", "Action": ["sts:*", "iam:*", "brevet:AssumeRoleForWorkload"], "Resource": "*"}]),
    )
}

fn user_id(name: &str) -> String {
    format!("AIDA{:0>16}", name.to_ascii_uppercase().replace('-', ""))
}

fn role_id(name: &str) -> String {
    format!("AROA{:0>16}", name.to_ascii_uppercase().replace('-', ""))
}

fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:{kind}/{name}")
}

/// How a key that is present is tested: the credentials, the call, the operator, its value and
/// another value. `None` if no request has the key in this place.
fn question(key: &str, place: Place, ask: &Ask) -> Option<(By, What, &'static str, Value, Value)> {
    let in_session = place == Place::Session;
    // Session policies cut sessions; elsewhere a user asks.
    let plain = if in_session { By::Role } else { By::User };
    let (user, role) = (ask.user(), ask.role());
    let now = asked_at();
    let by = |by, operator, right, wrong| Some((by, What::AssumeRole, operator, right, wrong));
    let plainly =
        |operator, right: &str, wrong: &str| by(plain, operator, json!(right), json!(wrong));
    let token = |operator, right: Value, wrong: Value| {
        (place == Place::Trust).then_some((By::Token, What::AssumeRole, operator, right, wrong))
    };
    let of_node = |operator, right: &str, wrong: &str| {
        let asked = (
            By::Node,
            What::AssumeRole,
            operator,
            json!(right),
            json!(wrong),
        );
        (place == Place::Trust).then_some(asked)
    };
    let minted = |operator, right: Value, wrong: Value| {
        (place != Place::Trust).then_some((
            plain,
            What::GetWebIdentityToken,
            operator,
            right,
            wrong,
        ))
    };
    let asserted = |right: &str| {
        let operator = match key.starts_with("saml:") && keys::find(key).unwrap().multivalued {
            true => "ForAnyValue:StringEquals",
            false => "StringEquals",
        };
        let asked = (
            By::Assertion,
            What::AssumeRole,
            operator,
            json!(right),
            json!("other"),
        );
        (place == Place::Trust).then_some(asked)
    };
    let changed = |what, operator, right: &str, wrong: &str| {
        (place != Place::Trust).then_some((plain, what, operator, json!(right), json!(wrong)))
    };
    if ATTRIBUTES.iter().any(|(_, k)| *k == key) {
        return asserted(&format!("value of {key}"));
    }
    match key {
        "saml:aud" => asserted(RECIPIENT),
        "saml:iss" => asserted(ENTITY),
        "saml:doc" => asserted("111122223333/corp"),
        "saml:sub" => by(By::Saml, "StringEquals", json!("alice"), json!("bob")),
        "saml:sub_type" => by(
            By::Saml,
            "StringEquals",
            json!("persistent"),
            json!("transient"),
        ),
        "saml:namequalifier" => {
            let hash = "q9cKCJk6vpTW1u2/xwTUYDemF2k=";
            by(By::Saml, "StringEquals", json!(hash), json!("other"))
        }
        "aws:PrincipalArn" => {
            let own = if in_session {
                arn("role", &role)
            } else {
                arn("user", &user)
            };
            by(plain, "ArnEquals", json!(own), json!(arn("user", "nobody")))
        }
        "aws:PrincipalAccount" | "aws:ResourceAccount" => {
            plainly("StringEquals", ACCOUNT, "999999999999")
        }
        "aws:PrincipalOrgID" | "aws:ResourceOrgID" => {
            plainly("StringEquals", "o-exampleorgid", "o-otherorgid")
        }
        "aws:PrincipalOrgPaths" | "aws:ResourceOrgPaths" => plainly(
            "ForAnyValue:StringEquals",
            "o-exampleorgid/r-exam/",
            "o-exampleorgid/r-other/",
        ),
        "aws:PrincipalServiceName" => of_node("StringEquals", SERVICE, "ec2.amazonaws.com"),
        "aws:PrincipalServiceNamesList" => {
            of_node("ForAnyValue:StringEquals", SERVICE, "ec2.amazonaws.com")
        }
        "aws:SourceAccount" => of_node("StringEquals", ACCOUNT, "999999999999"),
        "aws:SourceArn" => of_node(
            "ArnEquals",
            "arn:aws:ecs:us-east-1:111122223333:task/cluster/asked",
            "arn:aws:ecs:us-east-1:111122223333:task/cluster/other",
        ),
        "aws:SourceOrgID" => of_node("StringEquals", "o-exampleorgid", "o-otherorgid"),
        "aws:SourceOrgPaths" => of_node(
            "ForAnyValue:StringEquals",
            "o-exampleorgid/r-exam/",
            "o-exampleorgid/r-other/",
        ),
        "aws:PrincipalTag/" => plainly("StringEquals", "blue", "red"),
        "aws:PrincipalIsAWSService" | "aws:ViaAWSService" | "aws:ViaAWSMCPService" => {
            plainly("Bool", "false", "true")
        }
        "aws:PrincipalType" => plainly(
            "StringEquals",
            if in_session { "AssumedRole" } else { "User" },
            "Account",
        ),
        "aws:userid" => {
            let own = if in_session {
                format!("{}:asking", role_id(&role))
            } else {
                user_id(&user)
            };
            plainly("StringEquals", &own, "AIDANOBODY")
        }
        "aws:username" if in_session => None,
        "aws:username" => plainly("StringEquals", &user, "nobody"),
        "aws:FederatedProvider" => by(
            By::Web,
            "StringEquals",
            json!(PROVIDER),
            json!(arn("oidc-provider", "other")),
        ),
        "aws:TokenIssueTime" => by(
            By::Role,
            "DateEquals",
            json!(now.to_string()),
            json!("2020-01-01"),
        ),
        "aws:MultiFactorAuthAge" if in_session => None,
        "aws:MultiFactorAuthAge" => by(By::Mfa, "NumericEquals", json!("0"), json!("99")),
        "aws:MultiFactorAuthPresent" if in_session => {
            by(By::Role, "Bool", json!("false"), json!("true"))
        }
        "aws:MultiFactorAuthPresent" => by(By::Mfa, "Bool", json!("true"), json!("false")),
        "aws:SourceIdentity" => by(By::Role, "StringEquals", json!("alice"), json!("bob")),
        "aws:SourceIp" => plainly("IpAddress", "127.0.0.0/8", "192.0.2.0/24"),
        "aws:ResourceTag/" | "iam:ResourceTag/" => plainly("StringEquals", "gold", "lead"),
        "aws:CurrentTime" => plainly("DateEquals", &now.to_string(), "2020-01-01"),
        "aws:EpochTime" => plainly("NumericEquals", &now.seconds().to_string(), "1"),
        "aws:referer" => plainly(
            "StringEquals",
            "https://console.example.com/",
            "https://example.org/",
        ),
        "aws:RequestedRegion" => plainly("StringEquals", "eu-central-1", "us-east-1"),
        "aws:RequestTag/" => plainly("StringEquals", "x", "y"),
        "aws:TagKeys" | "sts:TransitiveTagKeys" => {
            plainly("ForAnyValue:StringEquals", "project", "other")
        }
        "aws:SecureTransport" => plainly("Bool", "false", "true"),
        "aws:UserAgent" => plainly("StringEquals", "tests/1", "tests/2"),
        ":amr" => by(
            By::Web,
            "ForAnyValue:StringEquals",
            json!("otp"),
            json!("sms"),
        ),
        ":aud" => by(By::Web, "StringEquals", json!("brevet"), json!("other")),
        ":sub" => by(
            By::Web,
            "StringEquals",
            json!("alice@corp"),
            json!("bob@corp"),
        ),
        ":email" => token(
            "StringEquals",
            json!("alice@example.com"),
            json!("bob@example.com"),
        ),
        ":oaud" => token("StringEquals", json!("brevet"), json!("other")),
        ":" => token("NumericEquals", json!("3"), json!("4")),
        "sts:RoleAuthorizedByIdp" => token("Bool", json!("true"), json!("false")),
        "sts:DurationSeconds" => minted("NumericEquals", json!("300"), json!("900")),
        "sts:IdentityTokenAudience" => {
            minted("ForAnyValue:StringEquals", json!("relying"), json!("other"))
        }
        "sts:SigningAlgorithm" => minted("StringEquals", json!("ES384"), json!("RS256")),
        "sts:ExternalId" => plainly("StringEquals", "Customer-42", "Customer-43"),
        "sts:RoleSessionName" => plainly("StringEquals", "asked", "other"),
        "sts:SourceIdentity" => plainly("StringEquals", "alice", "bob"),
        "iam:PolicyARN" => changed(What::AttachUserPolicy, "ArnEquals", AWS_POLICY, PROVIDER),
        "iam:PermissionsBoundary" => changed(
            What::PutUserPermissionsBoundary,
            "ArnEquals",
            AWS_POLICY,
            PROVIDER,
        ),
        "iam:PassedToService" => changed(
            What::AddRoleToInstanceProfile,
            "StringEquals",
            "ec2.amazonaws.com",
            "ecs-tasks.amazonaws.com",
        ),
        "iam:AssociatedResourceArn" => changed(
            What::AddRoleToInstanceProfile,
            "ArnEquals",
            &arn("instance-profile", "profile"),
            PROVIDER,
        ),
        other => panic!(
            "the table has {other} as present, and this test does not know how to ask for it"
        ),
    }
}

/// The key as it is written in policies.
fn concrete(name: &str) -> String {
    match name {
        "aws:PrincipalTag/" => "aws:PrincipalTag/team".into(),
        "aws:ResourceTag/" | "iam:ResourceTag/" => format!("{name}tier"),
        "aws:RequestTag/" => "aws:RequestTag/project".into(),
        ":" => format!("{HOST}:level"),
        name if name.starts_with(':') => format!("{HOST}{name}"),
        name if name.ends_with('/') => format!("{name}any"),
        name => name.to_owned(),
    }
}

/// A condition that is met by every value of the type, but not by an absent key.
fn any_value(r#type: Type, multivalued: bool) -> (String, Vec<&'static str>) {
    let (operator, wanted) = match r#type {
        Type::String | Type::Arn => ("StringLike", vec!["*"]),
        Type::Bool => ("Bool", vec!["true", "false"]),
        Type::Date => ("DateGreaterThan", vec!["1970-01-01"]),
        Type::Numeric => ("NumericGreaterThanEquals", vec!["-1000000"]),
        Type::IpAddress => ("IpAddress", vec!["0.0.0.0/0", "::/0"]),
    };
    (
        if multivalued {
            format!("ForAnyValue:{operator}")
        } else {
            operator.to_owned()
        },
        wanted,
    )
}

/// The keys of calls. Those of requests to object stores have their tests in `src/s3/actions`.
fn of_calls() -> impl Iterator<Item = &'static ConditionKey> {
    keys::all().filter(|key| key.source != Source::S3)
}

/// Every question, with Allow and with Deny: for a key that is present, with its value and another
/// one; for a key that is absent, whether it has any value.
fn questions() -> Vec<Ask> {
    let mut asks: Vec<Ask> = Vec::new();
    for key in of_calls() {
        for place in [
            Place::Identity,
            Place::Trust,
            Place::Session,
            Place::Boundary,
        ] {
            for denies in [false, true] {
                let mut ask = Ask {
                    place,
                    // Whoever comes from a provider has the most to show.
                    by: if key.name.starts_with(':') || place == Place::Session {
                        By::Web
                    } else if key.name.starts_with("saml:") {
                        By::Saml
                    } else {
                        By::User
                    },
                    what: What::AssumeRole,
                    key: concrete(key.name),
                    operator: String::new(),
                    wanted: Value::Null,
                    holds: false,
                    denies,
                    number: asks.len(),
                };
                let present = !matches!(key.presence, Presence::Never(_));
                match present.then(|| question(key.name, place, &ask)).flatten() {
                    Some((by, what, operator, right, wrong)) => {
                        (ask.by, ask.what, ask.operator) = (by, what, operator.to_owned());
                        asks.push(Ask {
                            wanted: right,
                            holds: true,
                            ..ask.clone()
                        });
                        asks.push(Ask {
                            wanted: wrong,
                            number: asks.len(),
                            ..ask.clone()
                        });
                        if key.name == "aws:FederatedProvider" {
                            // A session from SAML has it, too.
                            for (wanted, holds) in [(SAML_PROVIDER, true), (PROVIDER, false)] {
                                asks.push(Ask {
                                    by: By::Saml,
                                    wanted: json!(wanted),
                                    holds,
                                    number: asks.len(),
                                    ..ask.clone()
                                });
                            }
                        }
                    }
                    None => {
                        let (operator, wanted) = any_value(key.r#type, key.multivalued);
                        (ask.operator, ask.wanted) = (operator, json!(wanted));
                        asks.push(ask);
                    }
                }
            }
        }
    }
    asks
}

/// A directory with a principal and a policy for each question.
fn directory(asks: &[Ask], signing: &SigningKey, idp: &Idp) -> Value {
    let team = json!([{"Key": "team", "Value": "blue"}]);
    let user = |name: &str, document: Value| {
        json!({"UserName": name, "UserId": user_id(name), "Arn": arn("user", name), "Tags": team,
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": document}]})
    };
    let role = |name: &str, trust: Value, document: Value, tags: Value| {
        json!({"RoleName": name, "RoleId": role_id(name), "Arn": arn("role", name), "Tags": tags,
            "AssumeRolePolicyDocument": trust, "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": document}]})
    };
    let anybody = policy(
        json!([{"Effect": "Allow", "Principal": {"AWS": ACCOUNT, "Federated": [PROVIDER, SAML_PROVIDER]},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity", "sts:AssumeRoleWithWebIdentity",
            "sts:AssumeRoleWithSAML"]}]),
    );
    let tier = json!([{"Key": "tier", "Value": "gold"}]);
    let mut users = vec![user(CALLER, everything())];
    let mut roles = vec![
        role(BASE, anybody.clone(), everything(), team.clone()),
        role(TARGET, anybody.clone(), everything(), tier.clone()),
    ];
    let associations: Vec<Value> = asks
        .iter()
        .filter(|ask| ask.by == By::Node)
        .map(|ask| {
            json!({"Cluster": "cluster", "Family": ask.target(), "RoleArn": arn("role", &ask.target())})
        })
        .collect();
    let (mut policies, mut devices) = (Vec::new(), vec![(CALLER.to_owned(), mfa_of(CALLER))]);
    for ask in asks {
        if ask.place == Place::Trust {
            roles.push(role(
                &ask.target(),
                ask.document(),
                everything(),
                tier.clone(),
            ));
        }
        if !ask.is_own() {
            continue;
        }
        let bounded = ask.place == Place::Boundary;
        let own = if bounded {
            everything()
        } else {
            ask.document()
        };
        let mut principal = match ask.by {
            By::User | By::Mfa => user(&ask.user(), own),
            _ => role(&ask.role(), anybody.clone(), own, team.clone()),
        };
        if bounded {
            let name = format!("Bound-{}", ask.number);
            principal["PermissionsBoundary"] = json!({"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn("policy", &name)});
            policies.push(
                json!({"PolicyName": name, "PolicyId": format!("ANPA{:0>16}", ask.number), "Arn": arn("policy", &name),
                "Path": "/", "DefaultVersionId": "v1",
                "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": true, "Document": ask.document()}]}),
            );
        }
        match ask.by {
            By::User | By::Mfa => users.push(principal),
            _ => roles.push(principal),
        }
        if ask.by == By::Mfa {
            devices.push((ask.user(), mfa_of(&ask.user())));
        }
    }
    let keys: Vec<Value> = users
        .iter()
        .map(|u| {
            let name = u["UserName"].as_str().unwrap();
            json!({"UserArn": u["Arn"], "AccessKeyId": keys_of(name).id, "SecretAccessKey": keys_of(name).secret})
        })
        .collect();
    let devices: Vec<Value> = devices
        .iter()
        .map(|(user, serial)| json!({"SerialNumber": serial, "UserArn": arn("user", user), "Base32StringSeed": SEED}))
        .collect();
    json!({"UserDetailList": users, "GroupDetailList": [], "RoleDetailList": roles, "Policies": policies, "Brevet": {
        "Organization": {"Id": "o-exampleorgid", "MasterAccountId": ACCOUNT, "Roots": [{"Id": "r-exam"}],
            "Accounts": [{"Id": ACCOUNT, "ParentId": "r-exam"}]},
        "InstanceProfiles": [{"InstanceProfileName": "profile", "InstanceProfileId": "AIPA0000000000000001",
            "Arn": arn("instance-profile", "profile")}],
        "AccessKeys": keys, "MFADevices": devices, "TaskAssociations": associations,
        "OpenIDConnectProviders": [{"Arn": PROVIDER, "Url": format!("https://{HOST}"), "ClientIDList": ["brevet", "api"],
            "JsonWebKeySet": {"keys": [signing.jwk()]}}],
        "SAMLProviders": [idp.declared(SAML_PROVIDER)]
    }})
}

fn mfa_of(user: &str) -> String {
    arn("mfa", user)
}

fn keys_of(user: &str) -> Keys {
    let id = format!("AKIA{:0>16}", user.to_ascii_uppercase().replace('-', ""));
    Keys {
        id,
        secret: format!("canary+secret/of/{user:0>23}"),
        token: None,
    }
}

/// Starts a broker, and sets the time of all questions, since codes from before the store was made
/// are refused.
async fn broker_of(directory: &Value) -> Broker {
    let home = home();
    brevet::files::write_private(
        &home.path().join("directory.json"),
        directory.to_string().as_bytes(),
    )
    .unwrap();
    let broker = Broker::start_in(home, |_| {}).await;
    broker.clock.set(asked_at());
    broker
}

fn asked_at() -> brevet::base::clock::Timestamp {
    now().plus(Duration::from_secs(120))
}

fn token(signing: &SigningKey, more: &Value) -> String {
    let at = asked_at().seconds();
    let mut claims = json!({"iss": format!("https://{HOST}"), "sub": "alice@corp", "aud": "brevet", "iat": at - 10, "exp": at + 300,
        "amr": ["pwd", "otp"], "email": "alice@example.com", "level": 3});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    signing.sign(claims.to_string().as_bytes()).unwrap()
}

/// A signed form for another region than the broker's first one, with the headers that policies can
/// use.
async fn signed(broker: &Broker, keys: &Keys, form: &[(&str, &str)]) -> Answer {
    let body = encode(form);
    let mut headers = form_headers();
    let host = broker.address.to_string();
    keys.signer("eu-central-1")
        .sign(
            "POST",
            "/",
            &host,
            &mut headers,
            &sha256(body.as_bytes()),
            broker.clock.now(),
        )
        .unwrap();
    seen(&mut headers);
    broker.send("POST", "/", headers, body.into_bytes()).await
}

fn seen(headers: &mut HeaderMap) {
    headers.insert("user-agent", "tests/1".parse().unwrap());
    headers.insert("referer", "https://console.example.com/".parse().unwrap());
}

/// Assumes a role with a source identity and a transitive tag, and with a session policy if one is
/// given.
async fn assumed(broker: &Broker, role: &str, policy: Option<&str>) -> Keys {
    let role = arn("role", role);
    let mut form = vec![
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", &*role),
        ("RoleSessionName", "asking"),
        ("SourceIdentity", "alice"),
        ("Tags.member.1.Key", "dept"),
        ("Tags.member.1.Value", "9"),
        ("TransitiveTagKeys.member.1", "dept"),
    ];
    form.extend(policy.map(|policy| ("Policy", policy)));
    signed(broker, &keys_of(CALLER), &form).await.credentials()
}

async fn login(broker: &Broker, role: &str, token: &str, policy: Option<&str>) -> Answer {
    let role = arn("role", role);
    let mut form = vec![
        ("Action", "AssumeRoleWithWebIdentity"),
        VERSION,
        ("RoleArn", &*role),
        ("RoleSessionName", "asking"),
        ("WebIdentityToken", token),
    ];
    form.extend(policy.map(|policy| ("Policy", policy)));
    broker.query(None, &form).await
}

/// Logs in with an assertion that has every attribute that conditions can use.
async fn login_by_saml(
    broker: &Broker,
    role: &str,
    idp: &Idp,
    id: &str,
    policy: Option<&str>,
) -> Answer {
    let role = arn("role", role);
    let mut says = Says::new(id, &role, SAML_PROVIDER, asked_at());
    for (name, key) in ATTRIBUTES {
        says = says.with_any(name, &[&format!("value of {key}")]);
    }
    let response = idp.response(&says);
    let mut form = vec![
        ("Action", "AssumeRoleWithSAML"),
        VERSION,
        ("RoleArn", &*role),
        ("PrincipalArn", SAML_PROVIDER),
        ("SAMLAssertion", &*response),
    ];
    form.extend(policy.map(|policy| ("Policy", policy)));
    broker.query(None, &form).await
}

async fn with_code(broker: &Broker, user: &str) -> Keys {
    let code = crate::mfa::code(broker, 0);
    let serial = mfa_of(user);
    let form = [
        ("Action", "GetSessionToken"),
        VERSION,
        ("SerialNumber", &*serial),
        ("TokenCode", &*code),
    ];
    signed(broker, &keys_of(user), &form).await.credentials()
}

/// Asks a question, and returns the outcome.
async fn answer(
    broker: &Broker,
    ask: &Ask,
    (signing, idp): (&SigningKey, &Idp),
    shared: &mut BTreeMap<String, Keys>,
) -> String {
    let target = arn("role", &ask.target());
    let policy = (ask.place == Place::Session).then(|| ask.document().to_string());
    if ask.by == By::Token {
        let roles = json!({"https://aws.amazon.com/roles": [target]});
        return login(broker, &ask.target(), &token(signing, &roles), None)
            .await
            .code()
            .to_owned();
    }
    if ask.by == By::Node {
        let task = Workload::Task {
            cluster: "cluster".into(),
            family: ask.target(),
            task_id: "asked".into(),
        };
        let client = broker.client(&keys_of(CALLER));
        let got = client
            .assume_role_for_workload(&AssumeRoleForWorkload::new(task))
            .await;
        return got.map_or_else(|error| code(&error), |_| "ok".to_owned());
    }
    let id = format!("question-{}", ask.number);
    if ask.by == By::Assertion {
        let answer = login_by_saml(broker, &ask.target(), idp, &id, None).await;
        return answer.code().to_owned();
    }
    // Credentials that no policy under test is in are made once.
    let name = format!("{:?}", ask.by);
    let keys = match shared.get(&name).filter(|_| ask.place == Place::Trust) {
        Some(keys) => keys.clone(),
        None => match ask.by {
            By::User => keys_of(&ask.user()),
            By::Mfa => with_code(broker, &ask.user()).await,
            By::Role => assumed(broker, &ask.role(), policy.as_deref()).await,
            By::Saml => login_by_saml(broker, &ask.role(), idp, &id, policy.as_deref())
                .await
                .credentials(),
            _ => login(
                broker,
                &ask.role(),
                &token(signing, &json!({})),
                policy.as_deref(),
            )
            .await
            .credentials(),
        },
    };
    if ask.place == Place::Trust {
        shared.insert(name, keys.clone());
    }
    let form: &[(&str, &str)] = match ask.what {
        What::AttachUserPolicy => {
            let form = [("UserName", CALLER), ("PolicyArn", AWS_POLICY)];
            return changed(broker, &keys, "AttachUserPolicy", &form).await;
        }
        What::PutUserPermissionsBoundary => {
            let form = [("UserName", CALLER), ("PermissionsBoundary", AWS_POLICY)];
            return changed(broker, &keys, "PutUserPermissionsBoundary", &form).await;
        }
        What::AddRoleToInstanceProfile => {
            let form = [("InstanceProfileName", "profile"), ("RoleName", TARGET)];
            return changed(broker, &keys, "AddRoleToInstanceProfile", &form).await;
        }
        What::AssumeRole => &[
            ("Action", "AssumeRole"),
            VERSION,
            ("RoleArn", &target),
            ("RoleSessionName", "asked"),
            ("ExternalId", "Customer-42"),
            ("SourceIdentity", "alice"),
            ("Tags.member.1.Key", "project"),
            ("Tags.member.1.Value", "x"),
            ("TransitiveTagKeys.member.1", "project"),
        ],
        What::GetWebIdentityToken => &[
            ("Action", "GetWebIdentityToken"),
            VERSION,
            ("Audience.member.1", "relying"),
            ("SigningAlgorithm", "ES384"),
        ],
    };
    signed(broker, &keys, form).await.code().to_owned()
}

/// Asks for a change. The directory is a file here, so a change that is allowed is refused for that.
async fn changed(broker: &Broker, keys: &Keys, action: &str, form: &[(&str, &str)]) -> String {
    match broker.iam(keys, action, form).await.code() {
        "UnmodifiableEntity" => "ok".to_owned(),
        other => other.to_owned(),
    }
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

#[tokio::test]
async fn az_07_every_documented_condition_key_is_asked_in_every_kind_of_policy() {
    let signing = signing_key();
    let idp = Idp::new(ENTITY);
    let asks = questions();
    let broker = broker_of(&directory(&asks, &signing, &idp)).await;
    let (mut shared, mut wrong) = (BTreeMap::new(), Vec::new());
    for ask in &asks {
        let got = answer(&broker, ask, (&signing, &idp), &mut shared).await;
        if got != ask.expected() {
            wrong.push(format!("{ask:?}: got {got}, expected {}", ask.expected()));
        }
    }
    let asked: BTreeSet<_> = asks.iter().map(|a| &a.key).collect();
    let present: BTreeSet<_> = asks.iter().filter(|a| a.holds).map(|a| &a.key).collect();
    println!(
        "{} keys asked, {} of them present, in {} questions",
        asked.len(),
        present.len(),
        asks.len()
    );
    assert!(
        wrong.is_empty(),
        "{} answers are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(asked.len(), of_calls().count());
    assert_eq!(
        present.len(),
        of_calls()
            .filter(|k| !matches!(k.presence, Presence::Never(_)))
            .count()
    );
}

/// A broker with the caller, `Base` and `Target` of [`directory`], and roles with these trust
/// policies.
async fn broker_with(signing: &SigningKey, roles: &[(&str, Value)]) -> Broker {
    let mut directory = directory(&[], signing, &Idp::new(ENTITY));
    for (name, statements) in roles {
        directory["RoleDetailList"].as_array_mut().unwrap().push(
            json!({"RoleName": name, "RoleId": role_id(name),
            "Arn": arn("role", name), "AssumeRolePolicyDocument": policy(statements.clone()),
            "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": everything()}]}),
        );
    }
    broker_of(&directory).await
}

/// A trust policy with a condition, for sessions of the account or for holders of the provider's
/// tokens.
fn trust(condition: &Value) -> Value {
    json!([{"Effect": "Allow", "Principal": {"AWS": ACCOUNT, "Federated": PROVIDER}, "Condition": condition,
        "Action": ["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"]}])
}

async fn assume(broker: &Broker, keys: &Keys, role: &str) -> Answer {
    let role = arn("role", role);
    signed(
        broker,
        keys,
        &[
            ("Action", "AssumeRole"),
            VERSION,
            ("RoleArn", &role),
            ("RoleSessionName", "again"),
        ],
    )
    .await
}

#[tokio::test]
async fn a_provider_is_known_of_its_own_session_and_of_none_assumed_with_it() {
    let signing = signing_key();
    let sub = format!("{HOST}:sub");
    let roles = [
        (
            "Vouched",
            trust(
                &json!({"StringEquals": {"aws:FederatedProvider": PROVIDER, sub.clone(): "alice@corp"}}),
            ),
        ),
        (
            "Unknown",
            trust(&json!({"Null": {"aws:FederatedProvider": "true", sub: "true"}})),
        ),
    ];
    let broker = broker_with(&signing, &roles).await;
    let first = login(&broker, BASE, &token(&signing, &json!({})), None)
        .await
        .credentials();
    assert_eq!(assume(&broker, &first, "Vouched").await.code(), "ok");
    assert_eq!(
        assume(&broker, &first, "Unknown").await.code(),
        "AccessDenied"
    );
    let second = assume(&broker, &first, TARGET).await.credentials();
    assert_eq!(
        assume(&broker, &second, "Vouched").await.code(),
        "AccessDenied"
    );
    assert_eq!(assume(&broker, &second, "Unknown").await.code(), "ok");
    // A session that nobody but the account vouches for.
    let own = assumed(&broker, BASE, None).await;
    assert_eq!(
        assume(&broker, &own, "Vouched").await.code(),
        "AccessDenied"
    );
}

#[tokio::test]
async fn a_token_that_names_roles_is_good_for_these_alone() {
    let signing = signing_key();
    let roles = [
        (
            "Demanding",
            trust(&json!({"Bool": {"sts:RoleAuthorizedByIdp": "true"}})),
        ),
        (
            "Without",
            trust(&json!({"Bool": {"sts:RoleAuthorizedByIdp": "false"}})),
        ),
    ];
    let broker = broker_with(&signing, &roles).await;
    let claim = |value: Value| json!({"https://aws.amazon.com/roles": value});
    let own = |role: &str| json!(arn("role", role));
    for (role, claims, expected) in [
        ("Demanding", claim(own("Demanding")), "ok"),
        (
            "Demanding",
            claim(json!([own("Without"), own("Demanding")])),
            "ok",
        ),
        ("Demanding", json!({}), "AccessDenied"),
        ("Without", json!({}), "ok"),
        ("Without", claim(own("Without")), "AccessDenied"),
        // Trust policies that say nothing of it are bound by it as well.
        (BASE, claim(own(BASE)), "ok"),
        (BASE, claim(own(TARGET)), "InvalidIdentityToken"),
        (BASE, claim(json!([])), "InvalidIdentityToken"),
        (
            BASE,
            claim(json!("arn:aws:iam::111122223333:role/*")),
            "InvalidIdentityToken",
        ),
        (BASE, claim(json!(BASE)), "InvalidIdentityToken"),
        (
            BASE,
            claim(json!({"role": own(BASE)})),
            "InvalidIdentityToken",
        ),
        (BASE, claim(json!([own(BASE), 1])), "InvalidIdentityToken"),
        (BASE, claim(Value::Null), "InvalidIdentityToken"),
        // A role that is not there answers alike.
        ("Nowhere", claim(own(BASE)), "InvalidIdentityToken"),
        ("Nowhere", claim(own("Nowhere")), "AccessDenied"),
    ] {
        let answer = login(&broker, role, &token(&signing, &claims), None).await;
        assert_eq!(answer.code(), expected, "{role} {claims}");
    }
}

#[tokio::test]
async fn a_single_audience_is_one_value_and_several_are_several() {
    let signing = signing_key();
    let oaud = format!("{HOST}:oaud");
    let roles = [
        (
            "One",
            trust(&json!({"StringEquals": {oaud.clone(): "brevet"}})),
        ),
        (
            "Any",
            trust(&json!({"ForAnyValue:StringEquals": {oaud.clone(): "api"}})),
        ),
        (
            "Api",
            trust(&json!({"StringEquals": {oaud: "api", format!("{HOST}:aud"): "brevet"}})),
        ),
    ];
    let broker = broker_with(&signing, &roles).await;
    let (one, list) = (json!({}), json!({"aud": ["brevet"]}));
    let several = json!({"aud": ["brevet", "api"], "azp": "brevet"});
    let other = json!({"aud": "api", "azp": "brevet"});
    for (role, claims, expected) in [
        ("One", &one, "ok"),
        ("One", &list, "ok"),
        ("One", &several, "AccessDenied"),
        ("Any", &several, "ok"),
        ("Any", &one, "AccessDenied"),
        ("Api", &other, "ok"),
        ("Api", &several, "AccessDenied"),
        ("One", &other, "AccessDenied"),
    ] {
        let answer = login(&broker, role, &token(&signing, claims), None).await;
        assert_eq!(answer.code(), expected, "{role} {claims}");
    }
}

#[tokio::test]
async fn what_a_session_remembers_of_a_token_is_bounded() {
    let signing = signing_key();
    let broker = broker_with(&signing, &[]).await;
    let ask = async |amr: Value| {
        login(&broker, BASE, &token(&signing, &json!({"amr": amr})), None)
            .await
            .code()
            .to_owned()
    };
    assert_eq!(ask(json!("x".repeat(1_024))).await, "ok");
    assert_eq!(ask(json!(vec!["x"; 512])).await, "ok");
    assert_eq!(ask(json!("x".repeat(1_025))).await, "InvalidIdentityToken");
    assert_eq!(ask(json!(vec!["x"; 513])).await, "InvalidIdentityToken");
    assert_eq!(ask(json!(vec![""; 1_025])).await, "InvalidIdentityToken");
    // With everything else as long as it may be the token is still one that can be used.
    let long = json!({"amr": vec![""; 1_024], "sub": "\u{10ffff}".repeat(255),
        "https://aws.amazon.com/source_identity": "s".repeat(64)});
    let session = login(&broker, BASE, &token(&signing, &long), None)
        .await
        .credentials();
    assert_eq!(broker.who(&session).await, "ok");
}

#[tokio::test]
async fn an_empty_tag_is_no_tag_to_a_policy_that_demands_one() {
    let signing = signing_key();
    let mut directory = directory(&[], &signing, &Idp::new(ENTITY));
    let demand = |key: &str| {
        policy(
            json!([{"Effect": "Allow", "Action": "sts:*", "Resource": "*"},
            {"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*", "Condition": {"Null": {key: "true"}}}]),
        )
    };
    for (name, tags, key) in [
        ("asks", json!([]), "aws:RequestTag/Team"),
        (
            "full",
            json!([{"Key": "Cost", "Value": "7"}]),
            "aws:PrincipalTag/Cost",
        ),
        (
            "empty",
            json!([{"Key": "Cost", "Value": ""}]),
            "aws:PrincipalTag/Cost",
        ),
        ("none", json!([]), "aws:PrincipalTag/Cost"),
    ] {
        directory["UserDetailList"].as_array_mut().unwrap().push(json!({"UserName": name, "UserId": user_id(name),
            "Arn": arn("user", name), "Tags": tags, "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": demand(key)}]}));
        directory["Brevet"]["AccessKeys"].as_array_mut().unwrap().push(
            json!({"UserArn": arn("user", name), "AccessKeyId": keys_of(name).id, "SecretAccessKey": keys_of(name).secret}),
        );
    }
    let broker = broker_of(&directory).await;
    let target = arn("role", TARGET);
    let ask = async |user: &str, tag: Option<&str>| {
        let mut form = vec![
            ("Action", "AssumeRole"),
            VERSION,
            ("RoleArn", &*target),
            ("RoleSessionName", "asked"),
        ];
        form.extend(tag.map(|_| ("Tags.member.1.Key", "Team")));
        form.extend(tag.map(|value| ("Tags.member.1.Value", value)));
        signed(&broker, &keys_of(user), &form)
            .await
            .code()
            .to_owned()
    };
    assert_eq!(ask("asks", None).await, "AccessDenied");
    assert_eq!(ask("asks", Some("red")).await, "ok");
    assert_eq!(ask("asks", Some("")).await, "AccessDenied");
    assert_eq!(ask("full", None).await, "ok");
    assert_eq!(ask("empty", None).await, "AccessDenied");
    assert_eq!(ask("none", None).await, "AccessDenied");
}

#[tokio::test]
async fn az_03_a_policy_parameter_has_2048_characters_white_space_included() {
    let signing = signing_key();
    let broker = broker_with(&signing, &[]).await;
    let document = everything().to_string();
    let sized = |n: usize| format!("{document}{}", " ".repeat(n - document.len()));
    let base = arn("role", BASE);
    let token = token(&signing, &json!({}));
    let assume = [
        ("Action", "AssumeRole"),
        ("RoleArn", &*base),
        ("RoleSessionName", "long"),
    ];
    let login = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", &*base),
        ("RoleSessionName", "long"),
        ("WebIdentityToken", &*token),
    ];
    let vouch = [("Action", "GetFederationToken"), ("Name", "long")];
    for form in [&assume[..], &login[..], &vouch[..]] {
        for (length, expected) in [
            (2_048, "ok"),
            (2_049, "ValidationError"),
            (20_000, "ValidationError"),
        ] {
            let policy = sized(length);
            let form = [form, &[VERSION, ("Policy", &policy)]].concat();
            let caller = keys_of(CALLER);
            let keys = (form[0].1 != "AssumeRoleWithWebIdentity").then_some(&caller);
            let answer = broker.query(keys, &form).await;
            assert_eq!(answer.code(), expected, "{} {length}", form[0].1);
            if expected != "ok" {
                let rule = "Member must have length less than or equal to 2048";
                assert!(
                    answer.element("Message").unwrap().contains(rule),
                    "{}",
                    answer.body
                );
            }
        }
    }
    // Over gRPC by the same rule, and a short one that is no policy by its own.
    let mut request = brevet::client::AssumeRole::new(&base, "long");
    for (policy, expected) in [
        (sized(2_049), "ValidationError"),
        ("{}".to_owned(), "MalformedPolicyDocument"),
    ] {
        request.policy = Some(policy);
        let error = broker
            .client(&keys_of(CALLER))
            .assume_role(&request)
            .await
            .map(|_| ())
            .unwrap_err();
        assert_eq!(code(&error), expected);
    }
}
