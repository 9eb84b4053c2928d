//! Reads the forms of the pages. It limits their size, and accepts only forms that were sent from a
//! page of this broker.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use zeroize::Zeroizing;

use super::csrf;
use super::problem::Problem;
use super::visit::Visit;
use crate::base::form::{FORM, Parameters};
use crate::base::http::media_type;
use crate::error::Error;
use crate::request_body;

/// The maximum size of a form in bytes. It has room for an authorization request of 4,096 bytes
/// that is percent-encoded twice.
const MAX_BYTES: usize = 40_960;
/// The maximum number of fields in a form.
const MAX_FIELDS: usize = 16;

/// The cookie to which the token of a form is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// The cookie of the sign-in, [`cookies::SESSION`](super::cookies::SESSION).
    SignIn,
    /// The cookie of a browser that has not signed in, [`cookies::BEFORE`](super::cookies::BEFORE).
    Before,
}

/// The fields of a form that passed all checks of [`Form::receive`].
pub(super) struct Form(Parameters);

impl Form {
    /// Reads a form, after checking that it was sent from a page of this broker.
    ///
    /// # Errors
    /// [`Problem`] if the form comes from another site, has another content type or no valid token, is too long, or
    /// cannot be received or parsed, or if the sign-in to which it belongs has ended or must first get another
    /// password.
    pub(super) async fn receive<B>(
        visit: &Visit<'_>,
        body: B,
        bound: Bound,
    ) -> Result<Self, Problem>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let headers = &visit.head.headers;
        if !csrf::is_from_here(headers, &visit.settings.public_url) {
            return Err(Problem::forged());
        }
        if !is_form(headers) {
            let text = format!(
                "The content type must be `{}`.",
                String::from_utf8_lossy(FORM)
            );
            let error = Error::Malformed(text);
            return Err(Problem::form(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        let body = request_body::read(visit.broker, visit.origin, headers, body, || false).await;
        let body = body.map_err(Problem::of_request)?;
        if body.len() > MAX_BYTES {
            return Err(Problem::of_request(Error::TooLarge(MAX_BYTES)));
        }
        let mut fields = Parameters::default();
        fields
            .read_up_to(&body, MAX_FIELDS)
            .map_err(|error| Problem::of_request(error.into()))?;
        let cookie = match bound {
            Bound::SignIn => match &visit.signed_in {
                Some(_) if visit.must_change_first() => return Err(Problem::password_first()),
                Some(signed_in) => signed_in.handle.expose().as_str(),
                None => return Err(Problem::ended()),
            },
            Bound::Before => visit.before.as_deref().ok_or_else(Problem::forged)?,
        };
        let token = fields.take("csrf").unwrap_or_default();
        if !csrf::is_token(&token, cookie, visit.path()) {
            return Err(Problem::forged());
        }
        Ok(Self(fields))
    }

    /// Takes a field; empty if the browser did not send it.
    pub(super) fn take(&mut self, name: &str) -> String {
        self.0.take(name).unwrap_or_default()
    }

    /// Takes a secret field, whose memory is wiped after use; empty if the browser did not send it.
    pub(super) fn secret(&mut self, name: &str) -> Zeroizing<String> {
        Zeroizing::new(self.take(name))
    }

    /// Takes a code of an MFA device, without spaces: many apps show a space in it, and people type
    /// that, too.
    pub(super) fn code(&mut self, name: &str) -> Zeroizing<String> {
        let mut code = self.secret(name);
        code.retain(|c| c != ' ');
        code
    }
}

/// Returns whether the request has exactly one content type, and it is that of a form.
fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    types
        .next()
        .is_some_and(|v| media_type(v).eq_ignore_ascii_case(FORM))
        && types.next().is_none()
}
