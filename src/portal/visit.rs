//! One request for a page, with the sign-in of its browser and its id in the logs.

use std::sync::Arc;

use http::HeaderValue;
use http::request::Parts;

use super::answer::Answer;
use super::cookies;
use super::destination::Destination;
use super::frame::{Frame, Me};
use super::problem::Problem;
use super::texts::{ENGLISH, Texts};
use crate::base::arn::{AccountId, name_of};
use crate::base::entropy;
use crate::base::form;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::directory::User;
use crate::error::Error;
use crate::origin::Origin;
use crate::sign_in::known::{self, KNOWN_FOR};
use crate::sign_in::{self, Handle, NewSignIn, SignIn, ending};
use crate::sign_ins::Settings;
use crate::signed_in::Who;

/// A request for a page, with everything that is known about the browser.
pub(super) struct Visit<'a> {
    pub(super) broker: &'a Arc<Broker>,
    pub(super) origin: &'a Origin,
    pub(super) settings: &'a Settings,
    pub(super) head: &'a Parts,
    pub(super) request_id: String,
    /// The value of the cookie [`cookies::BEFORE`] of a browser that has not signed in;
    /// [`Self::before()`] makes one if there is none.
    pub(super) before: Option<String>,
    /// The sign-in of this browser; `None` if it has none that is in force.
    pub(super) signed_in: Option<SignedIn>,
    /// The cookies that the answer will set.
    pub(super) new_cookies: Vec<HeaderValue>,
    pub(super) t: &'static Texts,
}

/// A sign-in that is in force, with the value of its cookie.
#[derive(Clone)]
pub(super) struct SignedIn {
    pub(super) sign_in: SignIn,
    pub(super) handle: Secret<String>,
}

/// A signed-in person who is a user of the directory.
pub(super) struct SignedInUser {
    pub(super) sign_in: SignIn,
    pub(super) account: AccountId,
    pub(super) user: Arc<User>,
}

impl<'a> Visit<'a> {
    /// Creates the visit for a request whose cookies have not been read yet.
    pub(super) fn unknown(
        broker: &'a Arc<Broker>,
        settings: &'a Settings,
        origin: &'a Origin,
        head: &'a Parts,
        request_id: String,
    ) -> Self {
        Self {
            broker,
            origin,
            settings,
            head,
            request_id,
            before: None,
            signed_in: None,
            new_cookies: Vec::new(),
            t: &ENGLISH,
        }
    }

    /// Reads the cookies, and looks up the sign-in.
    ///
    /// # Errors
    /// [`Problem`] if the request has two cookies of the same name or a `Cookie` header that cannot be read, or the
    /// store does not answer.
    pub(super) async fn look_up(&mut self) -> Result<(), Problem> {
        let read = |name| cookies::read(&self.head.headers, name).map_err(Problem::cookies);
        let (handle, before) = (read(cookies::SESSION)?, read(cookies::BEFORE)?);
        self.before = before.map(str::to_owned);
        let Some(handle) = handle else {
            return Ok(());
        };
        let found = sign_in::of_handle(self.broker, handle, self.origin).await;
        match found {
            Ok(Some(sign_in)) => {
                self.signed_in = Some(SignedIn {
                    sign_in,
                    handle: Secret::new(handle.to_owned()),
                });
            }
            // The cookie stays: a broker that lags behind may not know the sign-in yet.
            Ok(None) => {}
            Err(error) => return Err(Problem::refused(&error, None)),
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &'a str {
        self.head.uri.path()
    }

    /// Returns the value of a parameter in the URL; `None` if it is absent.
    ///
    /// # Errors
    /// [`Problem`] if the query cannot be parsed, or has the parameter twice.
    pub(super) fn parameter(&self, name: &str) -> Result<Option<String>, Problem> {
        let query = self.head.uri.query().unwrap_or_default();
        let pairs = form::pairs(query.as_bytes()).map_err(|e| Problem::of_request(e.into()))?;
        let mut values = pairs.into_iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value);
        match values.next() {
            Some(_) => Err(Problem::of_request(form::FormError::Duplicate.into())),
            None => Ok(value),
        }
    }

    /// The path and query of this request, as the destination after a sign-in.
    pub(super) fn here(&self) -> Destination {
        let here = self.head.uri.path_and_query().map(|p| p.as_str());
        here.and_then(Destination::parse).unwrap_or_default()
    }

    /// Returns the sign-in of this browser. Otherwise returns the redirect to the page for signing
    /// in, or to the page for a new password if the user must choose one first.
    pub(super) fn must_be_signed_in(&self) -> Result<SignedIn, Box<Answer>> {
        match &self.signed_in {
            Some(signed_in) if self.must_change_first() => {
                tracing::debug!(sign_in = %signed_in.sign_in.id_text(), "the user of this sign-in must choose \
                    another password first; the browser is redirected to the page for that");
                Err(Box::new(Answer::go_to(page_for(
                    "/portal/password",
                    &self.here(),
                ))))
            }
            Some(signed_in) => Ok(signed_in.clone()),
            None => Err(Box::new(Answer::go_to(page_for("/sign-in", &self.here())))),
        }
    }

    /// Returns whether the user must choose a new password before it may open this page.
    pub(super) fn must_change_first(&self) -> bool {
        let must = self
            .signed_in
            .as_ref()
            .is_some_and(|s| s.sign_in.must_change_password);
        must && !["/portal/password", "/sign-out"].contains(&self.path())
    }

    /// Returns the signed-in person as a user of the directory.
    ///
    /// # Errors
    /// [`Problem`] if the person is not a user, or the user was deleted.
    pub(super) fn user_of(&self, sign_in: &SignIn) -> Result<SignedInUser, Problem> {
        let Who::User {
            account, id, arn, ..
        } = &sign_in.who
        else {
            return Err(Problem::users_only());
        };
        let directory = self.broker.directory.load();
        let user = directory.user(arn).filter(|user| &*user.id == id.as_str());
        match user {
            Some(user) => Ok(SignedInUser {
                sign_in: sign_in.clone(),
                account: *account,
                user: user.clone(),
            }),
            None => Err(Problem::ended()),
        }
    }

    /// Returns the value of the cookie to which the forms before a sign-in are bound. The first
    /// call for a browser creates the cookie.
    ///
    /// # Errors
    /// [`Problem`] if there are no random bytes.
    pub(super) fn before(&mut self) -> Result<String, Problem> {
        if let Some(before) = &self.before {
            return Ok(before.clone());
        }
        let made = random(self.broker)?;
        self.new_cookies.push(cookies::set(cookies::BEFORE, &made));
        self.before = Some(made.clone());
        Ok(made)
    }

    /// Begins a sign-in, and redirects the browser to its destination with a new cookie. An earlier sign-in of the
    /// browser ends.
    ///
    /// # Errors
    /// [`Error`] if the sign-in is refused, or the earlier one cannot be ended.
    pub(super) async fn begin(
        &mut self,
        new: NewSignIn,
        to: &Destination,
    ) -> Result<Answer, Error> {
        let (sign_in, handle) = sign_in::begin(self.broker, new, self.origin).await?;
        // The browser has lost the cookie of an earlier sign-in, which nobody could end any more.
        if let Some(old) = self.signed_in.take() {
            ending::sign_out(self.broker, &old.sign_in, self.origin).await?;
        }
        let to = match sign_in.must_change_password {
            true => page_for("/portal/password", to),
            false => to.as_str().to_owned(),
        };
        self.new_cookies.clear();
        let known = match &sign_in.who {
            Who::User { id, .. } => known::remember(self.broker, id).ok(),
            Who::Federated(_) => None,
        };
        if let Some(known) = known {
            let cookie = cookies::set_for(cookies::KNOWN, &known, KNOWN_FOR);
            self.new_cookies.push(cookie);
        }
        Ok(Answer::go_to(to)
            .with_cookie(cookies::set(cookies::SESSION, handle.expose()))
            .with_cookie(cookies::remove(cookies::BEFORE)))
    }

    /// Gives the browser the new cookie of its sign-in. A sign-in gets a new handle whenever a factor is added or the
    /// password is changed.
    pub(super) fn rotate(&mut self, handle: &Handle, sign_in: &SignIn) {
        let handle = handle.expose();
        self.new_cookies
            .push(cookies::set(cookies::SESSION, handle));
        self.signed_in = Some(SignedIn {
            sign_in: sign_in.clone(),
            handle: Secret::new(handle.to_owned()),
        });
    }

    /// Returns the frame for a page that answers this request.
    pub(super) fn frame(&self) -> Frame<'_> {
        let cookie = match &self.signed_in {
            Some(signed_in) => signed_in.handle.expose().as_str(),
            None => self.before.as_deref().unwrap_or_default(),
        };
        Frame {
            t: self.t,
            path: self.path(),
            me: self.signed_in.as_ref().map(|s| me(&s.sign_in)),
            cookie,
            request_id: &self.request_id,
            alert: None,
            done: None,
            is_narrow: false,
        }
    }
}

/// Returns the address of a page that leads to `to` afterwards.
pub(super) fn page_for(page: &str, to: &Destination) -> String {
    match to.is_default() {
        true => page.to_owned(),
        false => format!("{page}?to={}", encoded(to.as_str())),
    }
}

/// Percent-encodes a text as the value of a parameter in a URL.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Returns 256 random bits in base64url, for a cookie.
pub(super) fn random(broker: &Broker) -> Result<String, Problem> {
    use base64::Engine;
    let bytes = entropy::bytes::<32>(&*broker.entropy)
        .map_err(|error| Problem::refused(&Error::from(error), None))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

/// Returns the signed-in person as the pages show it.
pub(super) fn me(sign_in: &SignIn) -> Me {
    let (name, from, is_user) = match &sign_in.who {
        Who::User { account, name, .. } => (name.clone(), account.to_string(), true),
        Who::Federated(kept) => (
            sign_in.name(),
            name_of(&kept.provider_arn).to_owned(),
            false,
        ),
    };
    Me {
        name,
        from,
        is_user,
    }
}
