//! The frame around the content of every page: the links, the name of the person who is signed in,
//! and the tokens of its forms.

use super::assets;
use super::csrf;
use super::texts::Texts;
use crate::base::clock::Timestamp;

/// The parts of a page around its content, which all pages share.
pub(super) struct Frame<'a> {
    pub(super) t: &'static Texts,
    /// The path of the page, whose link in the navigation is highlighted.
    pub(super) path: &'a str,
    /// The person who is signed in; `None` on pages without a sign-in.
    pub(super) me: Option<Me>,
    /// The value of the cookie to which the tokens of the page's forms are bound.
    pub(super) cookie: &'a str,
    pub(super) request_id: &'a str,
    /// The reason why the submitted form was not accepted, shown above the content.
    pub(super) alert: Option<String>,
    /// The message that confirms the last change, shown above the content.
    pub(super) done: Option<&'static str>,
    /// Whether the page is a short form, which is shown in a narrow column.
    pub(super) is_narrow: bool,
}

/// The person who is signed in, as the pages show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Me {
    pub(super) name: String,
    /// The account of a user, or the identity provider of a federated person.
    pub(super) from: String,
    /// Whether the person is a user of the directory, who can have keys and devices.
    pub(super) is_user: bool,
}

/// A link in the navigation of the pages.
pub(super) struct Link {
    pub(super) path: &'static str,
    pub(super) text: &'static str,
    pub(super) is_here: bool,
}

impl<'a> Frame<'a> {
    /// Marks the page as a short form, which is shown in a narrow column.
    #[must_use]
    pub(super) fn narrow(self) -> Self {
        Self {
            is_narrow: true,
            ..self
        }
    }

    /// Adds the reason why the submitted form was not accepted.
    #[must_use]
    pub(super) fn alert(self, alert: Option<impl Into<String>>) -> Self {
        Self {
            alert: alert.map(Into::into),
            ..self
        }
    }

    /// Adds the message that confirms the last change.
    #[must_use]
    pub(super) fn done(self, done: Option<&'static str>) -> Self {
        Self { done, ..self }
    }

    /// Returns the token against cross-site request forgery for a form that is sent to `action`.
    pub(super) fn token(&self, action: &str) -> String {
        csrf::token(self.cookie, action)
    }

    /// Returns the text of the page's `<title>`, which begins with "Error" if its form was not
    /// accepted.
    pub(super) fn state(&self, title: &str) -> String {
        match &self.alert {
            Some(_) => format!("{} {title}", self.t.error_prefix),
            None => title.to_owned(),
        }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = Link> {
        let t = self.t;
        let all = [
            ("/portal", t.my_roles, false),
            ("/portal/sessions", t.my_sessions, false),
            ("/portal/mfa", t.mfa_devices, true),
            ("/portal/keys", t.access_keys, true),
            ("/portal/password", t.change_password, true),
        ];
        let is_user = self.me.as_ref().is_some_and(|me| me.is_user);
        let here = self.path;
        all.into_iter()
            .filter(move |(_, _, for_users)| is_user || !for_users)
            .map(move |(path, text, _)| Link {
                path,
                text,
                is_here: here == path,
            })
    }

    pub(super) fn style(&self) -> &'static str {
        assets::style()
    }

    pub(super) fn script(&self) -> &'static str {
        assets::script()
    }

    pub(super) fn icon(&self) -> &'static str {
        assets::icon()
    }
}

/// A time in UTC, formatted for people (`text`) and for programs (`iso`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) iso: String,
    pub(super) text: String,
}

impl Moment {
    pub(super) fn at(at: Timestamp) -> Self {
        Self::of(&at.to_string())
    }

    /// Formats a time that is given in ISO 8601, such as `2026-11-24T12:00:00Z`.
    pub(super) fn of(iso: &str) -> Self {
        let text = match (iso.get(..10), iso.get(11..19)) {
            (Some(day), Some(time)) if iso.ends_with('Z') => format!("{day} {time} UTC"),
            _ => iso.to_owned(),
        };
        Self {
            iso: iso.to_owned(),
            text,
        }
    }
}

/// Formats a number of seconds for people, in the largest suitable unit and rounded down: `3
/// minutes`.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans_are_words() {
        let at = Moment::of("2026-11-24T12:00:05Z");
        assert_eq!(at.text, "2026-11-24 12:00:05 UTC");
        assert_eq!(Moment::of("some day").text, "some day");
        for (seconds, words) in [
            (-3, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "1 minute"),
            (7_199, "1 hour"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }
}
