//! Identity providers by the IAM API.

use serde_json::Value;

use crate::harness::*;

const METADATA: &str = include_str!("../data/saml/pysaml2-metadata.xml");
const KEY: &str = include_str!("../data/saml/rsa.key");

type Parameters<'a> = Vec<(&'a str, &'a str)>;

async fn ok(broker: &Broker, who: &str, action: &str, parameters: &Parameters<'_>) -> Value {
    let answer = broker.client(&user(who)).iam(action, parameters).await;
    answer.unwrap_or_else(|error| panic!("{action} {parameters:?}: {error}"))
}

async fn refused(broker: &Broker, who: &str, action: &str, parameters: &Parameters<'_>) -> String {
    let answer = broker.client(&user(who)).iam(action, parameters).await;
    code(&answer.unwrap_err())
}

#[tokio::test]
async fn the_life_of_an_openid_connect_provider() {
    let broker = Broker::start_stored().await;
    let thumbprint = "a".repeat(40);
    let create = vec![
        ("Url", "https://idp.example.com/tenant/"),
        ("ClientIDList.member.1", "one"),
        ("Tags.member.1.Key", "b"),
        ("Tags.member.1.Value", ""),
        ("Tags.member.2.Key", "a"),
        ("Tags.member.2.Value", "1"),
    ];
    let action = "CreateOpenIDConnectProvider";
    let made = ok(&broker, ADMIN, action, &create).await;
    let arn = "arn:aws:iam::111122223333:oidc-provider/idp.example.com/tenant/";
    assert_eq!(made["OpenIDConnectProviderArn"], arn);
    assert_eq!(made["Tags"][0]["Key"], "a");
    assert_eq!(
        refused(&broker, ADMIN, action, &create).await,
        "EntityAlreadyExists"
    );
    for url in [
        "http://idp.example.com",
        "https://idp.example.com?a=b",
        "https://idp.example.com/#a",
        "https://",
        "idp.example.com",
    ] {
        assert_eq!(
            refused(&broker, ADMIN, action, &vec![("Url", url)]).await,
            "InvalidInput",
            "{url}"
        );
    }
    let provider = ("OpenIDConnectProviderArn", arn);
    let get = async || ok(&broker, ADMIN, "GetOpenIDConnectProvider", &vec![provider]).await;
    let got = get().await;
    assert_eq!(got["Url"], "idp.example.com/tenant/");
    assert_eq!(got["ClientIDList"], serde_json::json!(["one"]));
    assert_eq!(got["ThumbprintList"], serde_json::json!([]));
    let thumbprints = vec![provider, ("ThumbprintList.member.1", thumbprint.as_str())];
    let update = "UpdateOpenIDConnectProviderThumbprint";
    ok(&broker, ADMIN, update, &thumbprints).await;
    let names: Vec<String> = (1..=6)
        .map(|n| format!("ThumbprintList.member.{n}"))
        .collect();
    let mut six = vec![provider];
    six.extend(
        names
            .iter()
            .map(|name| (name.as_str(), thumbprint.as_str())),
    );
    assert_eq!(refused(&broker, ADMIN, update, &six).await, "InvalidInput");
    let client = |id| vec![provider, ("ClientID", id)];
    let (add, remove) = (
        "AddClientIDToOpenIDConnectProvider",
        "RemoveClientIDFromOpenIDConnectProvider",
    );
    for id in ["two", "two"] {
        ok(&broker, ADMIN, add, &client(id)).await;
    }
    for id in ["one", "one"] {
        ok(&broker, ADMIN, remove, &client(id)).await;
    }
    let got = get().await;
    assert_eq!(got["ClientIDList"], serde_json::json!(["two"]));
    assert_eq!(got["ThumbprintList"], serde_json::json!([thumbprint]));
    let listed = ok(&broker, ADMIN, "ListOpenIDConnectProviders", &vec![]).await;
    assert_eq!(listed["OpenIDConnectProviderList"][0]["Arn"], arn);
    for (action, parameters) in [
        ("GetOpenIDConnectProvider", vec![provider]),
        ("DeleteOpenIDConnectProvider", vec![provider]),
        (update, thumbprints.clone()),
        (add, client("two")),
        (remove, client("two")),
        ("ListOpenIDConnectProviders", vec![]),
        ("CreateOpenIDConnectProvider", create.clone()),
    ] {
        assert_eq!(
            refused(&broker, "bob", action, &parameters).await,
            "AccessDenied"
        );
    }
    let delete = "DeleteOpenIDConnectProvider";
    ok(&broker, ADMIN, delete, &vec![provider]).await;
    for action in [delete, "GetOpenIDConnectProvider"] {
        assert_eq!(
            refused(&broker, ADMIN, action, &vec![provider]).await,
            "NoSuchEntity"
        );
    }
}

#[tokio::test]
async fn the_life_of_a_saml_provider() {
    let broker = Broker::start_stored().await;
    // Carriage returns are part of a document, which clients compare byte for byte.
    let document = METADATA.replace('\n', "\r\n");
    let create = vec![
        ("Name", "corp"),
        ("SAMLMetadataDocument", document.as_str()),
    ];
    let made = ok(&broker, ADMIN, "CreateSAMLProvider", &create).await;
    let arn = "arn:aws:iam::111122223333:saml-provider/corp";
    assert_eq!(made["SAMLProviderArn"], arn);
    assert_eq!(
        refused(&broker, ADMIN, "CreateSAMLProvider", &create).await,
        "EntityAlreadyExists"
    );
    let provider = ("SAMLProviderArn", arn);
    let get = async || ok(&broker, ADMIN, "GetSAMLProvider", &vec![provider]).await;
    let got = get().await;
    assert_eq!(got["SAMLMetadataDocument"], document);
    let uuid = got["SAMLProviderUUID"].as_str().unwrap().to_owned();
    assert!((22..=64).contains(&uuid.len()));
    let nonsense = "x".repeat(1_000);
    let other = METADATA.replace("entityID=\"", "entityID=\"https://other.example.com/");
    for document in [nonsense.as_str(), other.as_str()] {
        let update = vec![provider, ("SAMLMetadataDocument", document)];
        assert_eq!(
            refused(&broker, ADMIN, "UpdateSAMLProvider", &update).await,
            "InvalidInput"
        );
    }
    let update = vec![
        provider,
        ("SAMLMetadataDocument", METADATA),
        ("AddPrivateKey", KEY),
    ];
    let updated = ok(&broker, ADMIN, "UpdateSAMLProvider", &update).await;
    assert_eq!(updated["SAMLProviderArn"], arn);
    let got = get().await;
    assert_eq!(got["SAMLMetadataDocument"], METADATA);
    assert_eq!(got["SAMLProviderUUID"], uuid.as_str());
    let keys = got["PrivateKeyList"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    let id = keys[0]["KeyId"].as_str().unwrap();
    assert!(!got.to_string().contains("PRIVATE KEY"));
    let remove = vec![provider, ("RemovePrivateKey", id)];
    ok(&broker, ADMIN, "UpdateSAMLProvider", &remove).await;
    assert_eq!(
        refused(&broker, ADMIN, "UpdateSAMLProvider", &remove).await,
        "NoSuchEntity"
    );
    assert!(get().await.get("PrivateKeyList").is_none());
    let required = vec![provider, ("AssertionEncryptionMode", "Required")];
    assert_eq!(
        refused(&broker, ADMIN, "UpdateSAMLProvider", &required).await,
        "InvalidInput"
    );
    let listed = ok(&broker, ADMIN, "ListSAMLProviders", &vec![]).await;
    assert_eq!(listed["SAMLProviderList"][0]["Arn"], arn);
    for (action, parameters) in [
        ("GetSAMLProvider", vec![provider]),
        ("DeleteSAMLProvider", vec![provider]),
        ("UpdateSAMLProvider", update.clone()),
        ("ListSAMLProviders", vec![]),
        ("CreateSAMLProvider", create.clone()),
    ] {
        assert_eq!(
            refused(&broker, "bob", action, &parameters).await,
            "AccessDenied"
        );
    }
    ok(&broker, ADMIN, "DeleteSAMLProvider", &vec![provider]).await;
    for action in ["GetSAMLProvider", "DeleteSAMLProvider"] {
        assert_eq!(
            refused(&broker, ADMIN, action, &vec![provider]).await,
            "NoSuchEntity"
        );
    }
    let records = broker.into_audit().await;
    let records = serde_json::to_string(&records).unwrap();
    assert!(!records.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn metadata_of_a_saml_provider_has_at_most_a_million_bytes() {
    let broker = Broker::start_stored().await;
    for (bytes, expected) in [(1_000_001, "InvalidInput"), (1_000_000, "ok")] {
        let document = format!("{METADATA}{}", " ".repeat(bytes - METADATA.len()));
        let form = [("Name", "long"), ("SAMLMetadataDocument", &document)];
        let answer = broker.iam(&user(ADMIN), "CreateSAMLProvider", &form).await;
        assert_eq!(answer.code(), expected, "{}", answer.body);
        if expected != "ok" {
            let message = answer.element("Message").unwrap();
            assert!(message.contains("more than 1000000 bytes"), "{message}");
        }
    }
    let arn = "arn:aws:iam::111122223333:saml-provider/long";
    let got = vec![("SAMLProviderArn", arn)];
    let got = ok(&broker, ADMIN, "GetSAMLProvider", &got).await;
    let length = got["SAMLMetadataDocument"].as_str().unwrap().len();
    assert_eq!(length, 1_000_000);
}
