//! The parameters of a request of the Query protocol, from its URL and its body.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};

use crate::base::form::{self, FORM, Parameters};
use crate::base::http::media_type;
use crate::error::Error;
use crate::proof::sigv4;
use crate::routes;

/// The parameters of a request: those in the URL as the client sent them, which the signature
/// covers, and all parameters by name.
pub(super) struct Pairs {
    pub(super) url: Vec<(String, String)>,
    pub(super) parameters: Parameters,
}

impl Pairs {
    /// Parses the parameters in the URL and in the body, which may have at most `most`. A name may
    /// occur only once, in the URL or in the body. The parameters of a presigned URL's signature
    /// are left out.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the request is not one of the Query protocol, or is ambiguous.
    pub(super) fn read(
        head: &http::request::Parts,
        body: &Bytes,
        most: usize,
    ) -> Result<Self, Error> {
        if !routes::is_query(head.uri.path()) || !matches!(head.method, Method::GET | Method::POST)
        {
            return Err(Error::Malformed(
                "A request must be a POST or a GET of `/`.".into(),
            ));
        }
        if head.method == Method::GET && !body.is_empty() {
            return Err(Error::Malformed("A GET must have no body.".into()));
        }
        // Some clients send no content type; every body is parsed as a form.
        let mut types = head.headers.get_all(CONTENT_TYPE).iter();
        let is_form =
            |v: &HeaderValue| media_type(v).is_empty() || media_type(v).eq_ignore_ascii_case(FORM);
        if !types.next().is_none_or(is_form) || types.next().is_some() {
            return Err(Error::Malformed(
                "The content type must be `application/x-www-form-urlencoded`, or absent.".into(),
            ));
        }
        let url = form::pairs(head.uri.query().unwrap_or_default().as_bytes())?;
        let mut parameters = Parameters::default();
        for (name, value) in &url {
            if !sigv4::is_signers_parameter(name) {
                parameters.put(name.clone(), value.clone())?;
            }
        }
        parameters.read_up_to(body, most)?;
        Ok(Self { url, parameters })
    }
}
