//! Actions of IAM that are refused by name, and those about credentials that no user here can have.

use crate::harness::*;

const LISTS: [(&str, &str); 4] = [
    ("ListSSHPublicKeys", "SSHPublicKeys"),
    ("ListSigningCertificates", "Certificates"),
    (
        "ListServiceSpecificCredentials",
        "ServiceSpecificCredentials",
    ),
    ("ListServerCertificates", "ServerCertificateMetadataList"),
];
const SSH: (&str, &str) = ("SSHPublicKeyId", "APKAIOSFODNN7EXAMPLE1");
const SIGNING: (&str, &str) = ("CertificateId", "TA7SMP42TDN5Z26OBPJE7EXAMPLE");
const SERVICE: (&str, &str) = ("ServiceSpecificCredentialId", "ACCAIOSFODNN7EXAMPLE");
const SERVER: (&str, &str) = ("ServerCertificateName", "web");
const STATUS: (&str, &str) = ("Status", "Inactive");
/// The actions on one such thing, with what they require in addition to a user's name.
const SINGLES: [(&str, &[(&str, &str)]); 14] = [
    ("GetSSHPublicKey", &[SSH, ("Encoding", "SSH")]),
    ("UpdateSSHPublicKey", &[SSH, STATUS]),
    ("DeleteSSHPublicKey", &[SSH]),
    ("UpdateSigningCertificate", &[SIGNING, STATUS]),
    ("DeleteSigningCertificate", &[SIGNING]),
    ("UpdateServiceSpecificCredential", &[SERVICE, STATUS]),
    ("DeleteServiceSpecificCredential", &[SERVICE]),
    ("ResetServiceSpecificCredential", &[SERVICE]),
    ("GetServerCertificate", &[SERVER]),
    ("UpdateServerCertificate", &[SERVER, ("NewPath", "/x/")]),
    ("DeleteServerCertificate", &[SERVER]),
    ("ListServerCertificateTags", &[SERVER]),
    (
        "TagServerCertificate",
        &[
            SERVER,
            ("Tags.member.1.Key", "k"),
            ("Tags.member.1.Value", "v"),
        ],
    ),
    (
        "UntagServerCertificate",
        &[SERVER, ("TagKeys.member.1", "k")],
    ),
];

/// The parameters of an action, with `UserName` if it is about a user.
fn with_user<'a>(
    action: &str,
    user: &'a str,
    rest: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let user = (!action.contains("ServerCertificate")).then_some(("UserName", user));
    user.into_iter().chain(rest.iter().copied()).collect()
}

#[tokio::test]
async fn credentials_that_nobody_can_have_are_empty_lists_and_not_found() {
    let broker = Broker::start().await;
    let admin = user(ADMIN);
    for (action, list) in LISTS {
        let answer = broker
            .iam(&admin, action, &with_user(action, "bob", &[]))
            .await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.body);
        assert_eq!(answer.element(list), Some(""), "{action}: {}", answer.body);
        assert_eq!(answer.element("IsTruncated"), Some("false"), "{action}");
        assert_eq!(answer.element("Marker"), None, "{action}");
        // Only the action's own list is in the answer.
        for (_, other) in LISTS.iter().filter(|(_, other)| *other != list) {
            assert_eq!(answer.element(other), None, "{action}");
        }
        let marked = with_user(action, "bob", &[("Marker", "x")]);
        let refused = broker.iam(&admin, action, &marked).await;
        assert_eq!(
            (refused.code(), refused.element("Message")),
            ("ValidationError", Some("Invalid Marker.")),
            "{action}"
        );
    }
    // Without a name, the calling user is meant; `AllUsers` is about nobody in particular.
    for (action, form) in [
        ("ListSSHPublicKeys", &[][..]),
        ("ListSigningCertificates", &[]),
        ("ListServiceSpecificCredentials", &[("AllUsers", "true")]),
    ] {
        assert_eq!(
            broker.iam(&admin, action, form).await.code(),
            "ok",
            "{action}"
        );
    }
    for (action, rest) in SINGLES {
        let answer = broker
            .iam(&admin, action, &with_user(action, "bob", rest))
            .await;
        assert_eq!(
            (answer.code(), answer.status),
            ("NoSuchEntity", 404),
            "{action}: {}",
            answer.body
        );
        assert!(
            answer.element("Message").unwrap().contains(rest[0].1),
            "{action}: {}",
            answer.body
        );
    }
    // An unknown user is reported as one.
    let about_users = LISTS.iter().map(|(action, _)| (*action, &[][..]));
    let about_users = about_users.chain(SINGLES);
    for (action, rest) in about_users.filter(|(a, _)| !a.contains("ServerCertificate")) {
        let answer = broker
            .iam(&admin, action, &with_user(action, "nobody", rest))
            .await;
        assert_eq!(
            (answer.code(), answer.element("Message")),
            (
                "NoSuchEntity",
                Some("The user with name nobody cannot be found.")
            ),
            "{action}"
        );
    }
}

#[tokio::test]
async fn who_may_not_ask_does_not_learn_whether_the_user_exists() {
    let broker = Broker::start().await;
    let alice = user("alice");
    let all = LISTS.iter().map(|(action, _)| (*action, &[][..]));
    for (action, rest) in all.chain(SINGLES) {
        for name in ["bob", "nobody"] {
            let form = with_user(action, name, rest);
            let answer = broker.iam(&alice, action, &form).await;
            assert_eq!(answer.code(), "AccessDenied", "{action} of {name}");
            let kind = if action.contains("ServerCertificate") {
                match action {
                    "ListServerCertificates" => "*".to_owned(),
                    _ => "arn:aws:iam::111122223333:server-certificate/web".to_owned(),
                }
            } else {
                format!("arn:aws:iam::111122223333:user/{name}")
            };
            let (message, _) = sentence(answer.element("Message").unwrap());
            assert_eq!(
                message,
                format!(
                    "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: \
                     iam:{action} on resource: {kind}"
                )
            );
        }
    }
}

#[tokio::test]
async fn what_is_left_out_on_purpose_is_refused_by_name_with_the_reason() {
    let broker = Broker::start().await;
    for (action, says) in [
        ("UploadServerCertificate", "private keys"),
        ("UploadSSHPublicKey", "CodeCommit"),
        ("CreateServiceSpecificCredential", "Bedrock"),
        ("ListOrganizationsFeatures", "no root user"),
        ("CreateDelegationRequest", "partners"),
        ("PutAccountProperties", "no client"),
    ] {
        let answer = broker.iam(&user("alice"), action, &[]).await;
        assert_eq!((answer.code(), answer.status), ("InvalidAction", 400));
        let message = answer.element("Message").unwrap();
        let expected = format!("Brevet does not support {action}: ");
        assert!(
            message.starts_with(&expected) && message.contains(says),
            "{message}"
        );
    }
    // Names are AWS's to the letter.
    for unknown in ["uploadsshpublickey", "AssumeRole", "Nonsense"] {
        let answer = broker.iam(&user("alice"), unknown, &[]).await;
        assert_eq!((answer.code(), answer.status), ("InvalidAction", 400));
        let message = answer.element("Message").unwrap();
        assert!(message.starts_with("Could not find operation"), "{message}");
    }
}
