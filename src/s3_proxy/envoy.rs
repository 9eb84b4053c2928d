//! Reads the head of a client's request from the question of Envoy's external authorization filter.
//!
//! Envoy joins headers of the same name by commas, unless its filter has `encode_raw_headers: true`. If a client sent
//! `x-amz-copy-source` twice, the broker would then see one joined name, while the store sees two names. Therefore raw
//! headers are required.

use std::net::IpAddr;

use crate::api::envoy::{AttributeContext, CheckRequest, HeaderMap};

/// The header by which Envoy says that it has sent only the beginning of a body.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// The head of a client's request, as Envoy reports it.
#[derive(PartialEq, Eq)]
pub struct Checked {
    pub method: String,
    /// The path with the query, as the client sent it.
    pub uri: String,
    pub host: String,
    /// The client's headers, with those that Envoy added; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The length of the body in bytes; `None` if Envoy does not know it.
    pub size: Option<u64>,
    /// The body; `None` if it is empty, or Envoy has not sent it completely.
    pub body: Option<Vec<u8>>,
    pub client_ip: IpAddr,
    pub is_secure: bool,
}

/// Reads the head of a client's request.
///
/// # Errors
/// A sentence that says what the question lacks, or what in it is not accepted.
pub fn read(question: CheckRequest) -> Result<Checked, String> {
    let attributes = question
        .attributes
        .ok_or("The check request has no attributes.")?;
    let client_ip = client(&attributes)?;
    let is_secure = attributes.tls_session.is_some();
    let http = attributes.request.and_then(|request| request.http);
    let http = http.ok_or("The check request is not about an HTTP request.")?;
    let Some(raw) = http.header_map else {
        return Err("The filter ext_authz must have `encode_raw_headers: true`.".to_owned());
    };
    let (pseudo, headers) = split(raw)?;
    for (name, expected) in [
        (":method", &http.method),
        (":path", &http.path),
        (":authority", &http.host),
    ] {
        let mut given = pseudo.iter().filter(|(n, _)| n == name);
        if given.any(|(_, value)| value != expected) {
            return Err(format!(
                "The check request has two different values for {name}."
            ));
        }
    }
    let is_partial = headers
        .iter()
        .any(|(name, value)| name == PARTIAL_BODY && value != "false");
    let body = match http.raw_body.is_empty() {
        false => http.raw_body,
        true => http.body.into_bytes(),
    };
    Ok(Checked {
        method: http.method,
        uri: http.path,
        host: http.host,
        headers,
        size: u64::try_from(http.size).ok(),
        body: (!body.is_empty() && !is_partial).then_some(body),
        client_ip,
        is_secure,
    })
}

/// The address of the client. Envoy determines it by its own rules about forwarded addresses.
fn client(attributes: &AttributeContext) -> Result<IpAddr, String> {
    use crate::api::envoy::address::Address;
    let peer = attributes.source.as_ref();
    let address = peer.and_then(|peer| peer.address.as_ref()?.address.as_ref());
    let Some(Address::SocketAddress(socket)) = address else {
        return Err("The check request does not contain the address of the client.".to_owned());
    };
    let ip = socket.address.parse::<IpAddr>();
    ip.map(|ip| ip.to_canonical())
        .map_err(|_| "The client's address in the check request is not an IP address.".to_owned())
}

type Fields = Vec<(String, String)>;

/// Separates the pseudo-headers of HTTP/2, such as `:path`, from the other headers.
fn split(raw: HeaderMap) -> Result<(Fields, Fields), String> {
    let one = |field: crate::api::envoy::HeaderValue| {
        let name = field.key.to_ascii_lowercase();
        let value = match field.raw_value.is_empty() {
            false => String::from_utf8(field.raw_value)
                .map_err(|_| format!("The header {name} must be UTF-8."))?,
            true => field.value,
        };
        Ok((name, value))
    };
    let all = raw.headers.into_iter().map(one);
    let all = all.collect::<Result<Fields, String>>()?;
    Ok(all.into_iter().partition(|(name, _)| name.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::envoy::address::Address as Which;
    use crate::api::envoy::attribute_context::{HttpRequest, Peer, Request, TlsSession};
    use crate::api::envoy::{Address, HeaderValue, SocketAddress};

    fn question() -> CheckRequest {
        let socket = SocketAddress {
            address: "::ffff:192.0.2.9".to_owned(),
        };
        let field = |(name, value): (&str, &str)| HeaderValue {
            key: name.to_owned(),
            raw_value: value.as_bytes().to_vec(),
            ..HeaderValue::default()
        };
        let fields = [
            (":authority", "s3.example.com"),
            (":method", "PUT"),
            (":path", "/data/a%20b"),
            ("x-amz-meta-a", "é"),
            ("x-amz-copy-source", "/data/public"),
            ("x-amz-copy-source", "/data/secret"),
        ];
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(Peer {
                    address: Some(Address {
                        address: Some(Which::SocketAddress(socket)),
                    }),
                }),
                request: Some(Request {
                    http: Some(HttpRequest {
                        method: "PUT".to_owned(),
                        path: "/data/a%20b".to_owned(),
                        host: "s3.example.com".to_owned(),
                        size: -1,
                        header_map: Some(HeaderMap {
                            headers: fields.map(field).to_vec(),
                        }),
                        ..HttpRequest::default()
                    }),
                }),
                tls_session: Some(TlsSession::default()),
            }),
        }
    }

    fn http(question: &mut CheckRequest) -> &mut HttpRequest {
        let attributes = question.attributes.as_mut().unwrap();
        let request = attributes.request.as_mut().unwrap();
        request.http.as_mut().unwrap()
    }

    #[test]
    fn a_head_is_read_with_each_header_by_itself() {
        let read = read(question()).ok().unwrap();
        assert_eq!(
            (read.method.as_str(), read.uri.as_str(), read.host.as_str()),
            ("PUT", "/data/a%20b", "s3.example.com")
        );
        assert_eq!(read.client_ip.to_string(), "192.0.2.9");
        assert!(read.is_secure && read.size.is_none() && read.body.is_none());
        let sources = read
            .headers
            .iter()
            .filter(|(n, _)| n == "x-amz-copy-source");
        assert_eq!(sources.count(), 2);
        assert!(!read.headers.iter().any(|(name, _)| name.starts_with(':')));
    }

    #[test]
    fn a_body_is_whole_or_absent() {
        let mut whole = question();
        http(&mut whole).raw_body = b"<Delete/>".to_vec();
        assert_eq!(
            read(whole.clone()).ok().unwrap().body.unwrap(),
            b"<Delete/>"
        );
        let partial = HeaderValue {
            key: PARTIAL_BODY.to_owned(),
            raw_value: b"true".to_vec(),
            ..HeaderValue::default()
        };
        let fields = http(&mut whole).header_map.as_mut().unwrap();
        fields.headers.push(partial);
        assert!(read(whole).ok().unwrap().body.is_none());
    }

    #[test]
    fn sv_05_a_question_with_two_readings_is_refused() {
        let mut joined = question();
        http(&mut joined).header_map = None;
        let error = read(joined).err().unwrap();
        assert!(error.contains("encode_raw_headers: true"), "{error}");
        let mut other = question();
        http(&mut other).path = "/data/public".to_owned();
        assert!(read(other).err().unwrap().contains(":path"));
        let mut nobody = question();
        nobody.attributes.as_mut().unwrap().source = None;
        assert!(read(nobody).err().unwrap().contains("address"));
        assert!(read(CheckRequest::default()).is_err());
    }
}
