use super::*;
use crate::s3::store::Style;

fn rules() -> StoreRules {
    StoreRules {
        style: Style::Path,
        names: Vec::new(),
        keeps_slashes: false,
        takes_trailers: true,
        region: "us-east-1".into(),
    }
}

fn keys(text: &str) -> Option<Vec<(String, Option<String>)>> {
    let condemned = parse(text, &rules()).ok()?;
    let pair = |c: Condemned| (c.key.as_str().to_owned(), c.version);
    Some(condemned.into_iter().map(pair).collect())
}

#[test]
fn os_03_every_object_of_a_list_is_read() {
    let object = |key: &str| format!("<Object><Key>{key}</Key></Object>");
    let delete = |inner: &str| format!("<Delete>{inner}</Delete>");
    let found = keys(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  <Quiet>true</Quiet>\n  <Object><Key>a &amp; b</Key><VersionId>v1</VersionId></Object>\n  <Object><ETag>e</ETag><Key>&#252;/x</Key></Object>\n</Delete>\n",
    );
    assert_eq!(
        found.unwrap(),
        [
            ("a & b".to_owned(), Some("v1".to_owned())),
            ("ü/x".to_owned(), None)
        ]
    );
    let thousand = object("k").repeat(1_000);
    assert_eq!(keys(&delete(&thousand)).unwrap().len(), 1_000);
    assert_eq!(keys(&delete(&(thousand + &object("k")))), None);
    for bad in [
        "",
        "<Delete/>",
        &delete(""),
        &delete("<Object/>"),
        &delete("<Object><VersionId>v</VersionId></Object>"),
        &delete("<Object><Key></Key></Object>"),
        &delete("<Object><Key>a</Key><Key>secret</Key></Object>"),
        &delete("<Object><Key>a<b/>c</Key></Object>"),
        &delete("<Object><Key>a</Key><VersionId></VersionId></Object>"),
        &delete("<Object><Key>a</Key><VersionId>../../b</VersionId></Object>"),
        &delete("<Object><Key>a</Key><Other>x</Other></Object>"),
        &delete("<Object><key>a</key></Object>"),
        &delete("<Object x=\"y\"><Key>a</Key></Object>"),
        &delete("<Object><Key x=\"y\">a</Key></Object>"),
        &delete("<Object><Key> a</Key></Object>"),
        &delete("<Object><Key>a\n</Key></Object>"),
        &delete("<Object><Key>a&#10;b</Key></Object>"),
        &delete("<Object><Key>../a</Key></Object>"),
        &delete("<Object><Key>a//b</Key></Object>"),
        &delete("<Object><Key><![CDATA[a]]></Key></Object>"),
        &delete("<Object><Key>a<!-- b -->c</Key></Object>"),
        &delete("<Object><Key>a<?b c?>d</Key></Object>"),
        &delete("text<Object><Key>a</Key></Object>"),
        &delete("<Object>text<Key>a</Key></Object>"),
        &delete(&(object("a") + "<Quiet>yes</Quiet>")),
        &delete(&(object("a") + "<Quiet>true</Quiet><Quiet>false</Quiet>")),
        &delete(&(object("a") + "<Object2/>")),
        "<Delete xmlns=\"urn:other\"><Object><Key>a</Key></Object></Delete>",
        "<Delete xmlns:p=\"urn:p\"><p:Object><p:Key>a</p:Key></p:Object></Delete>",
        "<Remove><Object><Key>a</Key></Object></Remove>",
        "\u{feff}<Delete><Object><Key>a</Key></Object></Delete>",
        "<!DOCTYPE Delete [<!ENTITY e \"secret\">]><Delete><Object><Key>&e;</Key></Object></Delete>",
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?><Delete><Object><Key>a</Key></Object></Delete>",
        "<?xml version=\"1.0\"?><?x y?><Delete><Object><Key>a</Key></Object></Delete>",
        "<Delete><Object><Key>a</Key></Object></Delete><Delete/>",
        "<Delete><Object><Key>a</Key></Object>",
    ] {
        assert_eq!(keys(bad), None, "{bad}");
    }
}

#[test]
fn os_03_the_list_is_the_one_that_the_head_declares() {
    const BODY: &[u8] = b"<Delete><Object><Key>a</Key></Object></Delete>";
    let judge =
        |payload: Payload<'_>, headers: &[(&str, &str)], body: Option<&[u8]>, size: Option<u64>| {
            let headers: Vec<(String, String)> = headers
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            let head = Head {
                method: "POST",
                path: "/data?delete",
                authority: "s3.example.com",
                headers: &headers,
                body,
                size,
            };
            match read(&head, payload, &rules()) {
                Ok(condemned) => condemned.len().to_string(),
                Err(refusal) => refusal.code.as_str().to_owned(),
            }
        };
    let hash = hex(&sha256(BODY));
    let hashed = Payload::Hashed(&hash);
    let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
    let sum = encoded(&sha256(BODY));
    let crc = encoded(&crc32(BODY).to_be_bytes());
    for (payload, headers, expected) in [
        (hashed, &[][..], "1"),
        (Payload::Unsigned, &[], "1"),
        (
            Payload::Unsigned,
            &[("x-amz-checksum-sha256", sum.as_str())],
            "1",
        ),
        (
            Payload::Unsigned,
            &[("x-amz-checksum-crc32", crc.as_str())],
            "1",
        ),
        (
            Payload::Unsigned,
            &[("x-amz-checksum-crc32", "AAAAAA==")],
            "BadDigest",
        ),
        (
            Payload::Unsigned,
            &[("x-amz-checksum-sha1", crc.as_str())],
            "BadDigest",
        ),
        (
            Payload::Unsigned,
            &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")],
            "1",
        ),
        (Payload::Unsigned, &[("content-md5", "x")], "InvalidDigest"),
        (
            Payload::Unsigned,
            &[("content-encoding", "gzip")],
            "MalformedXML",
        ),
        (Payload::UnsignedTrailer, &[], "NotImplemented"),
    ] {
        assert_eq!(
            judge(payload, headers, Some(BODY), None),
            expected,
            "{headers:?}"
        );
    }
    let other = hex(&sha256(b"other"));
    assert_eq!(
        judge(Payload::Hashed(&other), &[], Some(BODY), None),
        "BadDigest"
    );
    assert_eq!(judge(hashed, &[], None, None), "NotImplemented");
    assert_eq!(judge(hashed, &[], Some(BODY), Some(46)), "1");
    assert_eq!(judge(hashed, &[], Some(BODY), Some(4_600)), "MalformedXML");
    assert_eq!(judge(hashed, &[], Some(b"\xff"), None), "BadDigest");
    assert_eq!(
        judge(Payload::Unsigned, &[], Some(b"\xff"), None),
        "MalformedXML"
    );
    let long = vec![b' '; (2 << 20) + 1];
    assert_eq!(
        judge(Payload::Unsigned, &[], Some(&long), None),
        "MalformedXML"
    );
    // The check value of the catalogue of CRCs.
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
