//! Envoy's question about a request, and the answer: what the load needs of `envoy.service.auth.v3`, with the numbers
//! of `proto/envoy`.

use prost::Message;

/// The full name of the service.
pub const SERVICE: &str = "envoy.service.auth.v3.Authorization";

#[derive(Clone, PartialEq, Message)]
pub struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attributes {
    #[prost(message, optional, tag = "1")]
    pub source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    pub request: Option<Request>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Peer {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Address {
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SocketAddress {
    #[prost(string, tag = "2")]
    pub address: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(message, optional, tag = "2")]
    pub http: Option<Http>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Http {
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(string, tag = "4")]
    pub path: String,
    #[prost(string, tag = "5")]
    pub host: String,
    #[prost(int64, tag = "9")]
    pub size: i64,
    #[prost(message, optional, tag = "13")]
    pub header_map: Option<Headers>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Headers {
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<Header>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Header {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(bytes = "vec", tag = "3")]
    pub raw_value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, optional, tag = "3")]
    pub ok_response: Option<OkResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct OkResponse {
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<HeaderOption>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
}

/// Envoy's question about a request with these headers, from an address of loopback.
pub fn question(
    method: &str,
    path: &str,
    host: &str,
    headers: &[(String, String)],
) -> CheckRequest {
    let pseudo = [(":authority", host), (":method", method), (":path", path)];
    let own = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let header = |(name, value): (&str, &str)| Header {
        key: name.to_owned(),
        value: String::new(),
        raw_value: value.as_bytes().to_vec(),
    };
    let http = Http {
        method: method.to_owned(),
        path: path.to_owned(),
        host: host.to_owned(),
        size: 0,
        header_map: Some(Headers {
            headers: pseudo.into_iter().chain(own).map(header).collect(),
        }),
    };
    let address = "127.0.0.1".to_owned();
    CheckRequest {
        attributes: Some(Attributes {
            source: Some(Peer {
                address: Some(Address {
                    socket_address: Some(SocketAddress { address }),
                }),
            }),
            request: Some(Request { http: Some(http) }),
        }),
    }
}

/// An answer that allows a request, with one header whose value is this.
pub fn allowed(value: String) -> CheckResponse {
    let header = Header {
        key: "authorization".to_owned(),
        value,
        raw_value: Vec::new(),
    };
    CheckResponse {
        status: Some(Status { code: 0 }),
        ok_response: Some(OkResponse {
            headers: vec![HeaderOption {
                header: Some(header),
            }],
        }),
    }
}
