//! A request of the Query protocol as a form: its URL and its body together.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};

use crate::base::form::{self, FORM, Parameters};
use crate::base::http::media_type;
use crate::error::Error;
use crate::proof::sigv4;
use crate::routes;

/// A request's parameters: those of the URL as sent, for the signature, and all of them by name.
pub(super) struct Pairs {
    pub(super) url: Vec<(String, String)>,
    pub(super) parameters: Parameters,
}

impl Pairs {
    /// The parameters of a request, each name once, whether it is in the URL or in the body. What
    /// the signer added to the URL is no parameter.
    ///
    /// # Errors
    /// When the request is none of the Query protocol, or can be read in two ways.
    pub(super) fn read(head: &http::request::Parts, body: &Bytes) -> Result<Self, Error> {
        if !routes::is_query(head.uri.path()) || !matches!(head.method, Method::GET | Method::POST)
        {
            return Err(Error::Malformed(
                "only POST and GET of `/` are answered".into(),
            ));
        }
        if head.method == Method::GET && !body.is_empty() {
            return Err(Error::Malformed("a GET has no body".into()));
        }
        // Some clients send no content type. Every body is read as a form.
        let mut types = head.headers.get_all(CONTENT_TYPE).iter();
        let is_form =
            |v: &HeaderValue| media_type(v).is_empty() || media_type(v).eq_ignore_ascii_case(FORM);
        if !types.next().is_none_or(is_form) || types.next().is_some() {
            return Err(Error::Malformed(
                "the content type must be `application/x-www-form-urlencoded`, or absent".into(),
            ));
        }
        let url = form::pairs(head.uri.query().unwrap_or_default().as_bytes())?;
        let mut parameters = Parameters::default();
        for (name, value) in &url {
            if !sigv4::is_signers_parameter(name) {
                parameters.put(name.clone(), value.clone())?;
            }
        }
        parameters.read_more(body)?;
        Ok(Self { url, parameters })
    }
}
