//! The body of DeleteObjects, with the names of up to a thousand objects, each of which needs a
//! permission: Amazon S3 API Reference, "DeleteObjects". The body is parsed strictly, because the
//! store uses another parser.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use roxmltree::{Document, Node, NodeType};

use super::head::Head;
use super::key::{ObjectKey, is_id};
use super::payload::Payload;
use super::refusal::{Code, S3Refusal};
use super::store::StoreRules;
use crate::base::digest::{hex, sha256};

/// The maximum number of objects in one request.
const MAX_OBJECTS: usize = 1_000;
/// The maximum length of the body in bytes.
const MAX_BODY_BYTES: usize = 2 << 20;
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// An object to delete: its name, and its version if the request names one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condemned {
    pub key: ObjectKey<'static>,
    pub version: Option<String>,
}

/// Parses the body of a request, after comparing it with the hashes in the head.
///
/// # Errors
/// [`S3Refusal`] if the proxy sent no body, or if the body does not match its hashes or breaks a rule.
pub(super) fn read(
    head: &Head<'_>,
    payload: Payload<'_>,
    rules: &StoreRules,
) -> Result<Vec<Condemned>, S3Refusal> {
    let body = head.body.ok_or_else(|| {
        S3Refusal::new(
            Code::NotImplemented,
            "The names of the objects to delete are in the body, which the broker did not receive completely. Delete the objects one by one, or let the proxy send the whole body of requests with `?delete` (with Envoy: `with_request_body` on that route).",
        )
    })?;
    if body.len() > MAX_BODY_BYTES
        || head
            .size
            .is_some_and(|size| u64::try_from(body.len()) != Ok(size))
    {
        return Err(S3Refusal::new(
            Code::MalformedXml,
            "The body is longer than 2 MiB, or the proxy sent only a part of it.",
        ));
    }
    if head.header("content-encoding").is_some() {
        return Err(malformed("the body has a Content-Encoding"));
    }
    compare(head, payload, body)?;
    let text = std::str::from_utf8(body).map_err(|_| malformed("the document is not UTF-8"))?;
    parse(text, rules)
}

/// Compares the body with the hashes in the head, and refuses a body in chunks. Of `Content-MD5`, only the form is
/// checked; the store compares it, and hashes of other kinds.
fn compare(head: &Head<'_>, payload: Payload<'_>, body: &[u8]) -> Result<(), S3Refusal> {
    let differs = |code, message: &str| Err(S3Refusal::new(code, message));
    match payload {
        Payload::Hashed(hash) if *hash != *hex(&sha256(body)) => {
            return differs(
                Code::BadDigest,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            );
        }
        Payload::UnsignedTrailer => {
            return differs(
                Code::NotImplemented,
                "The body of DeleteObjects must not come in chunks: set `request_checksum_calculation = when_required` in the client's profile.",
            );
        }
        Payload::Hashed(_) | Payload::Unsigned => {}
    }
    let sha1 = || {
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, body)
            .as_ref()
            .to_vec()
    };
    let checks: [(&str, &dyn Fn() -> Vec<u8>); 3] = [
        ("x-amz-checksum-sha256", &|| sha256(body).to_vec()),
        ("x-amz-checksum-sha1", &sha1),
        ("x-amz-checksum-crc32", &|| {
            crc32(body).to_be_bytes().to_vec()
        }),
    ];
    for (name, computed) in checks {
        let Some(declared) = head.header(name) else {
            continue;
        };
        if STANDARD.decode(declared) != Ok(computed()) {
            return differs(
                Code::BadDigest,
                "The checksum you specified did not match what was computed.",
            );
        }
    }
    let md5 = head.header("content-md5");
    if md5.is_some_and(|md5| STANDARD.decode(md5).map_or(0, |bytes| bytes.len()) != 16) {
        return differs(
            Code::InvalidDigest,
            "The Content-MD5 you specified is not valid.",
        );
    }
    Ok(())
}

/// Computes the CRC-32 (ISO-HDLC) for `x-amz-checksum-crc32`, four bits at a time.
fn crc32(bytes: &[u8]) -> u32 {
    const OF_HALF: [u32; 16] = [
        0x0000_0000,
        0x1db7_1064,
        0x3b6e_20c8,
        0x26d9_30ac,
        0x76dc_4190,
        0x6b6b_51f4,
        0x4db2_6158,
        0x5005_713c,
        0xedb8_8320,
        0xf00f_9344,
        0xd6d6_a3e8,
        0xcb61_b38c,
        0x9b64_c2b0,
        0x86d3_d2d4,
        0xa00a_e278,
        0xbdbd_f21c,
    ];
    let half = |crc: u32| {
        let low = usize::try_from(crc & 15).unwrap_or_default();
        (crc >> 4) ^ OF_HALF.get(low).copied().unwrap_or_default()
    };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, byte| half(half(crc ^ u32::from(*byte))))
}

fn parse(text: &str, rules: &StoreRules) -> Result<Vec<Condemned>, S3Refusal> {
    // What the parser does not show: a mark of the byte order, sections, comments, instructions and
    // another encoding.
    if text.starts_with('\u{feff}') || text.contains("<!") {
        return Err(malformed(
            "a byte order mark, a DTD, comments and CDATA are not accepted",
        ));
    }
    let body = match text.strip_prefix("<?xml") {
        None => text,
        Some(rest) => {
            let (declaration, body) = rest
                .split_once("?>")
                .ok_or_else(|| malformed("the XML declaration has no end"))?;
            let lower = declaration.to_ascii_lowercase();
            if lower.contains("encoding") && !lower.contains("utf-8") {
                return Err(malformed("the encoding must be UTF-8"));
            }
            body
        }
    };
    if body.contains("<?") {
        return Err(malformed("processing instructions are not accepted"));
    }
    let document =
        Document::parse(text).map_err(|_| malformed("the document is not well-formed XML"))?;
    let root = document.root_element();
    expect(root, "Delete")?;
    let mut condemned = Vec::new();
    let mut quiet = false;
    for child in elements(root)? {
        if child.has_tag_name((NAMESPACE, "Quiet")) || child.has_tag_name("Quiet") {
            expect(child, "Quiet")?;
            if std::mem::replace(&mut quiet, true) || !matches!(value(child)?, "true" | "false") {
                return Err(malformed(
                    "there must be at most one `Quiet`, which must be `true` or `false`",
                ));
            }
            continue;
        }
        expect(child, "Object")?;
        if condemned.len() == MAX_OBJECTS {
            return Err(malformed("the document names more than 1000 objects"));
        }
        condemned.push(object(child, rules)?);
    }
    if condemned.is_empty() {
        return Err(malformed("the document names no object"));
    }
    Ok(condemned)
}

fn object(node: Node<'_, '_>, rules: &StoreRules) -> Result<Condemned, S3Refusal> {
    let (mut key, mut version) = (None, None);
    let mut seen: Vec<&str> = Vec::new();
    for child in elements(node)? {
        let name = child.tag_name().name();
        expect(child, name)?;
        if seen.contains(&name) {
            return Err(malformed("an `Object` has the same element twice"));
        }
        seen.push(name);
        let value = value(child)?;
        match name {
            "Key" if value.trim() != value => {
                return Err(malformed(
                    "a key begins or ends with white space, which some stores drop",
                ));
            }
            "Key" => key = Some(ObjectKey::new(value.to_owned().into(), rules)?),
            "VersionId" => {
                if !is_id(value) {
                    return Err(malformed(
                        "a version id must be 1 to 1,024 letters, digits or characters of `-._~+=`, without `..` and \
                         without a `.` at the beginning",
                    ));
                }
                version = Some(value.to_owned());
            }
            "ETag" | "LastModifiedTime" | "Size" => {}
            _ => {
                return Err(malformed(
                    "an `Object` contains something other than Key, VersionId, ETag, LastModifiedTime and Size",
                ));
            }
        }
    }
    let key = key.ok_or_else(|| malformed("an `Object` has no `Key`"))?;
    Ok(Condemned { key, version })
}

/// Returns the child elements of an element, which may contain nothing else but white space.
fn elements<'a, 'i>(node: Node<'a, 'i>) -> Result<impl Iterator<Item = Node<'a, 'i>>, S3Refusal> {
    let blank = |n: &Node<'_, '_>| n.text().is_some_and(|t| t.trim_ascii().is_empty());
    let good = |n: Node<'_, '_>| n.is_element() || (n.is_text() && blank(&n));
    if node.children().all(good) {
        return Ok(node.children().filter(Node::is_element));
    }
    Err(malformed("the document has text between its elements"))
}

/// Returns the text of an element, which may contain nothing else.
fn value<'a>(node: Node<'a, '_>) -> Result<&'a str, S3Refusal> {
    let mut children = node.children();
    match (children.next(), children.next()) {
        (None, _) => Ok(""),
        (Some(text), None) if text.node_type() == NodeType::Text => {
            Ok(text.text().unwrap_or_default())
        }
        _ => Err(malformed("a value contains elements")),
    }
}

/// Checks that an element has this name, is in no other namespace than S3's, and has no attributes.
fn expect(node: Node<'_, '_>, name: &str) -> Result<(), S3Refusal> {
    let space = node.tag_name().namespace();
    let good = node.tag_name().name() == name
        && space.is_none_or(|space| space == NAMESPACE)
        && node.attributes().len() == 0;
    if good {
        return Ok(());
    }
    Err(malformed(
        "an element has an unexpected name, has attributes, or is in another namespace than S3's",
    ))
}

fn malformed(what: &str) -> S3Refusal {
    S3Refusal::new(
        Code::MalformedXml,
        format!("The XML of the objects to delete is not accepted: {what}."),
    )
}

#[cfg(test)]
mod tests;
