use proptest::prelude::*;

use super::*;

fn rules(style: Style, keeps_slashes: bool) -> StoreRules {
    StoreRules {
        style,
        names: vec!["s3.example.com".into()],
        keeps_slashes,
        takes_trailers: true,
        region: "us-east-1".into(),
    }
}

/// Returns the operation, bucket, key and version that a request line asks for, or the error code
/// of its refusal.
fn ask(line: &str, headers: &[(&str, &str)], rules: &StoreRules, host: &str) -> String {
    let (method, path) = line.split_once(' ').unwrap();
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    let head = Head {
        method,
        path,
        authority: host,
        headers: &headers,
        body: None,
        size: None,
    };
    match route(&head, rules) {
        Err(refusal) => refusal.code.as_str().to_owned(),
        Ok(routed) => {
            let key = routed.key.as_ref().map_or("-", ObjectKey::as_str);
            let bucket = routed.bucket.unwrap_or("-");
            let mut text = format!("{} {bucket} {key}", routed.operation.name);
            if let Some(version) = &routed.version {
                text += &format!(" @{version}");
            }
            if let Some(source) = &routed.source {
                text += &format!(" < {} {}", source.bucket, source.key.as_str());
            }
            text
        }
    }
}

fn path_style(line: &str) -> String {
    ask(line, &[], &rules(Style::Path, false), "s3.example.com:8443")
}

#[test]
fn os_02_each_operation_is_told_from_the_others() {
    for (line, expected) in [
        ("GET /", "ListBuckets - -"),
        ("GET /?max-buckets=10&prefix=a", "ListBuckets - -"),
        ("GET /data", "ListObjects data -"),
        ("GET /data/", "ListObjects data -"),
        (
            "GET /data?prefix=&delimiter=%2F&max-keys=1000",
            "ListObjects data -",
        ),
        (
            "GET /data?list-type=2&prefix=home%2Fx",
            "ListObjectsV2 data -",
        ),
        (
            "GET /data?list-type=2&start-after=z&fetch-owner=true&encoding-type=url&continuation-token=ab%2F%2Fc%3D",
            "ListObjectsV2 data -",
        ),
        (
            "GET /data?list-type=2&x-id=ListObjectsV2",
            "ListObjectsV2 data -",
        ),
        ("GET /data?versions&prefix=x", "ListObjectVersions data -"),
        ("GET /data?uploads", "ListMultipartUploads data -"),
        ("GET /data?uploads=&prefix=x", "ListMultipartUploads data -"),
        ("GET /data?location", "GetBucketLocation data -"),
        ("GET /data?policy", "GetBucketPolicy data -"),
        (
            "GET /data?analytics",
            "ListBucketAnalyticsConfigurations data -",
        ),
        (
            "GET /data?analytics&id=x",
            "GetBucketAnalyticsConfiguration data -",
        ),
        ("HEAD /data", "HeadBucket data -"),
        ("PUT /data", "CreateBucket data -"),
        ("DELETE /data", "DeleteBucket data -"),
        ("POST /data?delete", "DeleteObjects data -"),
        ("POST /data?delete=", "DeleteObjects data -"),
        ("GET /data/a", "GetObject data a"),
        ("GET /data/a/b%20c", "GetObject data a/b c"),
        ("GET /data/%C3%BC/x", "GetObject data ü/x"),
        ("GET /data/p%252Fq", "GetObject data p%2Fq"),
        ("GET /data/a?x-id=GetObject", "GetObject data a"),
        ("GET /data/a?versionId=null", "GetObject data a @null"),
        (
            "GET /data/a?partNumber=3&response-content-type=text%2Fplain",
            "GetObject data a",
        ),
        ("GET /data/a?acl", "GetObjectAcl data a"),
        ("GET /data/a?acl&versionId=7", "GetObjectAcl data a @7"),
        ("GET /data/a?tagging=", "GetObjectTagging data a"),
        ("GET /data/a?uploadId=u", "ListParts data a"),
        (
            "GET /data/a?uploadId=u&max-parts=5&part-number-marker=0",
            "ListParts data a",
        ),
        ("HEAD /data/a", "HeadObject data a"),
        ("PUT /data/a", "PutObject data a"),
        ("PUT /data/a/", "PutObject data a/"),
        ("PUT /data/a?partNumber=1&uploadId=u", "UploadPart data a"),
        ("PUT /data/a?acl", "PutObjectAcl data a"),
        ("PUT /data/a?tagging", "PutObjectTagging data a"),
        ("PUT /data/a?retention", "PutObjectRetention data a"),
        ("DELETE /data/a", "DeleteObject data a"),
        ("DELETE /data/a?versionId=7", "DeleteObject data a @7"),
        ("DELETE /data/a?uploadId=u", "AbortMultipartUpload data a"),
        ("DELETE /data/a?tagging", "DeleteObjectTagging data a"),
        ("POST /data/a?uploads", "CreateMultipartUpload data a"),
        ("POST /data/a?uploadId=u", "CompleteMultipartUpload data a"),
        ("POST /data/a?restore", "RestoreObject data a"),
        (
            "POST /data/a?select&select-type=2",
            "SelectObjectContent data a",
        ),
        // The signature of a presigned request is no parameter of the operation.
        (
            "GET /data/a?X-Amz-Algorithm=x&X-Amz-Signature=y&X-Amz-Security-Token=%2B%2F%3D",
            "GetObject data a",
        ),
        (
            "GET /data/a?X-Amz-Algorithm=x&x-amz-checksum-mode=ENABLED&x-id=GetObject",
            "GetObject data a",
        ),
        (
            "PUT /data/a?X-Amz-Algorithm=x&x-amz-sdk-checksum-algorithm=CRC32&x-amz-checksum-crc32=AAAAAA%3D%3D",
            "PutObject data a",
        ),
    ] {
        assert_eq!(path_style(line), expected, "{line}");
    }
}

#[test]
fn os_04_two_operations_at_once_are_none() {
    for line in [
        "GET /data/a?acl&tagging",
        "GET /data?uploads&list-type=2",
        "GET /data?list-type=2&versions",
        "GET /data?list-type=1",
        "GET /data?list-type=",
        "GET /data?acl=x",
        "GET /data?delete",
        "GET /data?prefix=a&key-marker=b",
        "GET /data/a?uploads",
        "GET /data/a?prefix=x",
        "GET /data/a?list-type=2",
        "GET /data/a?acl&uploadId=u",
        "GET /data/a?torrent&acl",
        "GET /data/a?ACL",
        "GET /data/a?Tagging",
        "GET /data/a?unknown",
        "GET /data?x-minio-extract=true",
        "HEAD /data/a?acl",
        "HEAD /data?versions",
        "HEAD /",
        "PUT /",
        "PUT /data?versionId=1",
        "PUT /data/a?versionId=1",
        "PUT /data/a?uploadId=u",
        "PUT /data/a?partNumber=1",
        "PUT /data/a?acl&tagging",
        "PUT /data/a?append&position=0",
        "POST /data",
        "POST /data/",
        "POST /data/a",
        "POST /data?delete&acl",
        "POST /data/a?uploads&uploadId=u",
        "POST /data/a?select&select-type=1",
        "DELETE /",
        "DELETE /data/a?acl",
        "DELETE /data/a?uploadId=u&versionId=1",
        "DELETE /data?versionId=1",
    ] {
        assert_eq!(path_style(line), "NotImplemented", "{line}");
    }
    for line in [
        "GET /data/a?acl&acl",
        "GET /data/a?acl&ACL",
        "GET /data?prefix=a&prefix=b",
        "GET /data/a?versionId=1&versionid=2",
        "GET /data?&prefix=a",
        "GET /data?prefix=a&",
        "GET /data?prefix=a&&delimiter=b",
        "GET /data?=x",
        "GET /data?%70refix=a",
        "GET /data?pre%66ix=a",
        "GET /data?prefix+x=a",
        "GET /data?max-keys=",
        "GET /data?max-keys=-1",
        "GET /data?max-keys=1e3",
        "GET /data?max-keys=99999999999",
        "GET /data?encoding-type=utf8",
        "GET /data/a?versionId=",
        "GET /data/a?versionId=a%20b",
        "GET /data/a?uploadId=",
        "GET /data/a?partNumber=0",
        "GET /data/a?partNumber=01",
        "GET /data/a?partNumber=10001",
        "PUT /data/a?partNumber=x&uploadId=u",
        "GET /data/a?x-id=PutObject",
        "GET /data/a?x-id=",
        // Ids that stores would make paths of.
        "GET /data/a?versionId=..%2F..%2Fsecret",
        "GET /data/a?versionId=.x",
        "GET /data/a?versionId=a..b",
        "DELETE /data/a?uploadId=x%2F..%2F..%2Fother",
        "GET /data?versions&version-id-marker=%2Fx",
        "GET /data?uploads&upload-id-marker=..",
        // A prefix by which a store would list something else than was judged.
        "GET /data?prefix=%2Fsecret%2F",
        "GET /data?prefix=home%2Falice%2F..%2Fbob%2F",
        "GET /data?prefix=home%2F%2Fbob",
        "GET /data?prefix=home%5C..%5Cbob",
        "GET /data?prefix=home%5Cbob",
        "GET /data?prefix=home%2F&marker=%2Fhome%2Fx",
        "GET /data?prefix=home%2F&marker=other%2Fx",
        "GET /data?list-type=2&prefix=home%2F&start-after=a",
        "GET /data?list-type=2&continuation-token=a%2F..%2Fb",
        "GET /data?versions&prefix=home%2F&key-marker=..%2Fx",
        "GET /data?uploads&prefix=.%2Fx",
        "GET /?prefix=..",
        // Parameters of signatures in another spelling, and headers in the query.
        "GET /data/a?x-amz-algorithm=x",
        "GET /data/a?X-Amz-Signature=y&x-amz-signature=z",
        "GET /data/a?X-Amz-Algorithm=x&X-Amz-Other=y",
        "GET /data/a?X-AMZ-DATE=x",
        "PUT /data/a?X-Amz-Algorithm=x&x-amz-acl=public-read",
        "PUT /data/a?X-Amz-Algorithm=x&x-amz-meta-a=b",
        "PUT /data/a?X-Amz-Algorithm=x&x-amz-copy-source=data%2Fsecret",
        "PUT /data/a?x-amz-checksum-crc32=x",
    ] {
        assert_eq!(path_style(line), "InvalidArgument", "{line}");
    }
    for line in [
        "GET /data/a?AWSAccessKeyId=x&Signature=y&Expires=1",
        "GET /data/a?Signature=y",
    ] {
        assert_eq!(path_style(line), "InvalidRequest", "{line}");
    }
    for method in ["PATCH", "get", "CONNECT", "TRACE", "COPY", ""] {
        assert_eq!(path_style(&format!("{method} /data/a")), "MethodNotAllowed");
    }
}

#[test]
fn os_01_a_path_that_two_readers_read_in_two_ways_is_refused() {
    for path in [
        "/data/a//b",
        "/data//a",
        "/data//",
        "//data/a",
        "/data/a/", // The last one is judged twice.
    ] {
        let refused = path_style(&format!("GET {path}"));
        let expected = match path {
            "//data/a" => "InvalidBucketName",
            "/data/a/" => "GetObject data a/",
            _ => "InvalidURI",
        };
        assert_eq!(refused, expected, "{path}");
    }
    let keeps = rules(Style::Path, true);
    for (path, key) in [
        ("/data/a//b", "a//b"),
        ("/data//a", "/a"),
        ("/data/a/", "a/"),
    ] {
        let line = format!("GET {path}");
        assert_eq!(
            ask(&line, &[], &keeps, "s3.example.com"),
            format!("GetObject data {key}")
        );
    }
    for path in [
        "/data/../secret/a",
        "/data/a/../b",
        "/data/./a",
        "/data/a/..",
        "/data/%2e%2e/secret/a",
        "/data/%2E%2E/a",
        "/data/.%2e/a",
        "/data/%2e/a",
        "/data/a%2Fb",
        "/data/a%2fb",
        "/data%2Fa/b",
        "/data/a%5C..%5Cb",
        "/data/a\\b",
        "/data/a;x=y/b",
        "/data/a#b",
        "/data/a+b",
        "/data/a b",
        "/data/ü",
        "/data/a%",
        "/data/a%4",
        "/data/a%GG",
        "/data/%c0%ae%c0%ae/a",
        "/data/%c0%af",
        "/data/%e0%80%af",
        "/data/%00",
        "/data/a%0d%0aX",
        "/data/a%7f",
        "data/a",
        "",
        "*",
        "http://s3.example.com/data/a",
    ] {
        let refused = path_style(&format!("GET {path}"));
        assert!(
            ["InvalidURI", "InvalidBucketName"].contains(&refused.as_str()),
            "{path}: {refused}"
        );
    }
    for bucket in [
        "Data", "da", "-data", "data-", "da_ta", "da..ta", "da%74a", ".data", "..", "%2e%2e",
    ] {
        assert_eq!(
            path_style(&format!("GET /{bucket}/a")),
            "InvalidBucketName",
            "{bucket}"
        );
    }
    assert_eq!(
        path_style(&format!("GET /data/{}", "x".repeat(1025))),
        "KeyTooLongError"
    );
    assert_eq!(
        path_style(&format!("GET /data/a?prefix={}", "x".repeat(40_000))),
        "InvalidURI"
    );
}

#[test]
fn os_09_the_host_names_the_bucket_once() {
    let path = rules(Style::Path, false);
    let hosted = rules(Style::VirtualHost, false);
    for (host, style, line, expected) in [
        ("s3.example.com", &path, "GET /data/a", "GetObject data a"),
        (
            "S3.Example.COM:443",
            &path,
            "GET /data/a",
            "GetObject data a",
        ),
        ("data.s3.example.com", &path, "GET /a", "InvalidRequest"),
        (
            "elsewhere.example.com",
            &path,
            "GET /data/a",
            "InvalidRequest",
        ),
        ("", &path, "GET /data/a", "InvalidRequest"),
        ("s3.example.com.", &path, "GET /data/a", "InvalidRequest"),
        ("s3.example.com:x", &path, "GET /data/a", "InvalidRequest"),
        ("s3.example.com", &hosted, "GET /data/a", "GetObject data a"),
        ("data.s3.example.com", &hosted, "GET /a", "GetObject data a"),
        (
            "data.s3.example.com:8443",
            &hosted,
            "GET /other/a",
            "GetObject data other/a",
        ),
        (
            "da.ta.s3.example.com",
            &hosted,
            "GET /a",
            "GetObject da.ta a",
        ),
        (
            "data.s3.example.com",
            &hosted,
            "GET /",
            "ListObjects data -",
        ),
        (
            "data.s3.example.com",
            &hosted,
            "PUT /",
            "CreateBucket data -",
        ),
        (
            "DATA.s3.example.com",
            &hosted,
            "GET /a",
            "InvalidBucketName",
        ),
        (".s3.example.com", &hosted, "GET /a", "InvalidBucketName"),
        ("..s3.example.com", &hosted, "GET /a", "InvalidBucketName"),
        ("datas3.example.com", &hosted, "GET /a", "InvalidRequest"),
        (
            "data.s3.example.com.evil.test",
            &hosted,
            "GET /a",
            "InvalidRequest",
        ),
        ("data.s3.example.com", &hosted, "GET //a", "InvalidURI"),
    ] {
        assert_eq!(ask(line, &[], style, host), expected, "{host} {line}");
    }
    // A host that could be two buckets.
    let mut two = rules(Style::VirtualHost, false);
    two.names.push("example.com".into());
    let refused = |host| bucket_of_host(host, &two).unwrap_err();
    let of_two = refused("data.s3.example.com");
    assert_eq!(of_two.code, Code::InvalidRequest);
    assert!(of_two.message.contains("below two"), "{}", of_two.message);
    let of_none = refused("data.example.org").message;
    assert!(of_none.contains("not a name of this store"), "{of_none}");
    assert_eq!(
        ask("GET /data/a", &[], &two, "s3.example.com"),
        "GetObject data a"
    );
    let host = [("host", "other.example.com")];
    assert_eq!(
        ask("GET /data/a", &host, &path, "s3.example.com"),
        "InvalidRequest"
    );
}

#[test]
fn os_02_a_copy_names_its_source_in_one_way() {
    let rules = rules(Style::Path, false);
    let copy = |line: &str, source: &str| {
        ask(
            line,
            &[("x-amz-copy-source", source)],
            &rules,
            "s3.example.com",
        )
    };
    assert_eq!(
        copy("PUT /data/a", "/other/b"),
        "CopyObject data a < other b"
    );
    assert_eq!(
        copy("PUT /data/a?partNumber=1&uploadId=u", "other/b"),
        "UploadPartCopy data a < other b"
    );
    for line in [
        "GET /data/a",
        "PUT /data",
        "POST /data/a?uploads",
        "PUT /data/a?acl",
        "DELETE /data/a",
    ] {
        assert_eq!(copy(line, "other/b"), "NotImplemented", "{line}");
    }
    for source in [
        "",
        "other",
        "other/../data/b",
        "other%2Fb",
        "other/b%3FversionId=1",
        "other//b",
    ] {
        assert!(
            copy("PUT /data/a", source).starts_with("Invalid"),
            "{source}"
        );
    }
    // A proxy joins two headers to one; a store reads one of them.
    assert_eq!(copy("PUT /data/a", "public/b,secret/c"), "InvalidRequest");
}

#[test]
fn os_10_headers_that_change_the_request_behind_the_signature_are_refused() {
    let rules = rules(Style::Path, false);
    let with = |headers: &[(&str, &str)]| ask("PUT /data/a", headers, &rules, "s3.example.com");
    for name in [
        "x-minio-source-etag",
        "x-rgw-auth-http-method",
        "rgwx-bucket",
        "x-seaweedfs-x",
        "seaweed-x",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-container-read",
        "x-auth-token",
        "x-goog-acl",
        "x-emc-x",
    ] {
        assert_eq!(with(&[(name, "1")]), "InvalidRequest", "{name}");
    }
    for headers in [
        &[("x-amz-acl", "private"), ("x-amz-acl", "public-read")][..],
        &[("x-amz-acl", "private,public-read")],
        &[("x-amz-tagging", "a=b,c=d")],
        &[("x-amz-storage-class", "STANDARD, GLACIER")],
        &[("range", "bytes=0-1"), ("range", "bytes=2-3")],
        &[("content-length", "1"), ("content-length", "2")],
        &[("content-length", "1"), ("transfer-encoding", "chunked")],
        &[("authorization", "a"), ("authorization", "b")],
        &[("connection", "authorization")],
        &[("connection", "close, x-amz-date")],
        &[("x-amz-meta-a", "a\u{0}b")],
        &[("x-amz-meta-a", "a\r\nx: y")],
        &[("X-Amz-Acl", "private")],
        &[("", "x")],
        &[("a b", "x")],
        // Another spelling to stores that are CGI programs.
        &[("x_amz_copy_source", "secret/x")],
        &[("x_amz-acl", "public-read")],
        &[("content_length", "5")],
        &[("x-amz_meta-a", "b")],
        &[("x-bce-meta-a", "b")],
        &[("x-dho-acl", "public-read")],
    ] {
        assert_eq!(with(headers), "InvalidRequest", "{headers:?}");
    }
    for headers in [
        &[("x-amz-meta-a", "1, 2"), ("accept", "a"), ("accept", "b")][..],
        &[("x-amz-meta-my_key", "1"), ("x-amz-meta-a.b", "2")],
        &[
            ("x-amz-grant-read", "id=\"a\", id=\"b\""),
            ("connection", "keep-alive"),
        ],
        &[
            ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
            ("via", "1.1 a"),
            ("via", "1.1 b"),
        ],
        &[
            ("content-length", "1"),
            ("content-type", "text/plain; a=b"),
            ("x-amz-meta-ü", "x"),
        ][..2],
    ] {
        assert_eq!(with(headers), "PutObject data a", "{headers:?}");
    }
    let many: Vec<(String, String)> = (0..200)
        .map(|n| (format!("x-{n}"), String::new()))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(with(&many), "InvalidRequest");
    let long = "x".repeat(70_000);
    assert_eq!(with(&[("x-amz-meta-a", &long)]), "InvalidRequest");
}

type Parameters = Vec<(String, String)>;

/// Parses a path-style request in a simple way, without the code above. Returns the bucket, the key
/// and the parameters, or `None` for any unusual request.
fn slow(path: &str) -> Option<(String, String, Parameters)> {
    let decoded = |text: &str| -> Option<String> {
        let mut out = Vec::new();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'%' {
                let pair = text.get(at + 1..at + 3)?;
                if !pair.chars().all(|c| c.is_ascii_hexdigit()) {
                    return None;
                }
                out.push(u8::from_str_radix(pair, 16).ok()?);
                at += 3;
            } else {
                out.push(bytes[at]);
                at += 1;
            }
        }
        let text = String::from_utf8(out).ok()?;
        (!text.chars().any(char::is_control)).then_some(text)
    };
    let mut parts = path.splitn(2, '?');
    let (before, query) = (parts.next()?, parts.next().unwrap_or(""));
    if before.contains([
        '+', ';', '#', '\\', ' ', '"', '<', '>', '^', '`', '{', '|', '}', '?',
    ]) || !before.is_ascii()
        || before.to_ascii_lowercase().contains("%2f")
    {
        return None;
    }
    let mut segments = before.split('/');
    if segments.next() != Some("") {
        return None;
    }
    let bucket = segments.next()?.to_owned();
    let raw: Vec<&str> = segments.collect();
    let key = decoded(&raw.join("/"))?;
    let pieces: Vec<&str> = key.split(['/', '\\']).collect();
    if pieces.contains(&".") || pieces.contains(&"..") {
        return None;
    }
    let names: Vec<&str> = key.split('/').collect();
    if !key.is_empty() && names[..names.len() - 1].contains(&"") {
        return None;
    }
    let mut parameters = Vec::new();
    if !query.is_empty() {
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.is_empty()
                || !name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
            {
                return None;
            }
            if !value.is_ascii()
                || value.contains([
                    '+', ';', '#', '\\', ' ', '"', '<', '>', '^', '`', '{', '|', '}', '[', ']',
                ])
            {
                return None;
            }
            parameters.push((name.to_owned(), decoded(value)?));
        }
    }
    Some((bucket, key, parameters))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Checks that the simple parser [`slow`] reads every accepted head in the same way.
    #[test]
    fn os_01_an_accepted_head_is_read_as_the_slow_twin_reads_it(
        method in prop::sample::select(vec!["GET", "PUT", "DELETE", "HEAD", "POST"]),
        bucket in prop::sample::select(vec!["data", "", "..", "Data", "d%61ta", "da.ta"]),
        key in "(([a-b.%/\\\\+; ü]|%2[EFef5]|%5C|%C3%BC|%00|%41){0,8})",
        query in "(\\?((acl|tagging|uploads|versionId|uploadId|prefix|list-type|x-id|max-keys|ACL|X-Amz-Date)(=([a-b2%+/&]|%20|%41){0,3})?&?){0,3})?",
    ) {
        let rules = rules(Style::Path, false);
        let path = format!("/{bucket}/{key}{query}");
        let head = Head { method, path: &path, authority: "s3.example.com", headers: &[], body: None, size: None };
        if let Ok(routed) = route(&head, &rules) {
            let (bucket, key, parameters) = slow(&path).unwrap_or_else(|| panic!("{path} was accepted"));
            prop_assert_eq!(routed.bucket.unwrap_or(""), &bucket);
            prop_assert_eq!(routed.key.as_ref().map_or("", ObjectKey::as_str), &key);
            let read: Vec<(String, String)> =
                routed.query.iter().map(|(n, v)| ((*n).to_owned(), v.to_string())).collect();
            prop_assert_eq!(read, parameters);
        }
    }

    /// Checks that a well-formed name is accepted and read back unchanged, however it is encoded.
    #[test]
    fn os_01_every_plain_name_is_accepted_and_read_back(key in "[a-zA-Z0-9 +%?&=;:@!$'()*,~_ü€-]{1,20}(/[a-z +%ü]{1,8}){0,3}", upper in any::<bool>()) {
        prop_assume!(!key.split('/').any(|s| s == "." || s == ".."));
        let encoded: String = key.bytes().map(|b| match b {
            b'/' => "/".to_owned(),
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        }).collect();
        let rules = rules(Style::Path, false);
        let path = format!("/data/{encoded}");
        let head = Head { method: "GET", path: &path, authority: "s3.example.com", headers: &[], body: None, size: None };
        let routed = route(&head, &rules).unwrap();
        prop_assert_eq!(routed.key.as_ref().map(ObjectKey::as_str), Some(key.as_str()));
        prop_assert_eq!(&*routed.path, &format!("/data/{key}"));
    }
}
