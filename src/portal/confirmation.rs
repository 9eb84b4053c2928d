//! The pages on which users change their own credentials. Each change must be confirmed: with a new code of an MFA
//! device or, by a user without a device, with the password, if it was not given recently.

use askama::Template;
use http::StatusCode;
use zeroize::Zeroizing;

use super::account::{self, Refused};
use super::answer::Answer;
use super::form::Form;
use super::frame::Frame;
use super::problem::{Problem, retry_after, status_of, text_of};
use super::visit::{SignedInUser, Visit};
use crate::error::{Error, MfaError};
use crate::login;
use crate::ops::iam::access_keys::{DeleteAccessKey, UpdateAccessKey};
use crate::ops::iam::mfa_devices::{DeactivateMfaDevice, DeleteVirtualMfaDevice};
use crate::sign_in::{self, password};

/// A change of a user's own credentials that needs a confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    AddDevice,
    RemoveDevice,
    MakeKey,
    SwitchKeyOff,
    SwitchKeyOn,
    DeleteKey,
}

/// The factors that the user must give to confirm a change; none if the password was given
/// recently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asks {
    pub(super) code: bool,
    pub(super) password: bool,
}

/// A page that asks for a confirmation before a change is made.
#[derive(Template)]
#[template(path = "confirm.html", config = "src/portal/askama.toml")]
pub(super) struct ConfirmPage<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: &'a str,
    pub(super) text: &'a str,
    /// The name of the device or key that is changed, or of the person whom the page asks about; `None` if the text
    /// alone says what is asked.
    pub(super) name: Option<&'a str>,
    pub(super) action: &'a str,
    pub(super) fields: Vec<(&'static str, &'a str)>,
    pub(super) asks: Asks,
    pub(super) user_name: &'a str,
    /// The address of the link with which the user cancels.
    pub(super) back: &'a str,
}

impl Change {
    const ALL: [Self; 6] = [
        Self::AddDevice,
        Self::RemoveDevice,
        Self::MakeKey,
        Self::SwitchKeyOff,
        Self::SwitchKeyOn,
        Self::DeleteKey,
    ];

    /// Returns the change whose page has this path; `None` for any other path.
    pub(super) fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|change| change.path() == path)
    }

    fn path(self) -> &'static str {
        match self {
            Self::AddDevice => "/portal/mfa/add",
            Self::RemoveDevice => "/portal/mfa/remove",
            Self::MakeKey => "/portal/keys/make",
            Self::SwitchKeyOff => "/portal/keys/switch-off",
            Self::SwitchKeyOn => "/portal/keys/switch-on",
            Self::DeleteKey => "/portal/keys/delete",
        }
    }

    /// The last segment of the change's path, which is its value in the parameter `done`.
    fn word(self) -> &'static str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    /// Returns the text that a page shows after a change, which the parameter `done` of its address
    /// names.
    ///
    /// # Errors
    /// [`Problem`] if the query cannot be parsed.
    pub(super) fn done(visit: &Visit<'_>) -> Result<Option<&'static str>, Problem> {
        let (t, word) = (visit.t, visit.parameter("done")?);
        let is_done =
            |change: &Self| change.back() == visit.path() && word.as_deref() == Some(change.word());
        let done = Self::ALL.into_iter().find(is_done);
        Ok(done.map(|change| match change {
            Self::AddDevice => t.device_added,
            Self::RemoveDevice => t.device_removed,
            Self::MakeKey => t.key_made,
            Self::SwitchKeyOff => t.key_switched_off,
            Self::SwitchKeyOn => t.key_switched_on,
            Self::DeleteKey => t.key_deleted,
        }))
    }

    /// The path of the page that lists the devices or keys, to which the browser returns.
    fn back(self) -> &'static str {
        match self {
            Self::AddDevice | Self::RemoveDevice => "/portal/mfa",
            Self::MakeKey | Self::SwitchKeyOff | Self::SwitchKeyOn | Self::DeleteKey => {
                "/portal/keys"
            }
        }
    }

    /// The form's field with the device or key to change; `None` if the change makes a new one.
    fn parameter(self) -> Option<&'static str> {
        match self {
            Self::AddDevice | Self::MakeKey => None,
            Self::RemoveDevice => Some("device"),
            Self::SwitchKeyOff | Self::SwitchKeyOn | Self::DeleteKey => Some("key"),
        }
    }
}

/// Shows the page that asks the user to confirm a change.
pub(super) async fn page(visit: &mut Visit<'_>, change: Change) -> Result<Answer, Problem> {
    let signed_in = match visit.must_be_signed_in() {
        Ok(signed_in) => signed_in,
        Err(answer) => return Ok(*answer),
    };
    let me = visit.user_of(&signed_in.sign_in)?;
    let name = match change.parameter() {
        Some(parameter) => visit.parameter(parameter)?.unwrap_or_default(),
        None => String::new(),
    };
    ask(visit, &me, change, &name, None)
}

fn ask(
    visit: &Visit<'_>,
    me: &SignedInUser,
    change: Change,
    name: &str,
    alert: Option<String>,
) -> Result<Answer, Problem> {
    let t = visit.t;
    let (title, text) = match change {
        Change::AddDevice => (t.enrol_title, t.enrol_text),
        Change::RemoveDevice => (t.remove_device_title, t.remove_device_text),
        Change::MakeKey => (t.make_key_title, t.make_key_text),
        Change::SwitchKeyOff => (t.switch_off_title, t.switch_off_text),
        Change::SwitchKeyOn => (t.switch_on_title, t.switch_on_text),
        Change::DeleteKey => (t.delete_key_title, t.delete_key_text),
    };
    let parameter = change.parameter();
    Ok(Answer::page(&ConfirmPage {
        title,
        text,
        name: parameter.map(|_| name),
        action: change.path(),
        fields: parameter.map(|p| (p, name)).into_iter().collect(),
        asks: asks(visit, me),
        user_name: &me.user.name,
        back: change.back(),
        frame: visit.frame().narrow().alert(alert),
    })?)
}

/// Returns the factors that this user must give now to confirm a change.
fn asks(visit: &Visit<'_>, me: &SignedInUser) -> Asks {
    let broker = visit.broker;
    let code = password::has_device(&broker.directory.load(), &me.user.arn);
    let password = !code && !password::is_recent(&me.sign_in, broker.clock.now());
    Asks { code, password }
}

/// The result of a submitted form.
pub(super) enum Next {
    /// The change was made or refused, and this is the answer.
    Answered(Answer),
    /// The user confirmed; the caller must show the page on which a device is enrolled.
    AddDevice(SignedInUser),
    /// The user confirmed; the caller must create the key and show the page with it.
    MakeKey(SignedInUser),
}

/// Checks the confirmation and makes the change. Two kinds of changes are left to the caller: see
/// [`Next`].
pub(super) async fn submit(
    visit: &mut Visit<'_>,
    change: Change,
    mut form: Form,
) -> Result<Next, Problem> {
    let Some(signed_in) = visit.signed_in.clone() else {
        return Err(Problem::ended());
    };
    let mut me = visit.user_of(&signed_in.sign_in)?;
    let name = change.parameter().map(|parameter| form.take(parameter));
    let name = name.unwrap_or_default();
    let (code, password) = (form.code("code"), form.secret("password"));
    if let Err(refused) = confirm(visit, &mut me, &code, &password).await {
        return Ok(Next::Answered(again(visit, &me, change, &name, refused)?));
    }
    let done = match change {
        Change::AddDevice => return Ok(Next::AddDevice(me)),
        Change::MakeKey => return Ok(Next::MakeKey(me)),
        Change::RemoveDevice => remove_device(visit, &me, &name).await,
        Change::SwitchKeyOff => set_status(visit, &me, &name, "Inactive").await,
        Change::SwitchKeyOn => set_status(visit, &me, &name, "Active").await,
        Change::DeleteKey => delete_key(visit, &me, &name).await,
    };
    Ok(Next::Answered(match done {
        Ok(()) => Answer::go_to(format!("{}?done={}", change.back(), change.word())),
        Err(refused) => again(visit, &me, change, &name, refused)?,
    }))
}

/// Shows the page again, with the reason why the change was refused.
pub(super) fn again(
    visit: &mut Visit<'_>,
    me: &SignedInUser,
    change: Change,
    name: &str,
    refused: Refused,
) -> Result<Answer, Problem> {
    if !refused.request_id.is_empty() {
        visit.request_id = refused.request_id;
    }
    let (error, text) = (&refused.error, text_of(visit.t, &refused.error));
    let answer = ask(visit, me, change, name, Some(text))?;
    Ok(answer
        .with_status(form_status(error))
        .with_retry_after(retry_after(error)))
}

/// Returns the status for a form that is shown again. A wrong code is a mistake in the form, and
/// not a lack of permission.
pub(super) fn form_status(error: &Error) -> StatusCode {
    match error {
        Error::Mfa(MfaError::Locked) => StatusCode::TOO_MANY_REQUESTS,
        Error::Mfa(_) | Error::WrongPassword(_) | Error::InvalidAuthenticationCode => {
            StatusCode::BAD_REQUEST
        }
        error => status_of(error),
    }
}

/// Checks the factors that a change requires, and adds the new factor to the sign-in, which gets a new cookie.
///
/// # Errors
/// [`Refused`] if the code or the password is missing or not accepted, or the factor cannot be added to the sign-in.
pub(super) async fn confirm(
    visit: &mut Visit<'_>,
    me: &mut SignedInUser,
    code: &str,
    given: &Zeroizing<String>,
) -> Result<(), Refused> {
    let asks = asks(visit, me);
    confirm_with(visit, me, asks, code, given).await
}

/// Checks the code or the password that `asks` requires, and adds the new factor to the sign-in, which gets a new
/// cookie.
///
/// # Errors
/// [`Refused`] if the code or the password is missing or not accepted, or the factor cannot be added to the sign-in.
pub(super) async fn confirm_with(
    visit: &mut Visit<'_>,
    me: &mut SignedInUser,
    asks: Asks,
    code: &str,
    given: &Zeroizing<String>,
) -> Result<(), Refused> {
    let refused = |error| Refused {
        error,
        request_id: String::new(),
    };
    let missing = match asks {
        Asks { code: true, .. } if code.is_empty() => Some(visit.t.missing_code),
        Asks { password: true, .. } if given.is_empty() => Some(visit.t.missing_password),
        Asks { .. } => None,
    };
    if let Some(missing) = missing {
        return Err(refused(Error::WrongPassword(missing)));
    }
    let confirmation = match asks {
        Asks { code: true, .. } => password::Confirmation::Code(code),
        Asks { password: true, .. } => password::Confirmation::Password(given),
        Asks { .. } => password::Confirmation::Recent,
    };
    let broker = visit.broker;
    let factor = password::confirm(broker, &me.sign_in, &me.user, confirmation).await;
    let factor = factor.map_err(|why| refused(error_of(visit, why)))?;
    if let Some(factor) = factor {
        let added = sign_in::add_factor(broker, &me.sign_in.id, factor.clone()).await;
        let handle = added.map_err(refused)?;
        me.sign_in.factors.push(factor);
        visit.rotate(&handle, &me.sign_in);
    }
    Ok(())
}

/// Returns the error for a password that was not accepted.
pub(super) fn error_of(visit: &Visit<'_>, refused: login::Refused) -> Error {
    let t = visit.t;
    match refused {
        login::Refused::Wrong => Error::WrongPassword(t.wrong_current),
        login::Refused::Locked => Error::Throttling,
        login::Refused::Expired => Error::WrongPassword(t.expired_for_good),
        // Too many hashes are computed at this moment.
        login::Refused::Unavailable(Error::Throttling) => Error::Overloaded(t.busy.into()),
        login::Refused::Unavailable(error) => error,
    }
}

/// Deactivates a user's MFA device, and deletes a virtual one if the user may do that.
async fn remove_device(visit: &Visit<'_>, me: &SignedInUser, serial: &str) -> Result<(), Refused> {
    let of = [("UserName", &*me.user.name), ("SerialNumber", serial)];
    account::call::<DeactivateMfaDevice>(visit, me, &of, &[]).await?;
    let is_virtual = serial.starts_with(&format!("arn:aws:iam::{}:mfa/", me.account));
    if is_virtual {
        let device = [("SerialNumber", serial)];
        // The device is no longer the user's. Whether it may also be deleted is another permission, which a
        // user need not have.
        let deleted = account::call::<DeleteVirtualMfaDevice>(visit, me, &device, &[]).await;
        if let Err(refused) = deleted {
            tracing::debug!(error = %refused.error, serial, "the user's virtual MFA device was deactivated, but \
                could not be deleted");
        }
    }
    Ok(())
}

async fn set_status(
    visit: &Visit<'_>,
    me: &SignedInUser,
    key: &str,
    status: &str,
) -> Result<(), Refused> {
    let parameters = [
        ("UserName", &*me.user.name),
        ("AccessKeyId", key),
        ("Status", status),
    ];
    account::call::<UpdateAccessKey>(visit, me, &parameters, &[]).await?;
    Ok(())
}

async fn delete_key(visit: &Visit<'_>, me: &SignedInUser, key: &str) -> Result<(), Refused> {
    let parameters = [("UserName", &*me.user.name), ("AccessKeyId", key)];
    account::call::<DeleteAccessKey>(visit, me, &parameters, &[]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_an_address_of_its_own() {
        for change in Change::ALL {
            assert_eq!(Change::at(change.path()), Some(change));
            assert!(change.path().starts_with(change.back()));
        }
        assert_eq!(Change::at("/portal/keys"), None);
    }
}
