//! Tests of the verifier with responses that other programs made (`tests/data/saml`).

use std::time::Duration;

use super::rules::REMEMBERED_LONGER;
use super::*;

/// Reads a file of `tests/data/saml`.
pub(super) fn data(name: &str) -> String {
    let path = format!("{}/tests/data/saml/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The time at which the test responses were made.
pub(super) fn made_at() -> Timestamp {
    Timestamp::from_amz(data("now").trim()).unwrap()
}

/// The valid responses: the name of each file, and the name of the identity provider whose metadata
/// it needs.
pub(super) const GOOD: [(&str, &str); 16] = [
    ("pysaml2-assertion", "pysaml2"),
    ("pysaml2-response", "pysaml2"),
    ("pysaml2-both", "pysaml2"),
    ("samlp-assertion", "samlp"),
    ("samlp-response", "samlp"),
    ("samlp-prefixed", "samlp"),
    ("xmlsec-rsa-sha256", "xmlsec"),
    ("xmlsec-rsa-sha384", "xmlsec"),
    ("xmlsec-rsa-sha512", "xmlsec"),
    ("xmlsec-p256-sha256", "xmlsec"),
    ("xmlsec-p256-sha384", "xmlsec"),
    ("xmlsec-p384-sha256", "xmlsec"),
    ("xmlsec-p384-sha384", "xmlsec"),
    ("xmlsec-prefix-list", "xmlsec"),
    ("xmlsec-with-comments", "xmlsec"),
    ("xmlsec-response", "xmlsec"),
];

pub(super) fn metadata(of: &str) -> Metadata {
    Metadata::parse(data(&format!("{of}-metadata.xml")).as_bytes()).unwrap()
}

/// Verifies a response, and checks it by the rules of the service provider that the test responses
/// were made for.
pub(super) fn accept(xml: &[u8], idp: &Metadata, now: Timestamp) -> Result<Accepted, Refusal> {
    accept_with(xml, idp, &[], now)
}

/// Does the same as [`accept`], with private keys for encrypted assertions.
pub(super) fn accept_with(
    xml: &[u8],
    idp: &Metadata,
    keys: &[DecryptionKey],
    now: Timestamp,
) -> Result<Accepted, Refusal> {
    let audiences = ["https://sts.example.com/saml/metadata".to_owned()];
    let recipients = ["https://sts.example.com/saml/acs".to_owned()];
    let rules = Rules {
        now,
        leeway: LEEWAY,
        issuer: idp.entity_id(),
        audiences: &audiences,
        recipients: &recipients,
        in_response_to: None,
    };
    verify(&STANDARD.encode(xml), idp, keys, now)?.accept(&rules)
}

/// Signs the assertion of a response again with the test key, after a test has changed it.
pub(super) fn sign(xml: &str) -> String {
    sign_element(xml, "Assertion", &[])
}

/// Signs again the element that contains the only signature of a response. The canonical text keeps the declarations of
/// `prefixes`.
fn sign_element(xml: &str, local: &str, prefixes: &[&str]) -> String {
    let pem = data("rsa.key");
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = ring::signature::RsaKeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
    // The value of the first element of that name, or of an attribute's value.
    let replaced = |xml: &str, name: &str, value: &str| {
        let document = Document::parse(xml).unwrap();
        let named = |node: &Node<'_, '_>| xml::is(*node, signature::NAMESPACE, name);
        let range = document
            .descendants()
            .find(named)
            .unwrap()
            .first_child()
            .unwrap()
            .range();
        format!("{}{value}{}", &xml[..range.start], &xml[range.end..])
    };
    let octets = |xml: &str, local: &str| {
        let document = Document::parse(xml).unwrap();
        let named = |local: &str| {
            document
                .descendants()
                .find(|node| node.is_element() && node.tag_name().name() == local)
        };
        match local {
            "SignedInfo" => c14n::canonical(named(local).unwrap(), None, prefixes, 1 << 20),
            _ => c14n::canonical(named(local).unwrap(), named("Signature"), prefixes, 1 << 20),
        }
        .unwrap()
    };
    let xml = xml.replace("\r\n", "\n");
    let digest = ring::digest::digest(&ring::digest::SHA256, octets(&xml, local).as_bytes());
    let xml = replaced(&xml, "DigestValue", &STANDARD.encode(digest));
    let mut made = vec![0; key.public().modulus_len()];
    let random = crate::base::entropy::system();
    let octets = octets(&xml, "SignedInfo");
    key.sign(
        &ring::signature::RSA_PKCS1_SHA256,
        &random,
        octets.as_bytes(),
        &mut made,
    )
    .unwrap();
    replaced(&xml, "SignatureValue", &STANDARD.encode(made))
}

#[test]
fn a_failure_is_what_the_identity_provider_signed() {
    let idp = metadata("xmlsec");
    let refused = |xml: &str| accept(xml.as_bytes(), &idp, made_at()).unwrap_err();
    let good = data("xmlsec-response.xml");
    let resigned = sign_element(&good, "Response", &["xs"]);
    assert!(accept(resigned.as_bytes(), &idp, made_at()).is_ok());
    let failed = good.replace(
        "<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/>",
        "<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Responder\"/>\
         <samlp:StatusMessage>no such user</samlp:StatusMessage>",
    );
    assert_ne!(failed, good);
    // Somebody has changed the status: the signature does not fit any more.
    let forged = refused(&failed);
    assert_eq!(forged.code(), AwsCode::InvalidIdentityToken, "{forged:?}");
    let signed = refused(&sign_element(&failed, "Response", &["xs"]));
    assert_eq!(
        signed,
        Refusal::Status {
            code: "urn:oasis:names:tc:SAML:2.0:status:Responder".to_owned(),
            message: "no such user".to_owned(),
        }
    );
    assert_eq!(signed.code(), AwsCode::IdpRejectedClaim);
    // A failure usually comes without an assertion.
    let (start, end) = (failed.find("<Assertion ").unwrap(), "</Assertion>");
    let after = failed.find(end).unwrap() + end.len();
    let bare = format!("{}{}", &failed[..start], &failed[after..]);
    let signed = refused(&sign_element(&bare, "Response", &["xs"]));
    assert_eq!(signed.code(), AwsCode::IdpRejectedClaim, "{signed:?}");
    // Without a signature anybody may have written it.
    let (start, end) = (bare.find("<ds:Signature ").unwrap(), "</ds:Signature>");
    let after = bare.find(end).unwrap() + end.len();
    let unsigned = format!("{}{}", &bare[..start], &bare[after..]);
    assert_eq!(refused(&unsigned), Refusal::UnsignedStatus);
    // With a key that is not in the metadata it says nothing.
    let other = metadata("samlp");
    let by_nobody = sign_element(&failed, "Response", &["xs"]);
    let refused = accept(by_nobody.as_bytes(), &other, made_at()).unwrap_err();
    assert_eq!(refused.code(), AwsCode::InvalidIdentityToken, "{refused:?}");
}

#[test]
fn responses_of_others_are_accepted() {
    for (name, idp) in GOOD {
        let accepted = accept(
            data(&format!("{name}.xml")).as_bytes(),
            &metadata(idp),
            made_at(),
        );
        let accepted = accepted.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        let claims = AwsClaims::read(accepted.assertion()).unwrap();
        let subject = accepted.assertion().subject.clone();
        let deploy = "arn:aws:iam::111122223333:role/Deploy";
        let provider = "arn:aws:iam::111122223333:saml-provider/example";
        claims.check_role(deploy, provider).unwrap();
        assert_eq!(accepted.recipient(), "https://sts.example.com/saml/acs");
        let (name_id, subject_type, session) = match idp {
            "pysaml2" => ("alice-7f3a", "persistent", "alice@example.com"),
            "samlp" => (
                "bob",
                "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
                "bob@example.com",
            ),
            _ => ("carol", "transient", "carol"),
        };
        assert_eq!(subject.value, name_id);
        assert_eq!(subject.subject_type(), subject_type);
        assert_eq!(claims.role_session_name.as_str(), session);
    }
}

#[test]
fn every_attribute_is_read() {
    let accepted = accept(
        data("pysaml2-both.xml").as_bytes(),
        &metadata("pysaml2"),
        made_at(),
    )
    .unwrap();
    let claims = AwsClaims::read(accepted.assertion()).unwrap();
    let tags: Vec<_> = claims
        .tags
        .iter()
        .map(|t| (t.key.as_str(), t.value.as_str()))
        .collect();
    assert_eq!(tags, [("Team", "blue"), ("Site", "Zürich")]);
    assert_eq!(claims.transitive_tag_keys, ["Team"]);
    assert_eq!(claims.source_identity.as_ref().unwrap().as_str(), "alice");
    assert_eq!(claims.session_duration, Some(Duration::from_secs(3_600)));
    assert_eq!(claims.roles().len(), 2);
    let named = |name: &str| {
        let mut attributes = accepted.assertion().attributes.iter();
        attributes
            .find(|a| a.name == name)
            .map(|a| a.values.clone())
            .unwrap()
    };
    assert_eq!(
        named("urn:oid:1.3.6.1.4.1.5923.1.1.1.1"),
        [Some("staff".to_owned()), Some("member".to_owned())]
    );

    let accepted = accept(
        data("xmlsec-rsa-sha256.xml").as_bytes(),
        &metadata("xmlsec"),
        made_at(),
    )
    .unwrap();
    let named = |name: &str| {
        let mut attributes = accepted.assertion().attributes.iter();
        attributes
            .find(|a| a.name == name)
            .map(|a| a.values.clone())
            .unwrap()
    };
    assert_eq!(named("text"), [Some("a\r>& \" ' <b>".to_owned())]);
    assert_eq!(named("structured"), [None]);
    let session_end = accepted.session_not_on_or_after().unwrap();
    assert_eq!(session_end, made_at().plus(Duration::from_secs(480 * 60)));
    // The confirmation ends before the conditions.
    assert_eq!(
        accepted.usable_until(),
        made_at().plus(Duration::from_secs(5 * 60) + REMEMBERED_LONGER)
    );
}

/// Replacements in a valid response, which is then signed again, and a check that the response is
/// refused for the right reason.
type Change<'a> = (&'a [(&'a str, &'a str)], fn(&Refusal) -> bool);

const CONFIRMATION: &str = "<SubjectConfirmationData ";
const RECIPIENT: &str = r#" Recipient="https://sts.example.com/saml/acs""#;
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";

/// Returns the valid response with these texts replaced, signed again.
fn changed(replacements: &[(&str, &str)]) -> String {
    let mut xml = data("xmlsec-rsa-sha256.xml");
    for (old, new) in replacements {
        assert!(xml.contains(old), "{old}");
        xml = xml.replacen(old, new, 1);
    }
    sign(&xml)
}

#[track_caller]
fn refusal(xml: &str) -> Refusal {
    let accepted = accept(xml.as_bytes(), &metadata("xmlsec"), made_at());
    let accepted = match accepted {
        Err(refusal) => return refusal,
        Ok(accepted) => accepted,
    };
    AwsClaims::read(accepted.assertion()).expect_err(xml)
}

#[test]
fn sa_06_each_rule_refuses_by_itself() {
    assert!(accept(changed(&[]).as_bytes(), &metadata("xmlsec"), made_at()).is_ok());
    let cases: [Change<'_>; 25] = [
        (
            &[(
                "https://idp.example.com/xxx</Issuer>",
                "https://evil.example.com</Issuer>",
            )],
            |r| {
                matches!(
                    r,
                    Refusal::Issuer {
                        element: "Response",
                        ..
                    }
                )
            },
        ),
        (
            &[(
                "<Issuer>https://idp.example.com/xxx",
                "<Issuer>https://idp.example.com/xxx/",
            )],
            |r| {
                matches!(
                    r,
                    Refusal::Issuer {
                        element: "Assertion",
                        ..
                    }
                )
            },
        ),
        (
            &[(
                r#" ID="_response""#,
                r#" ID="_response" Destination="https://signin.aws.amazon.com/saml""#,
            )],
            |r| matches!(r, Refusal::Destination(_)),
        ),
        (
            &[(
                "<Audience>https://sts.example.com/saml/metadata",
                "<Audience>urn:amazon:webservices",
            )],
            |r| matches!(r, Refusal::Audience { .. }),
        ),
        (
            &[(
                "<AudienceRestriction>",
                "<OneTimeUse/><AudienceRestriction><Audience>x</Audience></AudienceRestriction><AudienceRestriction>",
            )],
            |r| matches!(r, Refusal::Audience { .. }),
        ),
        (
            &[(
                "<AudienceRestriction>",
                "<AudienceRestriction></AudienceRestriction><AudienceRestriction>",
            )],
            |r| matches!(r, Refusal::Audience { .. }),
        ),
        (
            &[
                ("<AudienceRestriction>", "<!--"),
                ("</AudienceRestriction>", "-->"),
            ],
            |r| matches!(r, Refusal::Audience { .. }),
        ),
        (
            &[("<AudienceRestriction>", "<Condition/><AudienceRestriction>")],
            |r| matches!(r, Refusal::Condition(name) if name == "Condition"),
        ),
        (
            &[(
                RECIPIENT,
                r#" Recipient="https://sts.example.com/saml/acs/""#,
            )],
            |r| matches!(r, Refusal::Recipient { .. }),
        ),
        (
            &[(RECIPIENT, "")],
            |r| matches!(r, Refusal::Recipient { seen } if seen == "missing"),
        ),
        (&[(" NotOnOrAfter", " NotAfter")], |r| {
            matches!(r, Refusal::NoEnd)
        }),
        (
            &[(BEARER, "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key")],
            |r| matches!(r, Refusal::NoBearer),
        ),
        (
            &[
                (
                    " NotOnOrAfter=\"",
                    " NotOnOrAfter=\"2099-01-02T00:00:00Z\" x=\"",
                ),
                (
                    CONFIRMATION,
                    r#"<SubjectConfirmationData NotBefore="2099-01-01T00:00:00Z" "#,
                ),
            ],
            |r| {
                matches!(
                    r,
                    Refusal::NotYetValid {
                        element: "SubjectConfirmationData",
                        ..
                    }
                )
            },
        ),
        (
            &[
                (r#" ID="_response""#, r#" ID="_response" InResponseTo="_a""#),
                (
                    CONFIRMATION,
                    r#"<SubjectConfirmationData InResponseTo="_b" "#,
                ),
            ],
            |r| matches!(r, Refusal::InResponseTo { .. }),
        ),
        (
            &[("<AuthnStatement", "<!--"), ("</AuthnStatement>", "-->")],
            |r| matches!(r, Refusal::NoAuthnStatement),
        ),
        (
            &[(
                "SessionNotOnOrAfter=\"",
                "SessionNotOnOrAfter=\"2020-01-01T00:00:00Z\" x=\"",
            )],
            |r| {
                matches!(
                    r,
                    Refusal::Expired {
                        element: "AuthnStatement",
                        ..
                    }
                )
            },
        ),
        (&[("status:Success\"", "status:Responder\"")], |r| {
            // Nobody has signed what is around the assertion.
            matches!(r, Refusal::UnsignedStatus)
        }),
        (
            &[(
                "Attributes/RoleSessionName\"",
                "Attributes/rolesessionname\"",
            )],
            |r| matches!(r, Refusal::NoAttribute(_)),
        ),
        (&[("[carol]", "[carol smith]")], |r| {
            matches!(r, Refusal::Attribute { .. })
        }),
        (
            &[(
                "Name=\"text\"",
                "Name=\"https://aws.amazon.com/SAML/Attributes/RoleSessionName\"",
            )],
            |r| matches!(r, Refusal::RepeatedAttribute(_)),
        ),
        (
            &[(
                "Name=\"text\"",
                "Name=\"https://aws.amazon.com/SAML/Attributes/SessionDuration\"",
            )],
            |r| matches!(r, Refusal::Attribute { .. }),
        ),
        (
            &[(
                "Name=\"structured\"",
                "Name=\"https://aws.amazon.com/SAML/Attributes/PrincipalTag:a\"",
            )],
            |r| matches!(r, Refusal::RepeatedAttribute(_)),
        ),
        (
            &[(
                "Name=\"text\"",
                "Name=\"https://aws.amazon.com/SAML/Attributes/TransitiveTagKeys\"",
            )],
            |r| matches!(r, Refusal::Attribute { .. }),
        ),
        (
            &[(
                "Name=\"text\"",
                "Name=\"https://aws.amazon.com/SAML/Attributes/SourceIdentity\"",
            )],
            |r| matches!(r, Refusal::Attribute { .. }),
        ),
        (
            &[(
                "\"https://aws.amazon.com/SAML/Attributes/Role\"",
                "\"Role\"",
            )],
            |r| matches!(r, Refusal::NoAttribute(_)),
        ),
    ];
    for (replacements, is_expected) in cases {
        let refusal = refusal(&changed(replacements));
        assert!(is_expected(&refusal), "{replacements:?}: {refusal:?}");
        assert!(!refusal.to_string().is_empty() && refusal.remedy().ends_with('.'));
    }
}

#[test]
fn an_assertion_has_at_most_fifty_tags() {
    let with = |count: usize| {
        let tag = |n| {
            format!(
                "<Attribute Name=\"https://aws.amazon.com/SAML/Attributes/PrincipalTag:t{n}\">\
                 <AttributeValue>v</AttributeValue></Attribute>"
            )
        };
        let tags: String = (0..count).map(tag).collect();
        changed(&[(
            "<Attribute Name=\"text\"",
            &format!("{tags}<Attribute Name=\"text\""),
        )])
    };
    let accepted = accept(with(50).as_bytes(), &metadata("xmlsec"), made_at()).unwrap();
    assert_eq!(
        AwsClaims::read(accepted.assertion()).unwrap().tags.len(),
        50
    );
    assert_eq!(refusal(&with(51)), Refusal::TooManyTags);
}

#[test]
fn sa_06_roles_are_granted_by_their_pair_only() {
    let deploy = "arn:aws:iam::111122223333:role/Deploy";
    let provider = "arn:aws:iam::111122223333:saml-provider/example";
    let check = |value: &str, role: &str, by: &str| {
        let old = format!("{provider} , {deploy}");
        let xml = changed(&[(&old, value)]);
        let accepted = accept(xml.as_bytes(), &metadata("xmlsec"), made_at()).unwrap();
        AwsClaims::read(accepted.assertion())
            .unwrap()
            .check_role(role, by)
    };
    let other = "arn:aws:iam::111122223333:role/Other";
    let foreign = "arn:aws:iam::444455556666:saml-provider/example";
    for value in [
        format!("{deploy},{provider}"),
        format!("\n {provider},\t{deploy} "),
    ] {
        assert_eq!(check(&value, deploy, provider), Ok(()), "{value}");
        for (role, by) in [(other, provider), (deploy, foreign), (provider, deploy)] {
            let refused = check(&value, role, by).unwrap_err();
            assert!(
                matches!(refused, Refusal::RoleNotGranted { pairs: 1, .. }),
                "{value}"
            );
            assert_eq!(refused.code(), AwsCode::AccessDenied);
        }
    }
    for value in [
        format!("{deploy},{other},{provider}"),
        format!("{deploy},{provider},"),
        format!("{deploy};{provider}"),
        format!("{deploy},{deploy}"),
        format!("{provider},{provider}"),
        deploy.to_owned(),
        format!("{deploy}*,{provider}"),
        "x".to_owned(),
    ] {
        assert!(check(&value, deploy, provider).is_err(), "{value}");
    }
}

#[test]
fn sa_06_times_are_checked_to_the_millisecond() {
    let xml = data("xmlsec-rsa-sha256.xml");
    let at = |offset: i64| {
        let now = Timestamp::from_millis(made_at().millis() + offset);
        accept(xml.as_bytes(), &metadata("xmlsec"), now).err()
    };
    const MINUTE: i64 = 60_000;
    // The conditions begin five minutes before, and the confirmation ends five minutes later.
    assert_eq!(at(-6 * MINUTE), None);
    let early = at(-6 * MINUTE - 1).unwrap();
    assert!(
        matches!(
            early,
            Refusal::NotYetValid {
                element: "Conditions",
                ..
            }
        ),
        "{early}"
    );
    assert_eq!(early.code(), AwsCode::InvalidIdentityToken);
    assert_eq!(at(6 * MINUTE - 1), None);
    let late = at(6 * MINUTE).unwrap();
    assert!(
        matches!(
            late,
            Refusal::Expired {
                element: "SubjectConfirmationData",
                ..
            }
        ),
        "{late}"
    );
    assert_eq!(late.code(), AwsCode::ExpiredTokenException);
    let later = at(61 * MINUTE).unwrap();
    assert!(
        matches!(
            later,
            Refusal::Expired {
                element: "Conditions",
                ..
            }
        ),
        "{later}"
    );
}

#[test]
fn sa_06_the_request_is_compared_where_there_was_one() {
    let idp = metadata("pysaml2");
    let audiences = ["https://sts.example.com/saml/metadata".to_owned()];
    let recipients = ["https://sts.example.com/saml/acs".to_owned()];
    let mut rules = Rules {
        now: made_at(),
        leeway: LEEWAY,
        issuer: idp.entity_id(),
        audiences: &audiences,
        recipients: &recipients,
        in_response_to: Some("id-request-1"),
    };
    let verified = |name: &str| {
        let xml = data(&format!("{name}.xml"));
        let idp = metadata(name.split('-').next().unwrap());
        verify(&STANDARD.encode(xml), &idp, &[], made_at()).unwrap()
    };
    assert!(verified("pysaml2-assertion").accept(&rules).is_ok());
    rules.in_response_to = Some("id-request-2");
    let broken = verified("pysaml2-assertion").violations(&rules);
    assert_eq!(broken.len(), 2);
    assert!(
        broken
            .iter()
            .all(|r| matches!(r, Refusal::InResponseTo { .. })),
        "{broken:?}"
    );
    // An answer to nobody is no answer to this request.
    let unsolicited = verified("samlp-assertion").violations(&rules);
    assert!(
        unsolicited
            .iter()
            .any(|r| matches!(r, Refusal::InResponseTo { .. }))
    );
    // Without configuration nothing is accepted.
    let nobody = Rules {
        audiences: &[],
        recipients: &[],
        in_response_to: None,
        ..rules
    };
    assert!(verified("pysaml2-assertion").accept(&nobody).is_err());
}

#[test]
fn one_good_confirmation_is_enough() {
    let other = format!(
        r#"<SubjectConfirmation Method="{BEARER}"><SubjectConfirmationData NotOnOrAfter="2099-01-01T00:00:00Z" Recipient="https://other.example.com"/></SubjectConfirmation><SubjectConfirmation Method="{BEARER}""#
    );
    let xml = changed(&[(
        &format!(r#"<SubjectConfirmation Method="{BEARER}""#),
        &other,
    )]);
    let accepted = accept(xml.as_bytes(), &metadata("xmlsec"), made_at()).unwrap();
    assert_eq!(accepted.recipient(), "https://sts.example.com/saml/acs");
    // It is remembered for as long as any of them could be used.
    assert_eq!(
        accepted.usable_until(),
        made_at().plus(Duration::from_secs(60 * 60) + REMEMBERED_LONGER)
    );
}

#[test]
fn malformed_responses_are_refused() {
    let element = |r: &Refusal| matches!(r, Refusal::Element { .. });
    let cases: [Change<'_>; 16] = [
        (
            &[(
                r#"ID="_assertion" Version="2.0""#,
                r#"ID="_assertion" Version="1.1""#,
            )],
            element,
        ),
        (
            &[
                (
                    "<samlp:StatusCode",
                    "<samlp:StatusMessage/><samlp:StatusMessage/><samlp:StatusCode",
                ),
                ("Success", "Other"),
            ],
            element,
        ),
        (
            &[("<samlp:Status>", "<samlp:Status/><samlp:Status>")],
            element,
        ),
        (
            &[("<samlp:Status>", "<samlp:Other/><samlp:Status>")],
            element,
        ),
        (&[("<samlp:Status>", "text<samlp:Status>")], element),
        (&[("car<!-- between -->ol", "")], element),
        (&[("car<!-- between -->ol", "car&#10;ol")], element),
        (&[("car<!-- between -->ol", "car<b/>ol")], element),
        (&[("</NameID>", "</NameID><NameID>x</NameID>")], element),
        (
            &[("<NameID ", "<BaseID "), ("</NameID>", "</BaseID>")],
            element,
        ),
        (&[("<Conditions ", "<Conditions/><Conditions ")], element),
        (
            &[("AuthnInstant=\"", "AuthnInstant=\"yesterday\" x=\"")],
            element,
        ),
        (
            &[(
                "<Issuer>",
                "<Issuer Format='urn:oasis:names:tc:SAML:2.0:nameid-format:persistent'>",
            )],
            element,
        ),
        (&[("<NameID ", "<EncryptedID/><NameID ")], |r| {
            matches!(r, Refusal::EncryptedPart("the name ID of the Subject"))
        }),
        (
            &[(
                "<Attribute Name=\"text\"",
                "<EncryptedAttribute/><Attribute Name=\"text\"",
            )],
            |r| matches!(r, Refusal::EncryptedPart("an attribute")),
        ),
        (
            &[(
                "<samlp:Status>",
                "<EncryptedAssertion xmlns='urn:oasis:names:tc:SAML:2.0:assertion'/><samlp:Status>",
            )],
            |r| matches!(r, Refusal::Assertions),
        ),
    ];
    for (replacements, is_expected) in cases {
        let refusal = refusal(&changed(replacements));
        assert!(is_expected(&refusal), "{replacements:?}: {refusal:?}");
    }
    let idp = metadata("xmlsec");
    let encoded = STANDARD.encode(data("xmlsec-rsa-sha256.xml"));
    let verify = |encoded: &str| verify(encoded, &idp, &[], made_at()).map(|_| ());
    let lines: Vec<_> = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    assert_eq!(verify(&(lines.join("\r\n") + "\n")), Ok(()));
    assert_eq!(
        verify(&encoded.replacen('P', " P", 1)),
        Err(Refusal::Base64)
    );
    assert_eq!(
        verify(encoded.trim_end_matches('=')).err(),
        (encoded.ends_with('=')).then_some(Refusal::Base64)
    );
    assert_eq!(verify(""), Err(Refusal::Xml(XmlError::Malformed)));
    assert_eq!(
        verify(&"A".repeat(MAX_CHARACTERS + 1)),
        Err(Refusal::TooLong(MAX_CHARACTERS + 1))
    );
    assert!(
        matches!(verify(&STANDARD.encode("<a/>")), Err(Refusal::NotResponse(name)) if name == "a")
    );
}

#[test]
fn sa_03_sa_04_signatures_of_another_form_are_refused() {
    let idp = metadata("xmlsec");
    for (name, is_expected) in REFUSED {
        let xml = data(&format!("refused/{name}.xml"));
        let refusal = accept(xml.as_bytes(), &idp, made_at()).expect_err(name);
        let (algorithm, shape, key) = match &refusal {
            Refusal::Signature { why, .. } => (
                matches!(why, SignatureError::Algorithm(_)),
                matches!(why, SignatureError::Shape(_)),
                *why == SignatureError::Key,
            ),
            _ => (false, false, false),
        };
        let is_as_expected = match is_expected {
            "algorithm" => algorithm,
            "shape" => shape,
            "key" => key,
            _ => refusal == Refusal::MisplacedSignature,
        };
        assert!(is_as_expected, "{name}: {refusal:?}");
    }
}

/// The library that verifies this algorithm is only part of the program with the feature
/// `saml-encryption`.
#[test]
fn ecdsa_with_sha_512_is_accepted_by_a_program_that_can_verify_it() {
    let xml = data("xmlsec-p384-sha512.xml");
    let idp = metadata("xmlsec");
    let accepted = accept(xml.as_bytes(), &idp, made_at());
    if cfg!(feature = "saml-encryption") {
        assert_eq!(accepted.unwrap().assertion().subject.value, "carol");
        let changed = xml.replace("[carol]", "[mallory]");
        let refused = accept(changed.as_bytes(), &idp, made_at()).unwrap_err();
        let digest = |r: &Refusal| {
            matches!(
                r,
                Refusal::Signature {
                    why: SignatureError::Digest,
                    ..
                }
            )
        };
        assert!(digest(&refused), "{refused:?}");
        // The signed digest fits, and the signature does not.
        let value = xml.find("<ds:SignatureValue>").unwrap() + "<ds:SignatureValue>".len();
        let mut other = xml.into_bytes();
        other[value + 4] = if other[value + 4] == b'A' { b'B' } else { b'A' };
        let refused = accept(&other, &idp, made_at()).unwrap_err();
        let key = matches!(
            refused,
            Refusal::Signature {
                why: SignatureError::Key,
                ..
            }
        );
        assert!(key, "{refused:?}");
    } else {
        let refused = accepted.unwrap_err();
        let algorithm = matches!(
            refused,
            Refusal::Signature {
                why: SignatureError::Algorithm(_),
                ..
            }
        );
        assert!(algorithm, "{refused:?}");
        assert!(refused.remedy().contains("`saml-encryption`"));
    }
}

const REFUSED: [(&str, &str); 15] = [
    ("rsa-sha1", "algorithm"),
    ("digest-sha1", "algorithm"),
    ("hmac", "algorithm"),
    ("rsa-1024", "key"),
    ("other-key", "key"),
    ("inclusive", "algorithm"),
    ("only-enveloped", "shape"),
    ("xpath", "algorithm"),
    ("three-transforms", "shape"),
    ("two-references", "shape"),
    ("uri-empty", "shape"),
    ("uri-xpointer", "shape"),
    ("uri-of-response", "shape"),
    ("object", "shape"),
    ("in-extensions", "misplaced"),
];

#[test]
fn sa_03_a_signature_is_read_as_it_was_signed() {
    let idp = metadata("xmlsec");
    let xml = data("xmlsec-rsa-sha256.xml");
    let document = Document::parse(&xml).unwrap();
    let named = |local: &'static str| {
        let named = |node: &Node<'_, '_>| node.is_element() && node.tag_name().name() == local;
        xml[document.descendants().find(named).unwrap().range()].to_owned()
    };
    let (info, digest, value) = (
        named("SignedInfo"),
        named("DigestValue"),
        named("SignatureValue"),
    );
    let inner = digest.split_once('>').unwrap().1.split_once('<').unwrap().0;
    for (old, new) in [
        // CVE-2025-29774 and CVE-2025-29775: a comment in the digest, two SignedInfo.
        (inner.to_owned(), format!("{inner}<!-- AAAA -->")),
        (inner.to_owned(), format!("<!-- AAAA -->{inner}")),
        (inner.to_owned(), format!("<x/>{inner}")),
        (info.clone(), format!("{info}{info}")),
        (value.clone(), format!("{value}{value}")),
        (value.clone(), format!("{value}<ds:Object/>")),
        (value.clone(), format!("text{value}")),
        (value.clone(), format!("<!-- c -->{value}")),
        (
            info.clone(),
            info.replace("<ds:Reference URI", "<ds:Reference Type='x' URI"),
        ),
        (info.clone(), String::new()),
    ] {
        let attack = xml.replacen(&old, &new, 1);
        assert_ne!(attack, xml);
        let refused = accept(attack.as_bytes(), &idp, made_at()).expect_err(&new);
        assert!(
            matches!(refused, Refusal::Signature { .. }),
            "{new}: {refused:?}"
        );
    }
    // What a signature says of its key is not looked at.
    let key_info = named("KeyInfo");
    for new in [
        String::new(),
        key_info.replace("MII", "xxx"),
        "<ds:KeyInfo/>".to_owned(),
    ] {
        let text = xml.replacen(&key_info, &new, 1);
        assert!(accept(text.as_bytes(), &idp, made_at()).is_ok(), "{new}");
    }
}

#[test]
fn sa_04_only_keys_of_the_metadata_count_while_they_are_valid() {
    let xml = STANDARD.encode(data("xmlsec-rsa-sha256.xml"));
    let idp = metadata("xmlsec");
    assert!(matches!(
        verify(&xml, &metadata("samlp"), &[], made_at()),
        Err(Refusal::Signature {
            why: SignatureError::Key,
            ..
        })
    ));
    let key = idp
        .signing_keys()
        .iter()
        .max_by_key(|key| key.not_after())
        .unwrap();
    let late = key.not_after().plus(Duration::from_secs(1));
    assert!(matches!(
        verify(&xml, &idp, &[], late),
        Err(Refusal::Certificate { .. })
    ));
    let early = key.not_before().minus(Duration::from_secs(60));
    assert!(matches!(
        verify(&xml, &idp, &[], early),
        Err(Refusal::Certificate { .. })
    ));
    let dated = data("xmlsec-metadata.xml")
        .replace(" entityID", " validUntil='2030-01-01T00:00:00Z' entityID");
    let dated = Metadata::parse(dated.as_bytes()).unwrap();
    let end = dated.valid_until().unwrap();
    assert!(verify(&xml, &dated, &[], end.minus(Duration::from_millis(1))).is_ok());
    assert!(matches!(
        verify(&xml, &dated, &[], end),
        Err(Refusal::MetadataExpired { .. })
    ));
}

#[test]
fn sa_05_what_is_read_is_signed() {
    // Without its signature.
    for (name, idp) in GOOD {
        let xml = data(&format!("{name}.xml"));
        let mut bare = xml.clone();
        loop {
            let document = Document::parse(&bare).unwrap();
            let is_signature =
                |node: &Node<'_, '_>| xml::is(*node, signature::NAMESPACE, "Signature");
            let Some(range) = document
                .descendants()
                .find(is_signature)
                .map(|node| node.range())
            else {
                break;
            };
            bare = format!("{}{}", &bare[..range.start], &bare[range.end..]);
        }
        assert_eq!(
            accept(bare.as_bytes(), &metadata(idp), made_at()),
            Err(Refusal::Unsigned),
            "{name}"
        );
    }
    // Of two signatures both must be good.
    let both = data("pysaml2-both.xml");
    let values: Vec<_> = both
        .match_indices("SignatureValue>")
        .map(|(at, found)| at + found.len())
        .collect();
    assert_eq!(values.len(), 4);
    for at in [values[0], values[2]] {
        let mut bad = both.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        assert!(matches!(
            accept(&bad, &metadata("pysaml2"), made_at()),
            Err(Refusal::Signature { .. })
        ));
    }
    // What is around a signed assertion is not signed, and is not taken for it.
    let verified = |name: &str, idp: &str| {
        let xml = data(&format!("{name}.xml"));
        verify(&STANDARD.encode(xml), &metadata(idp), &[], made_at()).unwrap()
    };
    assert!(
        !verified("pysaml2-assertion", "pysaml2")
            .envelope()
            .is_signed
    );
    assert!(verified("pysaml2-response", "pysaml2").envelope().is_signed);
    assert!(verified("pysaml2-both", "pysaml2").envelope().is_signed);
}

/// Returns a certificate for the test key that is valid between the beginnings of these years.
fn certificate(from: i32, to: i32) -> String {
    let pem = data("rsa.key");
    let key = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256).unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(to, 1, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    STANDARD.encode(certificate.der())
}

/// Returns the test metadata with these certificates instead of its own.
fn metadata_with(certificates: &[String]) -> Metadata {
    let descriptor = |certificate: &String| {
        format!(
            "<KeyDescriptor><KeyInfo xmlns='{}'><X509Data><X509Certificate>{certificate}\
             </X509Certificate></X509Data></KeyInfo></KeyDescriptor>",
            signature::NAMESPACE
        )
    };
    let text = data("xmlsec-metadata.xml");
    let (before, keys) = text.split_once("<KeyDescriptor").unwrap();
    let (_, after) = keys.rsplit_once("</KeyDescriptor>").unwrap();
    let keys: String = certificates.iter().map(descriptor).collect();
    Metadata::parse(format!("{before}{keys}{after}").as_bytes()).unwrap()
}

#[test]
fn metadata_is_usable_as_long_as_its_certificates_follow_each_other() {
    let usable = |years: &[(i32, i32)], year: i64| {
        let certificates: Vec<String> = years.iter().map(|(a, b)| certificate(*a, *b)).collect();
        // Late in the year, whatever its leap days.
        let now = Timestamp::from_seconds((year - 1970) * 31_556_952 + 15_000_000);
        let end = metadata_with(&certificates).usable_without_a_gap(now)?;
        Some(end.to_string()[..4].parse::<i64>().unwrap())
    };
    assert_eq!(usable(&[(2020, 2030)], 2025), Some(2030));
    assert_eq!(usable(&[(2020, 2030)], 2031), None);
    assert_eq!(usable(&[(2020, 2030)], 2019), None);
    // The later one counts only if it begins before the other one ends.
    assert_eq!(usable(&[(2029, 2040), (2020, 2030)], 2025), Some(2040));
    assert_eq!(usable(&[(2031, 2040), (2020, 2030)], 2025), Some(2030));
    assert_eq!(usable(&[(2031, 2040), (2020, 2030)], 2032), Some(2040));
}

#[test]
fn sa_04_a_certificate_is_renewed_with_the_same_key() {
    let xml = changed(&[]);
    let (old, new) = (certificate(2_020, 2_024), certificate(2_024, 2_050));
    for certificates in [[old.clone(), new.clone()], [new, old.clone()]] {
        let idp = metadata_with(&certificates);
        assert_eq!(accept(xml.as_bytes(), &idp, made_at()).err(), None);
    }
    let refused = accept(xml.as_bytes(), &metadata_with(&[old]), made_at());
    assert!(matches!(refused, Err(Refusal::Certificate { .. })));
}

#[test]
fn messages_repeat_foreign_values_on_one_legible_line() {
    let long = "x".repeat(5_000);
    let algorithm = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
    let xml = data("xmlsec-rsa-sha256.xml");
    let forged = format!("urn:x&#10;2026-01-01 accepted&#x202e;&#x9b;{long}");
    for old in [
        algorithm,
        "http://www.w3.org/2001/04/xmlenc#sha256",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
        "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
        "urn:oasis:names:tc:SAML:2.0:status:Success",
    ] {
        let text = xml.replacen(&format!("\"{old}\""), &format!("\"{forged}\""), 1);
        assert_ne!(text, xml);
        let refused = accept(text.as_bytes(), &metadata("xmlsec"), made_at()).unwrap_err();
        let message = refused.to_string();
        // What a status says is repeated only from a signed response, which this one is not.
        let is_repeated = !old.contains(":status:");
        assert_eq!(message.contains("urn:x\\n2026"), is_repeated, "{message}");
        assert!(message.len() < 1_000, "{message}");
        assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'));
    }
}

#[test]
fn sa_06_a_confirmation_that_names_its_presenter_is_nobody_elses() {
    let start = format!(r#"<SubjectConfirmation Method="{BEARER}">"#);
    for presenter in [
        "<NameID>mallory</NameID>",
        "<BaseID/>",
        "<EncryptedID/>",
        "<NameID>carol</NameID>",
    ] {
        let xml = changed(&[(&start, &format!("{start}{presenter}"))]);
        assert_eq!(refusal(&xml), Refusal::NoBearer, "{presenter}");
    }
    let xml = changed(&[(&start, &format!("{start}<Other/>"))]);
    assert!(matches!(refusal(&xml), Refusal::Element { .. }));
}

#[test]
fn sa_06_a_time_that_never_is_is_not_made_by_the_leeway() {
    let window = |at: Timestamp| {
        let at = at.to_string();
        format!(r#" NotBefore="{at}" NotOnOrAfter="{at}" x=""#)
    };
    let now = window(made_at());
    for (element, old) in [
        ("SubjectConfirmationData", CONFIRMATION.to_owned()),
        ("Conditions", "<Conditions ".to_owned()),
    ] {
        // What was there becomes the value of an attribute that nobody knows.
        let xml = data("xmlsec-rsa-sha256.xml");
        let (before, rest) = xml.split_once(&old).unwrap();
        let (attributes, rest) = rest.split_once('>').unwrap();
        let attributes: String = attributes.replace('"', "'");
        let end = if attributes.ends_with('/') { "/" } else { "" };
        let attributes = attributes.trim_end_matches('/').replace('\'', "");
        let xml = format!("{before}{old}{now}{attributes}\"{end}>{rest}");
        let refused = refusal(&sign(&xml));
        assert!(
            matches!(refused, Refusal::Element { element: seen, .. } if seen == element),
            "{refused:?}"
        );
    }
}

#[test]
fn names_are_bounded() {
    let name = |length: usize| changed(&[("car<!-- between -->ol", &"x".repeat(length))]);
    assert!(accept(name(256).as_bytes(), &metadata("xmlsec"), made_at()).is_ok());
    assert!(matches!(
        refusal(&name(257)),
        Refusal::Element {
            element: "NameID",
            ..
        }
    ));
}

#[test]
fn names_of_roles_can_have_commas() {
    let provider = "arn:aws:iam::111122223333:saml-provider/example";
    let role = "arn:aws:iam::111122223333:role/Deploy";
    let comma = "arn:aws:iam::111122223333:role/Deploy,arn";
    for value in [
        format!("{comma},{provider}"),
        format!("{provider},{comma}"),
        format!("{comma} , {provider}"),
    ] {
        let xml = changed(&[(&format!("{provider} , {role}"), &value)]);
        let accepted = accept(xml.as_bytes(), &metadata("xmlsec"), made_at()).unwrap();
        let claims = AwsClaims::read(accepted.assertion()).unwrap();
        assert_eq!(claims.check_role(comma, provider), Ok(()), "{value}");
        assert!(claims.check_role(role, provider).is_err(), "{value}");
    }
}

/// The response is near the length limit, and its canonical text is twice as long.
#[test]
fn the_canonical_text_of_the_longest_response_is_within_its_limit() {
    let value = "<AttributeValue xsi:type=\"xs:string\">g</AttributeValue>";
    let xml = data("xmlsec-rsa-sha256.xml");
    let left = (MAX_CHARACTERS / 4 * 3 - xml.len()) / value.len();
    let groups = format!(
        "<Attribute Name=\"groups\">{}</Attribute><Attribute Name=\"text\">",
        value.repeat(left - 1)
    );
    let xml = changed(&[("<Attribute Name=\"text\">", &groups)]);
    let accepted = accept(xml.as_bytes(), &metadata("xmlsec"), made_at()).unwrap();
    let mut attributes = accepted.assertion().attributes.iter();
    let groups = attributes.find(|a| a.name == "groups").unwrap();
    assert_eq!(groups.values.len(), left - 1);
}

#[test]
fn sa_02_base64_has_one_alphabet_and_one_form() {
    let idp = metadata("xmlsec");
    let xml = data("xmlsec-rsa-sha256.xml").replace("&amp;", "\u{7ff}\u{7fe}\u{fff}");
    let encoded = STANDARD.encode(&xml);
    let is_base64 = |encoded: &str| verify(encoded, &idp, &[], made_at()) != Err(Refusal::Base64);
    assert!(is_base64(&encoded));
    assert!(encoded.contains(['+', '/']));
    for other in [
        encoded.replace('+', "-").replace('/', "_"),
        format!("{encoded}="),
        format!("{encoded}===="),
        format!("{encoded}\0"),
        encoded.replacen('P', "P\t", 1),
        encoded.replacen('P', "P%0A", 1),
        format!("={encoded}"),
    ] {
        assert!(!is_base64(&other));
    }
    // Bits behind the last byte are zero.
    assert_eq!(decode("PGEvPg=="), Ok(b"<a/>".to_vec()));
    assert_eq!(decode("PGEvPh=="), Err(Refusal::Base64));
}

#[test]
fn sa_03_an_ecdsa_signature_is_two_numbers_of_the_length_of_the_key() {
    let idp = metadata("xmlsec");
    let xml = data("xmlsec-p256-sha256.xml");
    let open = xml.find("SignatureValue>").unwrap() + "SignatureValue>".len();
    let end = open + xml[open..].find('<').unwrap();
    let text: String = xml[open..end].split_whitespace().collect();
    let made = STANDARD.decode(text).unwrap();
    assert_eq!(made.len(), 64);
    let with = |made: &[u8]| format!("{}{}{}", &xml[..open], STANDARD.encode(made), &xml[end..]);
    assert!(accept(with(&made).as_bytes(), &idp, made_at()).is_ok());
    let (r, s) = made.split_at(32);
    let zeros = [0; 32];
    let der = [&[0x30, 70, 2, 33, 0], r, &[2, 33, 0], s].concat();
    for other in [
        der,
        [&[0], r, &[0], s].concat(),
        [r, s, &[0]].concat(),
        [&zeros[..], s].concat(),
        [r, &zeros[..]].concat(),
        zeros.repeat(2),
        [s, r].concat(),
        r.to_vec(),
    ] {
        let refused = accept(with(&other).as_bytes(), &idp, made_at());
        assert!(
            matches!(
                refused,
                Err(Refusal::Signature {
                    why: SignatureError::Key,
                    ..
                })
            ),
            "{other:?}"
        );
    }
}

#[test]
fn sa_06_an_assertion_is_remembered_for_as_long_as_any_leeway_takes_it() {
    let xml = data("xmlsec-rsa-sha256.xml");
    let idp = metadata("xmlsec");
    let audiences = ["https://sts.example.com/saml/metadata".to_owned()];
    let recipients = ["https://sts.example.com/saml/acs".to_owned()];
    let accept = |now, leeway| {
        let rules = Rules {
            now,
            leeway: Duration::from_secs(leeway),
            issuer: idp.entity_id(),
            audiences: &audiences,
            recipients: &recipients,
            in_response_to: None,
        };
        verify(&STANDARD.encode(&xml), &idp, &[], now)?.accept(&rules)
    };
    // It is used with one leeway and shown again with the longest one.
    let until = accept(made_at(), 0).unwrap().usable_until();
    let whole_second = Timestamp::from_seconds(until.seconds());
    assert!(accept(whole_second, 300).is_err());
}
