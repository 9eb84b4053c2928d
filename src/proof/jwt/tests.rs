use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use ring::signature as sig;
use serde_json::{Value, json};

use super::key_set::{DECOY_KEYS, decoy_key};
use super::*;
use crate::base::clock::Timestamp;
use crate::base::entropy::SystemEntropy;
use crate::session::key_state::KeyState;
use crate::session::signing_key::{Algorithm as Signs, SigningKey};

fn signing(algorithm: Signs) -> SigningKey {
    SigningKey::generate(
        algorithm,
        KeyState::Current,
        &SystemEntropy::new(),
        Timestamp::from_seconds(1),
    )
    .unwrap()
}

fn set(jwks: Value) -> KeySet {
    KeySet::parse(json!({"keys": jwks}).to_string().as_bytes()).unwrap()
}

fn token(header: &Value, claims: &str, signature: &str) -> String {
    format!(
        "{}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims)
    )
}

fn check(token: &str, keys: &KeySet) -> Result<Verified, TokenError> {
    let unverified = Unverified::read(token)?;
    let key = keys.get(unverified.key_id());
    unverified.verify(key)
}

#[test]
fn good_tokens_of_each_kind_of_key() {
    for algorithm in [Signs::RS256, Signs::ES384, Signs::EdDSA] {
        let key = signing(algorithm);
        let keys = set(json!([key.jwk()]));
        let verified = check(&key.sign(br#"{"sub":"x","n":[1]}"#).unwrap(), &keys).unwrap();
        assert_eq!(verified.text("sub"), Some("x"));
        // Another key of the same kind under the same name.
        let mut other = signing(algorithm).jwk().clone();
        other["kid"] = key.id().into();
        assert_eq!(
            check(&key.sign(b"{}").unwrap(), &set(json!([other]))),
            Err(TokenError::Signature)
        );
    }
}

#[test]
fn no_other_character_anywhere_passes() {
    for algorithm in [Signs::ES384, Signs::EdDSA] {
        let key = signing(algorithm);
        let keys = set(json!([key.jwk()]));
        let good = key.sign(br#"{"sub":"x"}"#).unwrap();
        for at in 0..good.len() {
            for other in ['A', 'Q', 'g', 'w', '.', '='] {
                let bad: String = good
                    .chars()
                    .enumerate()
                    .map(|(i, c)| if i == at { other } else { c })
                    .collect();
                assert!(bad == good || check(&bad, &keys).is_err(), "{at} {other}");
            }
        }
    }
}

#[test]
fn tk_01_a_token_does_not_choose_its_algorithm() {
    let rsa = signing(Signs::RS256);
    let ec = signing(Signs::ES384);
    let keys = set(json!([rsa.jwk(), ec.jwk()]));
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "ES512", "ES256K", "RS1",
        "rs256",
    ] {
        for signature in ["", "AAAA"] {
            let header = json!({"alg": alg, "kid": rsa.id()});
            assert!(
                check(&token(&header, "{}", signature), &keys).is_err(),
                "{alg}"
            );
        }
    }
    for alg in [json!(["RS256"]), json!(null), json!(1), json!({})] {
        assert!(
            check(
                &token(&json!({"alg": alg, "kid": rsa.id()}), "{}", "AAAA"),
                &keys
            )
            .is_err()
        );
    }
    // A valid signature of one algorithm under the name of another.
    let good = rsa.sign(b"{}").unwrap();
    let signature = good.rsplit_once('.').unwrap().1;
    for alg in ["PS256", "RS384", "ES256", "ES384", "EdDSA"] {
        assert!(
            check(
                &token(
                    &json!({"alg": alg, "kid": rsa.id(), "typ": "JWT"}),
                    "{}",
                    signature
                ),
                &keys
            )
            .is_err()
        );
    }
    // Psychic signatures: r = s = 0.
    let zero = URL_SAFE_NO_PAD.encode([0; 96]);
    assert!(
        check(
            &token(&json!({"alg": "ES384", "kid": ec.id()}), "{}", &zero),
            &keys
        )
        .is_err()
    );
}

#[test]
fn an_01_a_signature_that_nobodys_key_made_counts_for_nothing() {
    for algorithm in [
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ] {
        assert!(decoy_key(algorithm, 256).is_some(), "{algorithm:?}");
    }
    // Everybody knows the private key of a base point, which is one.
    let random = crate::base::entropy::system();
    let one = [vec![0; 31], vec![1]].concat();
    let by = |x: &str| URL_SAFE_NO_PAD.decode(x).unwrap();
    let point = [
        vec![4],
        by("axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY"),
        by("T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"),
    ]
    .concat();
    let pair = sig::EcdsaKeyPair::from_private_key_and_public_key(
        &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
        &one,
        &point,
        &random,
    )
    .unwrap();
    let message = token(&json!({"alg": "ES256", "kid": "ES256"}), "{}", "");
    let message = message.trim_end_matches('.');
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(&random, message.as_bytes()).unwrap());
    let token = format!("{message}.{signature}");
    assert!(check(&token, &DECOY_KEYS).is_ok(), "a key like any other");
    assert_eq!(
        check(&token, &KeySet::default()),
        Err(TokenError::Signature)
    );
}

#[test]
fn tk_02_no_header_names_another_key() {
    let key = signing(Signs::EdDSA);
    let keys = set(json!([key.jwk()]));
    let good = key.sign(b"{}").unwrap();
    let signature = good.rsplit_once('.').unwrap().1;
    for (name, value) in [
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/x5u")),
        ("jwk", key.jwk().clone()),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        let header = json!({"alg": "EdDSA", "kid": key.id(), name: value});
        assert_eq!(
            Unverified::read(&token(&header, "{}", signature)).unwrap_err(),
            TokenError::Header {
                field: name,
                fault: "is not accepted"
            },
            "{name}"
        );
    }
    for kid in [json!(""), json!(null), json!(7), json!("x".repeat(513))] {
        assert!(
            Unverified::read(&token(
                &json!({"alg": "EdDSA", "kid": kid}),
                "{}",
                signature
            ))
            .is_err()
        );
    }
    assert!(Unverified::read(&token(&json!({"alg": "EdDSA"}), "{}", signature)).is_err());
    for kid in ["../../etc/passwd", "' OR 1=1 --", "unknown"] {
        assert!(
            check(
                &token(&json!({"alg": "EdDSA", "kid": kid}), "{}", signature),
                &keys
            )
            .is_err()
        );
    }
    for typ in [
        "at+jwt",
        "application/at+jwt",
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
    ] {
        assert!(
            Unverified::read(&token(
                &json!({"alg": "EdDSA", "kid": key.id(), "typ": typ}),
                "{}",
                ""
            ))
            .is_err()
        );
    }
}

#[test]
fn tk_03_tk_05_only_one_spelling() {
    let key = signing(Signs::EdDSA);
    let keys = set(json!([key.jwk()]));
    let good = key.sign(br#"{"exp":5}"#).unwrap();
    assert!(check(&good, &keys).is_ok());
    for bad in [
        format!("{good}="),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{good}."),
        format!(".{good}"),
        good.replace('.', ".."),
        good.replacen('.', "", 1),
        "a.b".into(),
        "...".into(),
        String::new(),
        ".".repeat(20_000),
        "a".repeat(20_001),
    ] {
        assert!(check(&bad, &keys).is_err(), "{bad:.40}");
    }
    // Stray bits at the end of the signature's last character.
    let last = good.chars().last().unwrap();
    let twins = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .filter(|c| *c != last);
    for c in twins {
        assert!(check(&format!("{}{c}", &good[..good.len() - 1]), &keys).is_err());
    }
    for claims in [
        r#"{"exp":1,"exp":2}"#.to_owned(),
        r#"{"a":{"b":1,"b":2}}"#.into(),
        r#"{"exp":1} "x""#.into(),
        "[]".into(),
        "1".into(),
        format!("{}1{}", r#"{"a":"#.repeat(2_000), "}".repeat(2_000)),
    ] {
        assert!(
            check(&key.sign(claims.as_bytes()).unwrap(), &keys).is_err(),
            "{claims:.40}"
        );
    }
    let time = |time: &str, rounded| {
        let token = key.sign(format!(r#"{{"exp":{time}}}"#).as_bytes()).unwrap();
        check(&token, &keys).unwrap().seconds("exp", rounded)
    };
    for bad in [
        "\"5\"",
        "\"5.5\"",
        "1e30",
        "1e308",
        "-1",
        "-0.5",
        "-1e-9",
        "null",
        "[5]",
        "{}",
        "true",
        "9223372036854775808",
        "253402300800",
        "253402300799.5",
    ] {
        for rounded in [Rounded::Down, Rounded::Up] {
            assert_eq!(
                time(bad, rounded),
                Err(TokenError::Malformed),
                "{bad} {rounded:?}"
            );
        }
    }
    for (text, down, up) in [
        ("5", 5, 5),
        ("5.0", 5, 5),
        ("5e0", 5, 5),
        ("5.000001", 5, 6),
        ("5.999999", 5, 6),
        ("0", 0, 0),
        ("0.5", 0, 1),
        ("1800000000.25", 1_800_000_000, 1_800_000_001),
        ("1.8e9", 1_800_000_000, 1_800_000_000),
        ("253402300799", 253_402_300_799, 253_402_300_799),
    ] {
        let both = (time(text, Rounded::Down), time(text, Rounded::Up));
        assert_eq!(both, (Ok(Some(down)), Ok(Some(up))), "{text}");
    }
    assert_eq!(
        check(&key.sign(b"{}").unwrap(), &keys)
            .unwrap()
            .seconds("exp", Rounded::Up),
        Ok(None)
    );
}

#[test]
fn no_control_character_stands_in_a_claim() {
    let key = signing(Signs::EdDSA);
    let keys = set(json!([key.jwk()]));
    let result =
        |claims: Value| check(&key.sign(claims.to_string().as_bytes()).unwrap(), &keys).map(|_| ());
    for bad in [
        "\0",
        "a\0b",
        "\n",
        "a\r\n",
        "\t",
        "\u{1b}[2J",
        "\u{7f}",
        "\u{9b}",
        "\u{85}",
    ] {
        for claims in [
            json!({"sub": bad}),
            json!({"sub": format!("alice{bad}")}),
            json!({"aud": ["brevet", bad]}),
            json!({"a": {"b": [{"c": bad}]}}),
            json!({bad: 1}),
            json!({"a": {bad: 1}}),
        ] {
            assert_eq!(
                result(claims.clone()),
                Err(TokenError::Malformed),
                "{claims}"
            );
        }
    }
    for bad in [
        json!({"address": {"formatted": "1 Main St\0"}}),
        json!({"address": {"region": "a\nb"}}),
        json!({"formatted": "a\nb"}),
    ] {
        assert_eq!(result(bad.clone()), Err(TokenError::Malformed), "{bad}");
    }
    for good in [
        json!({"sub": "žluťoučký kůň 🐎 \u{a0}\u{2028}"}),
        json!({"address": {"formatted": "1 Main St\r\nSpringfield", "street_address": "1 Main St\nFlat 2"}}),
    ] {
        assert_eq!(result(good.clone()), Ok(()), "{good}");
    }
}

#[test]
fn oi_07_keys_that_cannot_be_used_are_passed_over() {
    let rsa = signing(Signs::RS256).jwk().clone();
    let with = |name: &str, value: Value| {
        let mut jwk = rsa.clone();
        jwk[name] = value;
        jwk
    };
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    for bad in [
        json!({"kty": "oct", "kid": "a", "k": "AAAA"}),
        with("use", json!("enc")),
        with("use", json!(1)),
        with("key_ops", json!(["encrypt"])),
        with("n", json!(short)),
        with("alg", json!("ES256")),
        with("alg", json!("RSA-OAEP")),
        with("alg", json!(["RS256"])),
        with("kid", json!(null)),
        with("kty", json!("EC")),
        with("d", json!("AAAA")),
        json!("RSA"),
        json!(null),
    ] {
        assert!(set(json!([bad])).is_empty(), "{bad}");
    }
    assert!(set(json!([rsa, rsa])).is_empty(), "which of two?");
    assert!(
        !set(json!([with("alg", json!(null))
            .as_object()
            .map(|o| {
                let mut o = o.clone();
                o.remove("alg");
                o
            })
            .unwrap()]))
        .is_empty()
    );
    assert!(KeySet::parse(b"{}").is_err() && KeySet::parse(b"[]").is_err());
    assert!(KeySet::parse(&vec![b' '; MAX_KEY_SET_BYTES + 1]).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[A-Za-z0-9_.-]{0,200}") {
        let _ = Unverified::read(&text);
    }

    #[test]
    fn no_key_set_makes_it_panic(text in ".{0,200}") {
        let _ = KeySet::parse(text.as_bytes());
    }
}
