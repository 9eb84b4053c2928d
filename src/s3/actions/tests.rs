use super::*;
use crate::s3::operations::Operation;
use crate::s3::store::Style;
use crate::s3::{S3Refusal, route};

const RULES: fn() -> StoreRules = || StoreRules {
    style: Style::Path,
    names: vec!["s3.example.com".into()],
    keeps_slashes: false,
    takes_trailers: true,
    region: "us-east-1".into(),
};

/// Returns the permissions that a request needs, as `ACTION RESOURCE` without the prefixes `s3:`
/// and `arn:aws:s3:::`.
fn needs(line: &str, headers: &[(&str, &str)]) -> Vec<String> {
    found(line, headers, None, |checks| {
        let text = |check: &Check<'_>| {
            let resource = check.resource.strip_prefix("arn:aws:s3:::").unwrap();
            format!("{} {resource}", check.action.strip_prefix("s3:").unwrap())
        };
        checks.iter().map(text).collect()
    })
    .unwrap_or_else(|refusal| vec![refusal.code.as_str().to_owned()])
}

fn found<T>(
    line: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
    use_them: impl FnOnce(&[Check<'_>]) -> T,
) -> Result<T, S3Refusal> {
    let (method, path) = line.split_once(' ').unwrap();
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    let head = Head {
        method,
        path,
        authority: "s3.example.com",
        headers: &headers,
        body,
        size: None,
    };
    let rules = RULES();
    let routed = route(&head, &rules)?;
    Ok(use_them(&checks(
        &head,
        &routed,
        Payload::Unsigned,
        &rules,
    )?))
}

/// Returns the condition keys of the first permission, as `KEY=VALUE`.
fn keys(line: &str, headers: &[(&str, &str)]) -> Vec<String> {
    found(line, headers, None, |checks| {
        let text = |value: &Value<'_>| match value {
            Value::One(value) => value.to_string(),
            Value::Many(values) => values.join("|"),
        };
        let keys = checks[0].keys.iter();
        keys.map(|(name, value)| format!("{name}={}", text(value)))
            .collect()
    })
    .unwrap()
}

#[test]
fn each_operation_needs_its_permissions() {
    let governance = ("x-amz-bypass-governance-retention", "true");
    for (line, headers, expected) in [
        ("GET /", &[][..], &["ListAllMyBuckets *"][..]),
        ("GET /data", &[], &["ListBucket data"]),
        ("HEAD /data", &[], &["ListBucket data"]),
        ("GET /data?list-type=2", &[], &["ListBucket data"]),
        ("GET /data?versions", &[], &["ListBucketVersions data"]),
        (
            "GET /data?uploads",
            &[],
            &["ListBucketMultipartUploads data"],
        ),
        ("GET /data?location", &[], &["GetBucketLocation data"]),
        ("DELETE /data?cors", &[], &["PutBucketCORS data"]),
        (
            "DELETE /data?encryption",
            &[],
            &["PutEncryptionConfiguration data"],
        ),
        (
            "DELETE /data?lifecycle",
            &[],
            &["PutLifecycleConfiguration data"],
        ),
        ("DELETE /data?tagging", &[], &["PutBucketTagging data"]),
        ("DELETE /data?website", &[], &["DeleteBucketWebsite data"]),
        ("PUT /data", &[], &["CreateBucket data"]),
        (
            "PUT /data",
            &[
                ("x-amz-acl", "private"),
                ("x-amz-bucket-object-lock-enabled", "true"),
            ],
            &[
                "CreateBucket data",
                "PutBucketAcl data",
                "PutBucketObjectLockConfiguration data",
                "PutBucketVersioning data",
            ],
        ),
        ("GET /data/a", &[], &["GetObject data/a"]),
        ("HEAD /data/a", &[], &["GetObject data/a"]),
        ("GET /data/a?versionId=1", &[], &["GetObjectVersion data/a"]),
        (
            "GET /data/a/",
            &[],
            &["GetObject data/a/", "GetObject data/a"],
        ),
        ("GET /data/a?acl", &[], &["GetObjectAcl data/a"]),
        (
            "GET /data/a?acl&versionId=1",
            &[],
            &["GetObjectVersionAcl data/a"],
        ),
        (
            "GET /data/a?tagging&versionId=1",
            &[],
            &["GetObjectVersionTagging data/a"],
        ),
        (
            "GET /data/a?attributes",
            &[("x-amz-object-attributes", "ETag,Checksum")],
            &["GetObject data/a", "GetObjectAttributes data/a"],
        ),
        (
            "GET /data/a?attributes&versionId=1",
            &[("x-amz-object-attributes", "ETag")],
            &[
                "GetObjectVersion data/a",
                "GetObjectVersionAttributes data/a",
            ],
        ),
        (
            "GET /data/a?uploadId=u",
            &[],
            &["ListMultipartUploadParts data/a"],
        ),
        ("PUT /data/a", &[], &["PutObject data/a"]),
        (
            "PUT /data/a",
            &[("x-amz-acl", "private")],
            &["PutObject data/a", "PutObjectAcl data/a"],
        ),
        (
            "PUT /data/a",
            &[("x-amz-grant-read", "id=\"x\"")],
            &["PutObject data/a", "PutObjectAcl data/a"],
        ),
        (
            "PUT /data/a",
            &[("x-amz-tagging", "a=b")],
            &["PutObject data/a", "PutObjectTagging data/a"],
        ),
        (
            "PUT /data/a",
            &[
                ("x-amz-object-lock-mode", "GOVERNANCE"),
                ("x-amz-object-lock-legal-hold", "ON"),
            ],
            &[
                "PutObject data/a",
                "PutObjectRetention data/a",
                "PutObjectLegalHold data/a",
            ],
        ),
        (
            "POST /data/a?uploads",
            &[("x-amz-tagging", "a=b")],
            &["PutObject data/a", "PutObjectTagging data/a"],
        ),
        (
            "PUT /data/a?partNumber=1&uploadId=u",
            &[],
            &["PutObject data/a"],
        ),
        ("POST /data/a?uploadId=u", &[], &["PutObject data/a"]),
        (
            "DELETE /data/a?uploadId=u",
            &[],
            &["AbortMultipartUpload data/a"],
        ),
        (
            "PUT /data/a?partNumber=1&uploadId=u",
            &[("x-amz-copy-source", "other/b")],
            &["GetObject other/b", "PutObject data/a"],
        ),
        (
            "PUT /data/a",
            &[
                ("x-amz-copy-source", "other/b"),
                ("x-amz-tagging-directive", "REPLACE"),
            ],
            &["GetObject other/b", "PutObject data/a"],
        ),
        (
            "PUT /data/a",
            &[("x-amz-copy-source", "/other/b?versionId=7")],
            &[
                "GetObjectVersion other/b",
                "PutObject data/a",
                "GetObjectVersionTagging other/b",
                "PutObjectTagging data/a",
            ],
        ),
        (
            "PUT /data/a",
            &[
                ("x-amz-copy-source", "other/b"),
                ("x-amz-tagging-directive", "replace"),
            ],
            &["InvalidArgument"],
        ),
        ("DELETE /data/a", &[], &["DeleteObject data/a"]),
        (
            "DELETE /data/a?versionId=1",
            &[],
            &["DeleteObjectVersion data/a"],
        ),
        (
            "DELETE /data/a?versionId=1",
            &[governance],
            &[
                "DeleteObjectVersion data/a",
                "BypassGovernanceRetention data/a",
            ],
        ),
        (
            "DELETE /data/a",
            &[("x-amz-bypass-governance-retention", "yes")],
            &["InvalidArgument"],
        ),
        (
            "DELETE /data/a?tagging",
            &[],
            &["DeleteObjectTagging data/a"],
        ),
        (
            "PUT /data/a?tagging&versionId=1",
            &[],
            &["PutObjectVersionTagging data/a"],
        ),
        (
            "PUT /data/a?acl",
            &[("x-amz-acl", "public-read")],
            &["PutObjectAcl data/a"],
        ),
        (
            "PUT /data/a?acl&versionId=1",
            &[],
            &["PutObjectVersionAcl data/a"],
        ),
        (
            "PUT /data/a?retention",
            &[governance],
            &[
                "PutObjectRetention data/a",
                "BypassGovernanceRetention data/a",
            ],
        ),
        (
            "PUT /data/a?legal-hold",
            &[],
            &["PutObjectLegalHold data/a"],
        ),
        ("POST /data/a?restore", &[], &["NotImplemented"]),
        ("PUT /data?policy", &[], &["NotImplemented"]),
        ("PUT /data?logging", &[], &["NotImplemented"]),
        ("PUT /data?replication", &[], &["NotImplemented"]),
        ("GET /data?session", &[], &["NotImplemented"]),
        (
            "POST /data/a?select&select-type=2",
            &[],
            &["NotImplemented"],
        ),
        (
            "PUT /data/a?renameObject",
            &[("x-amz-rename-source", "b")],
            &["NotImplemented"],
        ),
        ("POST /data?delete", &[], &["NotImplemented"]),
    ] {
        assert_eq!(needs(line, headers), expected, "{line} {headers:?}");
    }
}

#[test]
fn os_05_what_the_head_says_is_a_condition_key_and_nothing_else_is() {
    let none: [&str; 0] = [];
    for (line, headers, expected) in [
        ("GET /data", &[][..], &none[..]),
        ("GET /data?prefix=", &[], &["s3:prefix="]),
        (
            "GET /data?list-type=2&prefix=home%2Fx&delimiter=%2F&max-keys=10&start-after=home%2Fxy",
            &[],
            &["s3:prefix=home/x", "s3:delimiter=/", "s3:max-keys=10"],
        ),
        ("GET /data?uploads&prefix=home", &[], &none),
        ("GET /data/a?versionId=7", &[], &["s3:versionid=7"]),
        (
            "PUT /data/a",
            &[
                ("x-amz-acl", "private"),
                ("x-amz-storage-class", "GLACIER"),
                ("x-amz-server-side-encryption", "aws:kms"),
                ("x-amz-tagging", "Team=blue&b=%20"),
                ("x-amz-object-lock-mode", "GOVERNANCE"),
                ("if-none-match", "*"),
                ("x-amz-meta-a", "b"),
            ],
            &[
                "s3:x-amz-acl=private",
                "s3:x-amz-server-side-encryption=aws:kms",
                "s3:x-amz-storage-class=GLACIER",
                "s3:if-none-match=*",
                "s3:objectcreationoperation=true",
                "s3:object-lock-mode=GOVERNANCE",
                "s3:requestobjecttag/team=blue",
                "s3:requestobjecttag/b= ",
                "s3:requestobjecttagkeys=Team|b",
            ],
        ),
        (
            "POST /data/a?uploads",
            &[],
            &["s3:objectcreationoperation=false"],
        ),
        (
            "PUT /data/a?partNumber=1&uploadId=u",
            &[],
            &["s3:objectcreationoperation=false"],
        ),
        (
            "POST /data/a?uploadId=u",
            &[("if-match", "x")],
            &["s3:if-match=x", "s3:objectcreationoperation=true"],
        ),
        ("DELETE /data/a", &[("if-match", "x")], &["s3:if-match=x"]),
    ] {
        assert_eq!(keys(line, headers), expected, "{line}");
    }
    let copied = [("x-amz-copy-source", "/other/b%20c")];
    found("PUT /data/a", &copied, None, |checks| {
        let source = ("s3:x-amz-copy-source".into(), one("other/b c"));
        assert!(
            !checks[0].keys.contains(&source),
            "the source is read without it"
        );
        assert!(checks[1].keys.contains(&source));
        assert!(checks[2].note.is_some() && checks[3].note.is_some());
    })
    .unwrap();
    for tags in [
        "a=b&a=c",
        "a=b&A=c",
        "=b",
        "a=b+c",
        "a=%",
        "a&&b",
        &"a=b&".repeat(11),
    ] {
        assert_eq!(
            needs("PUT /data/a", &[("x-amz-tagging", tags)]),
            ["InvalidArgument"],
            "{tags}"
        );
    }
}

#[test]
fn os_03_each_object_of_a_list_needs_its_own_permission() {
    let body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b/</Key><VersionId>7</VersionId></Object></Delete>";
    let bypass = [("x-amz-bypass-governance-retention", "true")];
    let all = |headers: &[(&str, &str)]| {
        found("POST /data?delete", headers, Some(body), |checks| {
            checks
                .iter()
                .map(|c| format!("{} {}", c.action, c.resource))
                .collect::<Vec<_>>()
        })
        .unwrap()
    };
    assert_eq!(
        all(&[]),
        [
            "s3:DeleteObject arn:aws:s3:::data/a",
            "s3:DeleteObjectVersion arn:aws:s3:::data/b/",
            "s3:DeleteObjectVersion arn:aws:s3:::data/b",
        ]
    );
    assert_eq!(all(&bypass).len(), 6);
}

#[test]
fn what_only_the_store_knows_is_said_of_each_permission() {
    let unknown = |line: &str, headers: &[(&str, &str)]| {
        found(line, headers, None, |checks| checks[0].unknown.to_vec()).unwrap()
    };
    let tags = "s3:existingobjecttag/";
    for line in [
        "GET /data/a",
        "GET /data/a?tagging",
        "PUT /data/a?tagging",
        "DELETE /data/a?tagging",
        "PUT /data/a?acl",
    ] {
        assert!(unknown(line, &[]).contains(&tags), "{line}");
    }
    for line in [
        "PUT /data/a",
        "DELETE /data/a",
        "GET /data",
        "GET /data/a?uploadId=u",
    ] {
        assert!(!unknown(line, &[]).contains(&tags), "{line}");
    }
    assert!(unknown("PUT /data/a?tagging", &[]).contains(&"s3:requestobjecttag/"));
    for line in ["PUT /data/a?acl", "PUT /data?acl"] {
        assert!(unknown(line, &[]).contains(&"s3:x-amz-acl"), "{line}");
        let sent = [("x-amz-acl", "private")];
        assert!(!unknown(line, &sent).contains(&"s3:x-amz-acl"), "{line}");
    }
    assert!(unknown("PUT /data/a?retention", &[]).contains(&"s3:object-lock-mode"));
    assert!(!unknown("PUT /data/a", &[]).contains(&"s3:object-lock-remaining-retention-days"));
    let locked = [(
        "x-amz-object-lock-retain-until-date",
        "2030-01-01T00:00:00Z",
    )];
    assert!(unknown("PUT /data/a", &locked).contains(&"s3:object-lock-remaining-retention-days"));
}

/// Checks that every operation in the table needs a permission or is refused by name.
#[test]
fn an_04_no_operation_is_without_a_permission() {
    let mut judged = 0;
    for operation in Operation::all() {
        let (line, headers) = operation.example();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let needed = needs(&line, &headers);
        assert!(!needed.is_empty(), "{}", operation.name);
        judged += usize::from(needed != ["NotImplemented"]);
    }
    assert_eq!(judged, 64, "the number of operations that are judged");
}

#[test]
fn os_06_a_part_of_an_object_needs_what_the_object_needs() {
    let copy = [("x-amz-copy-source", "other/b")];
    for (line, headers, expected) in [
        ("POST /data/a?uploads", &[][..], &["PutObject data/a"][..]),
        (
            "PUT /data/a?partNumber=1&uploadId=u",
            &[],
            &["PutObject data/a"],
        ),
        (
            "PUT /data/a?partNumber=1&uploadId=u",
            &copy,
            &["GetObject other/b", "PutObject data/a"],
        ),
        ("POST /data/a?uploadId=u", &[], &["PutObject data/a"]),
        (
            "GET /data/a?uploadId=u",
            &[],
            &["ListMultipartUploadParts data/a"],
        ),
        ("GET /data/a?partNumber=1", &[], &["GetObject data/a"]),
        (
            "GET /data/a?partNumber=1&uploadId=u",
            &[],
            &["NotImplemented"],
        ),
        ("PUT /data/a?partNumber=1", &[], &["NotImplemented"]),
        ("PUT /data/a?uploadId=u", &copy, &["NotImplemented"]),
        (
            "PUT /data/a?partNumber=1&uploadId=..%2Fu",
            &[],
            &["InvalidArgument"],
        ),
    ] {
        assert_eq!(needs(line, headers), expected, "{line}");
    }
}

#[test]
fn os_07_uploads_by_a_form_are_refused_with_what_to_do() {
    for form in [
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
    ] {
        let sent = [("content-type", form)];
        let refused = found("POST /data", &sent, Some(b"x"), |_| ()).unwrap_err();
        assert_eq!(refused.code, Code::NotImplemented);
        assert!(
            refused.message.contains("use a presigned PUT"),
            "{}",
            refused.message
        );
    }
}
