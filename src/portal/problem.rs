//! Error pages: each says what happened and what the person can do next.

use askama::Template;
use http::StatusCode;

use super::answer::Answer;
use super::cookies::Unreadable;
use super::frame::Frame;
use super::texts::{ENGLISH, Texts};
use crate::error::{Class, Error};

/// The content of an error page, with its status and its entry in the audit log.
pub(super) struct Problem(Box<Parts>);

struct Parts {
    status: StatusCode,
    title: &'static str,
    what: String,
    next: String,
    /// A message that an identity provider sent. The page marks it as not written by this broker.
    foreign: Option<String>,
    link: Option<Link>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    /// The error that must still be written to the audit log; `None` if it was written already or
    /// is not recorded at all.
    recorded: Option<Error>,
    request_id: Option<String>,
    /// Why the broker has an internal error, for the log; `None` if the log has it already.
    fault: Option<String>,
    is_signed_out: bool,
}

/// The link on an error page to a page where the person can continue.
pub(super) struct Link {
    pub(super) href: String,
    pub(super) text: &'static str,
}

#[derive(Template)]
#[template(path = "problem.html", config = "src/portal/askama.toml")]
struct Page<'a> {
    frame: Frame<'a>,
    title: &'a str,
    what: &'a str,
    next: &'a str,
    foreign: Option<&'a str>,
    link: Option<&'a Link>,
}

impl Problem {
    /// Creates an error page. `what` says what happened, and `next` what the person can do.
    pub(super) fn new(
        status: StatusCode,
        title: &'static str,
        what: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self(Box::new(Parts {
            status,
            title,
            what: what.into(),
            next: next.into(),
            foreign: None,
            link: None,
            retry_after: None,
            allow: None,
            recorded: None,
            request_id: None,
            fault: None,
            is_signed_out: false,
        }))
    }

    pub(super) fn not_found() -> Self {
        let t = &ENGLISH;
        let status = StatusCode::NOT_FOUND;
        Self::new(status, t.not_found_title, t.not_found, t.not_found_next)
            .leading_to("/portal", t.to_roles)
    }

    /// The address does not accept the request's method. `allow` lists the methods that it accepts.
    pub(super) fn method(allow: &'static str) -> Self {
        let t = &ENGLISH;
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let (title, what, next) = match allow.contains("GET") {
            true => (t.no_form_title, t.no_form, t.not_found_next),
            false => (t.method_title, t.method, t.method_next),
        };
        let mut problem = Self::new(status, title, what, next).leading_to("/portal", t.to_roles);
        problem.0.allow = Some(allow);
        problem
    }

    /// The form was sent from elsewhere than a page of this broker, or from a page that belongs to an earlier sign-in.
    pub(super) fn forged() -> Self {
        let t = &ENGLISH;
        let status = StatusCode::FORBIDDEN;
        let error = Error::Malformed(
            "The form was not sent from a page that this broker made for the present \
            sign-in."
                .to_owned(),
        );
        Self::new(status, t.forged_title, t.forged, t.forged_next)
            .leading_to("/portal", t.to_roles)
            .recorded_as(error)
    }

    /// The user must first choose another password.
    pub(super) fn password_first() -> Self {
        let t = &ENGLISH;
        let status = StatusCode::FORBIDDEN;
        let error =
            Error::Malformed("The user must choose another password before this form.".to_owned());
        let (title, what) = (t.password_first_title, t.password_first);
        Self::new(status, title, what, t.password_first_next)
            .leading_to("/portal/password", t.new_password_title)
            .recorded_as(error)
    }

    /// The sign-in has ended, or its user was deleted.
    pub(super) fn ended() -> Self {
        let t = &ENGLISH;
        let status = StatusCode::FORBIDDEN;
        let mut problem = Self::new(status, t.ended_title, t.ended, t.ended_next)
            .leading_to("/sign-in", t.to_sign_in);
        problem.0.is_signed_out = true;
        problem
    }

    /// The request's host is not that of the configured public URL.
    pub(super) fn misdirected(public_url: &str) -> Self {
        let t = &ENGLISH;
        let next = format!("{} {public_url}/portal", t.host_next);
        Self::new(StatusCode::MISDIRECTED_REQUEST, t.host_title, t.host, next)
    }

    /// The request has two cookies of the same name, or a `Cookie` header that cannot be read.
    pub(super) fn cookies(why: Unreadable) -> Self {
        let t = &ENGLISH;
        let error = match why {
            Unreadable::Repeated => "Duplicate cookie.",
            Unreadable::NotText => "The Cookie header has other bytes than ASCII text.",
        };
        let status = StatusCode::BAD_REQUEST;
        Self::new(status, t.cookies_title, t.cookies, t.cookies_next)
            .recorded_as(Error::Malformed(error.to_owned()))
    }

    /// The form lacks a field, or has a value or a content type that no page of this broker sends.
    pub(super) fn form(status: StatusCode, error: Error) -> Self {
        let t = &ENGLISH;
        Self::new(status, t.form_title, t.form, t.form_next).recorded_as(error)
    }

    /// The request could not be read or parsed, or is too long.
    pub(super) fn of_request(error: Error) -> Self {
        match status_of(&error) {
            StatusCode::BAD_REQUEST => Self::form(StatusCode::BAD_REQUEST, error),
            _ => Self::of(&error).recorded_as(error),
        }
    }

    /// A page could not be made because of a bug in the broker. `fault` is for the log, which the page does not show.
    pub(super) fn fault(fault: impl Into<String>) -> Self {
        let mut problem = Self::internal();
        problem.0.fault = Some(fault.into());
        problem
    }

    /// The broker has an internal error, which was logged where it occurred.
    fn internal() -> Self {
        let t = &ENGLISH;
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, t.internal_title, t.internal, t.internal_next)
    }

    /// The page is only for users of the directory, and a federated person is signed in.
    pub(super) fn users_only() -> Self {
        let t = &ENGLISH;
        let status = StatusCode::FORBIDDEN;
        Self::new(status, t.users_only_title, t.users_only, t.users_only_next)
            .leading_to("/portal", t.to_roles)
    }

    /// An operation refused the request. `request_id` is the id of its audit record.
    pub(super) fn refused(error: &Error, request_id: Option<String>) -> Self {
        let mut problem = Self::of(error);
        problem.0.request_id = request_id.filter(|id| !id.is_empty());
        problem
    }

    /// Converts an error to the status and the texts of a page.
    fn of(error: &Error) -> Self {
        let t = &ENGLISH;
        let status = status_of(error);
        let text = error.to_string();
        let mut problem = match status {
            StatusCode::INTERNAL_SERVER_ERROR => Self::internal(),
            StatusCode::SERVICE_UNAVAILABLE => {
                Self::new(status, t.later_title, t.later, t.later_next)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                Self::new(status, t.too_many_title, t.too_many_what, t.too_many_next)
            }
            StatusCode::FORBIDDEN => {
                let next = match error.class() {
                    Class::Unauthenticated => t.ended_next,
                    Class::WrongCredentials => t.internal_next,
                    _ => t.refused_next,
                };
                Self::new(status, t.refused_title, text, next)
            }
            _ => Self::new(status, t.failed_title, text, t.failed_next),
        };
        problem.0.retry_after = retry_after(error);
        problem
    }

    /// Replaces the sentence about what happened.
    #[must_use]
    pub(super) fn saying(mut self, what: impl Into<String>) -> Self {
        self.0.what = what.into();
        self
    }

    /// Whether the status is 403 Forbidden.
    pub(super) fn is_forbidden(&self) -> bool {
        self.0.status == StatusCode::FORBIDDEN
    }

    /// Adds a message that an identity provider sent. The page marks it as not written by this
    /// broker.
    #[must_use]
    pub(super) fn said(mut self, text: impl Into<String>) -> Self {
        self.0.foreign = Some(text.into()).filter(|text| !text.is_empty());
        self
    }

    /// Adds a link to a page where the person can continue.
    #[must_use]
    pub(super) fn leading_to(mut self, href: impl Into<String>, text: &'static str) -> Self {
        self.0.link = Some(Link {
            href: href.into(),
            text,
        });
        self
    }

    /// Asks for an audit record of the refused request with this error.
    #[must_use]
    pub(super) fn recorded_as(mut self, error: Error) -> Self {
        self.0.recorded = Some(error);
        self
    }

    /// Takes the error that must still be written to the audit log; `None` if nothing must be
    /// written.
    pub(super) fn take_record(&mut self) -> Option<Error> {
        self.0.recorded.take()
    }

    /// Takes the reason of an internal error that must still be logged; `None` if nothing must be logged.
    pub(super) fn take_fault(&mut self) -> Option<String> {
        self.0.fault.take()
    }

    /// Sets the id of the audit record that was written. If the record says that the request was
    /// throttled, the page says so, too.
    pub(super) fn was_recorded(self, error: &Error, request_id: String) -> Self {
        let mut problem = match error {
            Error::Throttling => Self::of(error),
            _ => self,
        };
        problem.0.request_id = Some(request_id).filter(|id| !id.is_empty());
        problem
    }

    /// Whether the person's sign-in has ended, so that the page must not show a name.
    pub(super) fn is_signed_out(&self) -> bool {
        self.0.is_signed_out
    }

    /// The id of the problem in the logs; `None` if it is the id of the request.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// Renders the error page with its status and headers.
    pub(super) fn answer(&self, frame: Frame<'_>) -> Answer {
        let parts = &self.0;
        let page = Page {
            frame,
            title: parts.title,
            what: &parts.what,
            next: &parts.next,
            foreign: parts.foreign.as_deref(),
            link: parts.link.as_ref(),
        };
        let body = page.render().unwrap_or_else(|_| parts.title.to_owned());
        let mut answer = Answer::content(parts.status, body).with_retry_after(parts.retry_after);
        answer.allow = parts.allow;
        answer
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        Self::fault(format!("its template could not be rendered: {error}"))
    }
}

/// Returns the HTTP status with which the pages answer an error.
pub(super) fn status_of(error: &Error) -> StatusCode {
    match error.class() {
        Class::Forbidden
        | Class::WrongCredentials
        | Class::SwitchedOff
        | Class::RejectedToken
        | Class::Unauthenticated
        | Class::UnfitProof => StatusCode::FORBIDDEN,
        Class::InvalidToken | Class::InvalidArgument => StatusCode::BAD_REQUEST,
        Class::Throttled => StatusCode::TOO_MANY_REQUESTS,
        Class::ProviderUnavailable | Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::NotFound | Class::Unimplemented => StatusCode::NOT_FOUND,
        Class::Gone => StatusCode::GONE,
        Class::AlreadyExists
        | Class::Conflict
        | Class::LimitExceeded
        | Class::ConcurrentModification
        | Class::Unmodifiable => StatusCode::CONFLICT,
        Class::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Class::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Class::Timeout => StatusCode::REQUEST_TIMEOUT,
        Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the seconds to wait before another attempt; `None` for an error that waiting does not remove.
pub(super) fn retry_after(error: &Error) -> Option<u64> {
    match status_of(error) {
        StatusCode::TOO_MANY_REQUESTS => Some(60),
        StatusCode::SERVICE_UNAVAILABLE => Some(2),
        _ => None,
    }
}

/// Returns the text with which a form shows an error of an operation. Errors whose messages are
/// written for programs have texts of their own.
pub(super) fn text_of(t: &Texts, error: &Error) -> String {
    match error {
        Error::Throttling => t.too_many.to_owned(),
        Error::Mfa(crate::error::MfaError::Locked) => t.code_locked.to_owned(),
        Error::Mfa(_) => t.wrong_code.to_owned(),
        Error::InvalidAuthenticationCode => t.wrong_codes.to_owned(),
        Error::Overloaded(text) => text.to_string(),
        error => match status_of(error) {
            StatusCode::INTERNAL_SERVER_ERROR => t.internal.to_owned(),
            StatusCode::SERVICE_UNAVAILABLE => format!("{} {}", t.later, t.later_next),
            _ => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_logged_once_and_not_shown() {
        let mut problem = Problem::from(askama::Error::Fmt);
        assert_eq!(problem.0.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!problem.0.what.contains("template"));
        let fault = problem.take_fault().unwrap();
        assert!(fault.contains("template"), "{fault}");
        assert_eq!(problem.take_fault(), None);
        // Whoever returns such an error has logged it.
        assert_eq!(
            Problem::refused(&Error::InternalFailure, None).take_fault(),
            None
        );
    }

    #[test]
    fn the_audit_log_says_what_is_wrong_with_the_cookies() {
        for (why, text) in [
            (Unreadable::Repeated, "Duplicate cookie"),
            (Unreadable::NotText, "ASCII"),
        ] {
            let recorded = Problem::cookies(why).take_record().unwrap().to_string();
            assert!(recorded.contains(text), "{recorded}");
        }
    }
}
