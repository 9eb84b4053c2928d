//! Tests with responses that xmlsec1 encrypted (`tests/data/saml/encrypted`), and with altered
//! copies of them.

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey,
    PrivateDecryptingKey,
};

use super::*;
use crate::proof::saml::assertion::SAML;
use crate::proof::saml::tests::{accept_with, data, made_at, metadata};
use crate::proof::saml::{Accepted, SignatureError};

fn key() -> DecryptionKey {
    DecryptionKey::parse(data("encrypted/sp.key").as_bytes()).unwrap()
}

/// Returns a private key that none of the test files was encrypted for.
fn other_key() -> DecryptionKey {
    DecryptionKey::parse(data("rsa.key").as_bytes()).unwrap()
}

fn accept(xml: &str, keys: &[DecryptionKey]) -> Result<Accepted, Refusal> {
    accept_with(xml.as_bytes(), &metadata("xmlsec"), keys, made_at())
}

fn named(name: &str) -> String {
    data(&format!("encrypted/{name}.xml"))
}

/// Returns the public key of the test key pair.
fn public() -> OaepPublicEncryptingKey {
    let pem = data("encrypted/sp.key");
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = PrivateDecryptingKey::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
    OaepPublicEncryptingKey::new(key.public_key()).unwrap()
}

/// Returns a response with `text` as its assertion, encrypted for the test key.
fn encrypted(text: &str, how: &'static OaepAlgorithm, method: &str) -> String {
    let (secret, public) = ([7; 32], public());
    let mut copy = vec![0; public.ciphertext_size()];
    let copy = public
        .encrypt(how, &secret, &mut copy, None)
        .unwrap()
        .to_vec();
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, &secret).unwrap();
    let nonce = aead::Nonce::assume_unique_for_key([9; 12]);
    let mut content = text.as_bytes().to_vec();
    aead::LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, aead::Aad::empty(), &mut content)
        .unwrap();
    let content = [&[9; 12][..], &content].concat();
    let xml = named("aes256");
    let (before, rest) = xml.split_once("<EncryptedAssertion").unwrap();
    let (_, after) = rest.split_once("</EncryptedAssertion>").unwrap();
    format!(
        "{before}<EncryptedAssertion xmlns='{SAML}'><e:EncryptedData xmlns:e='{XMLENC}'>\
         <e:EncryptionMethod Algorithm='{XMLENC11}aes256-gcm'/><KeyInfo xmlns='{XMLDSIG}'>\
         <e:EncryptedKey>{method}<e:CipherData><e:CipherValue>{}</e:CipherValue></e:CipherData>\
         </e:EncryptedKey></KeyInfo><e:CipherData><e:CipherValue>{}</e:CipherValue>\
         </e:CipherData></e:EncryptedData></EncryptedAssertion>{after}",
        STANDARD.encode(copy),
        STANDARD.encode(content)
    )
}

const MGF1P: &str =
    "<e:EncryptionMethod Algorithm='http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p'/>";

/// Returns the element EncryptionMethod of a key. `digest` and `mask` select SHA-256 instead of
/// SHA-1 for the digest and the mask generation function.
fn method(digest: bool, mask: bool) -> String {
    let digest = if digest {
        "<d:DigestMethod xmlns:d='http://www.w3.org/2000/09/xmldsig#' \
         Algorithm='http://www.w3.org/2001/04/xmlenc#sha256'/>"
    } else {
        ""
    };
    let mask = if mask { "mgf1sha256" } else { "mgf1sha1" };
    format!(
        "<e:EncryptionMethod Algorithm='{XMLENC11}rsa-oaep'>{digest}<m:MGF xmlns:m='{XMLENC11}' \
         Algorithm='{XMLENC11}{mask}'/></e:EncryptionMethod>"
    )
}

/// Returns the signed assertion of a test response as a document of its own.
fn assertion() -> String {
    let xml = data("xmlsec-rsa-sha256.xml");
    let (_, rest) = xml.split_once("<Assertion ").unwrap();
    let (inner, _) = rest.split_once("</Assertion>").unwrap();
    format!("<Assertion xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' {inner}</Assertion>")
}

#[test]
fn sa_05_encrypted_assertions_say_what_they_said_before() {
    let plain = accept(&data("xmlsec-rsa-sha256.xml"), &[]).unwrap();
    for name in ["aes128", "aes256", "key-beside"] {
        assert_eq!(
            accept(&named(name), &[key()]).as_ref(),
            Ok(&plain),
            "{name}"
        );
        let both = [other_key(), key()];
        assert_eq!(accept(&named(name), &both).as_ref(), Ok(&plain), "{name}");
    }
    for (how, method) in [
        (&OAEP_SHA1_MGF1SHA1, MGF1P.to_owned()),
        (&OAEP_SHA1_MGF1SHA1, method(false, false)),
        (&OAEP_SHA256_MGF1SHA256, method(true, true)),
    ] {
        let xml = encrypted(&assertion(), how, &method);
        assert_eq!(accept(&xml, &[key()]).as_ref(), Ok(&plain), "{method}");
    }
}

#[test]
fn sa_05_an_encrypted_assertion_is_signed_or_in_a_signed_response() {
    assert_eq!(accept(&named("unsigned"), &[key()]), Err(Refusal::Unsigned));
    let plain = accept(&data("xmlsec-response.xml"), &[]).unwrap();
    assert_eq!(accept(&named("response"), &[key()]), Ok(plain));
    // What the response's signature covers is the ciphertext.
    let xml = named("response");
    let (before, rest) = xml.split_once("<EncryptedAssertion").unwrap();
    let (_, after) = rest.split_once("</EncryptedAssertion>").unwrap();
    let other = encrypted(&assertion(), &OAEP_SHA1_MGF1SHA1, MGF1P);
    let (_, other) = other.split_once("<EncryptedAssertion").unwrap();
    let (other, _) = other.split_once("</EncryptedAssertion>").unwrap();
    let moved = format!("{before}<EncryptedAssertion{other}</EncryptedAssertion>{after}");
    let refused = accept(&moved, &[key()]);
    assert!(
        matches!(
            refused,
            Err(Refusal::Signature {
                why: SignatureError::Digest,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn sa_05_what_is_decrypted_takes_the_same_path() {
    let good = assertion();
    let refused = |text: &str| {
        let xml = encrypted(text, &OAEP_SHA1_MGF1SHA1, MGF1P);
        accept(&xml, &[key()]).unwrap_err()
    };
    let signature = |refusal| matches!(refusal, Refusal::Signature { .. });
    assert!(signature(refused(
        &good.replace("car<!-- between -->ol", "mallory")
    )));
    // Wrapped, doubled, something else, or no XML.
    let evil = good.replace("ID=\"_assertion\"", "ID=\"_evil\"");
    for text in [
        format!("<Assertion xmlns='{SAML}' ID='_x' Version='2.0'>{good}</Assertion>"),
        format!("<Advice xmlns='{SAML}'>{good}</Advice>"),
        evil.replace("<Subject>", &format!("<Advice>{good}</Advice><Subject>")),
        format!("<EncryptedAssertion xmlns='{SAML}'>{good}</EncryptedAssertion>"),
    ] {
        assert_eq!(refused(&text), Refusal::Assertions, "{text}");
    }
    for text in [
        format!("{good}{good}"),
        format!("<!DOCTYPE x>{good}"),
        format!("<?x y?>{good}"),
        String::new(),
        "x".to_owned(),
    ] {
        assert!(matches!(refused(&text), Refusal::Xml(_)), "{text}");
    }
    let misplaced = good.replace("<Subject>", "<Subject><Signature xmlns='urn:x'/>");
    assert_eq!(refused(&misplaced), Refusal::MisplacedSignature);
}

#[test]
fn sa_05_every_failure_to_decrypt_is_one_refusal() {
    assert_eq!(accept(&named("aes256"), &[]), Err(Refusal::Encrypted));
    let xml = named("aes256");
    assert_eq!(accept(&xml, &[other_key()]), Err(Refusal::Decryption));
    let values: Vec<_> = xml
        .match_indices("CipherValue>")
        .map(|(at, found)| at + found.len())
        .collect();
    assert_eq!(values.len(), 4);
    for (start, end) in [(values[0], values[1]), (values[2], values[3])] {
        let end = end - "</e:CipherValue>".len();
        let value: String = xml[start..end].split_whitespace().collect();
        let bytes = STANDARD.decode(value).unwrap();
        let with = |bytes: &[u8]| {
            let xml = format!("{}{}{}", &xml[..start], STANDARD.encode(bytes), &xml[end..]);
            accept(&xml, &[key()]).unwrap_err()
        };
        for at in [
            0,
            11,
            12,
            bytes.len() / 2,
            bytes.len() - 17,
            bytes.len() - 1,
        ] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(with(&changed), Refusal::Decryption, "{at}");
        }
        for other in [
            &bytes[1..],
            &bytes[..bytes.len() - 1],
            &bytes[..20],
            &[],
            &[0; 256],
        ] {
            assert_eq!(with(other), Refusal::Decryption, "{}", other.len());
        }
    }
    // A key of another length than the algorithm has.
    let other = xml.replace("#aes256-gcm", "#aes128-gcm");
    assert_eq!(accept(&other, &[key()]), Err(Refusal::Decryption));
}

#[test]
fn sa_04_other_algorithms_of_encryption_are_refused_by_name() {
    let refused = |xml: &str| match accept(xml, &[key()]) {
        Err(Refusal::EncryptionAlgorithm(name)) => name,
        other => panic!("{other:?}"),
    };
    assert!(refused(&named("refused-cbc")).ends_with("#aes256-cbc`"));
    assert!(refused(&named("refused-rsa-1_5")).ends_with("#rsa-1_5`"));
    let good = named("aes256");
    for (old, new) in [
        ("#aes256-gcm", "#aes192-gcm"),
        ("#aes256-gcm", "#tripledes-cbc"),
        ("#rsa-oaep-mgf1p", "#kw-aes256"),
        ("#rsa-oaep-mgf1p", ""),
    ] {
        assert!(good.contains(old));
        let name = refused(&good.replace(old, new));
        assert!(name.contains(new), "{name}");
    }
    for (digest, mask) in [(true, false), (false, true)] {
        let xml = encrypted(&assertion(), &OAEP_SHA256_MGF1SHA256, &method(digest, mask));
        assert!(refused(&xml).contains("different hash functions"));
    }
}

#[test]
fn encrypted_assertions_have_one_shape() {
    let good = named("aes256");
    let key_start = good.find("<e:EncryptedKey").unwrap();
    let key_end = good.find("</e:EncryptedKey>").unwrap() + "</e:EncryptedKey>".len();
    let copy = &good[key_start..key_end];
    for (old, new) in [
        ("xmlenc#Element", "xmlenc#Content"),
        ("</EncryptedAssertion>", "text</EncryptedAssertion>"),
        ("</EncryptedAssertion>", "<x/></EncryptedAssertion>"),
        (copy, ""),
        (copy, &copy.repeat(MAX_COPIES + 1)),
        (
            "<e:CipherValue>",
            "<e:CipherReference URI='#x'/><e:CipherValue>",
        ),
        ("<e:CipherValue>", "<e:CipherValue>*"),
        ("<e:CipherValue>", "<e:CipherValue><x/>"),
    ] {
        assert!(good.contains(old), "{old}");
        let refused = accept(&good.replace(old, new), &[key()]).unwrap_err();
        assert!(
            matches!(refused, Refusal::Element { .. }),
            "{new}: {refused:?}"
        );
    }
    // Two of them, or one beside an assertion in the clear.
    let start = good.find("<EncryptedAssertion").unwrap();
    let end = good.find("</EncryptedAssertion>").unwrap() + "</EncryptedAssertion>".len();
    for other in [good[start..end].to_owned(), assertion()] {
        let xml = format!("{}{other}{}", &good[..start], &good[start..]);
        assert!(accept(&xml, &[key()]).is_err());
    }
    // Many copies of the key: as many as are allowed.
    let xml = good.replace(copy, &copy.repeat(MAX_COPIES));
    assert!(accept(&xml, &[other_key(), key()]).is_ok());
}

#[test]
fn private_keys_are_rsa_in_pkcs_8() {
    let pem = data("encrypted/sp.key");
    assert!(DecryptionKey::parse(pem.as_bytes()).is_ok());
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for text in [
        String::new(),
        body.clone(),
        pem.replace("PRIVATE KEY", "RSA PRIVATE KEY"),
        pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
        pem.replacen("MII", "AII", 1),
        ec,
    ] {
        assert_eq!(
            DecryptionKey::parse(text.as_bytes()).err(),
            Some(DecryptionKeyError::Form)
        );
    }
    assert_eq!(format!("{:?}", key()), "DecryptionKey");
}

#[test]
fn as_much_is_tried_for_a_provider_without_keys() {
    for keys in [vec![], vec![key()], vec![key(), other_key()]] {
        assert_eq!(tried(&keys).len(), MAX_KEYS);
    }
    // The key of nobody takes the place of a missing one, and opens nothing.
    assert!(std::ptr::eq(tried(&[])[0], tried(&[])[1]));
    let xml = named("aes256");
    assert_eq!(accept(&xml, &[]).err(), Some(Refusal::Encrypted));
    assert_eq!(
        accept(&xml, &[other_key()]).err(),
        Some(Refusal::Decryption)
    );
    assert!(accept(&xml, &[key()]).is_ok());
}
