#![no_main]
//! No host name, forwarded header or PROXY protocol header makes its parser panic, whether it comes
//! from a proxy or a client. Without trusted proxies, forwarded headers are ignored.

use brevet::base::host_names::{HostName, HostNames};
use brevet::config::{ForwardedHeader, Listener};
use brevet::evaluator::Network;
use brevet::server::proxies::{Client, client, read_proxy_header};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(u8, &str)>, &[u8], &str, &str)| {
    let (sent, stream, host, name) = input;
    let mut headers = HeaderMap::new();
    for (which, value) in sent {
        let name = ["x-forwarded-for", "x-forwarded-proto", "forwarded"][usize::from(which) % 3];
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    }
    let peer = Client::new([127, 0, 0, 1].into(), false);
    assert_eq!(client(&Listener::default(), peer, &headers), Ok(peer));
    for forwarded_header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let trusted_proxies = vec![Network::parse("127.0.0.0/8").unwrap()];
        let listener = Listener {
            trusted_proxies,
            forwarded_header,
            ..Listener::default()
        };
        let _ = client(&listener, peer, &headers);
    }
    let mut stream = stream;
    let _ = read_proxy_header(&mut stream, peer).now_or_never();
    if let Some(name) = HostName::parse(name) {
        let names = HostNames::new([name]);
        assert!(names.contains(&names.example()));
        let _ = names.contains(host);
    }
});
