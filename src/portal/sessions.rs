//! The page with this browser's sign-in, the sessions that came from it and the person's other
//! sign-ins. The person can end each of them here.

use askama::Template;
use http::StatusCode;

use super::answer::Answer;
use super::confirmation::{Asks, ConfirmPage};
use super::form::Form;
use super::frame::{Frame, Moment};
use super::problem::Problem;
use super::visit::{SignedIn, Visit};
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::error::Error;
use crate::sign_in::ending;
use crate::sign_in::live::{self, Live};
use crate::sign_in::{SignIn, roles};

/// The maximum number of sessions on a page, which keeps most pages below 30 kB.
const ON_A_PAGE: usize = 40;

#[derive(Template)]
#[template(path = "sessions.html", config = "src/portal/askama.toml")]
struct Page<'a> {
    frame: Frame<'a>,
    who: &'a str,
    since: Moment,
    until: Moment,
    address: String,
    program: &'a str,
    factors: String,
    sessions: Vec<Shown>,
    /// The address of the page with newer sessions; `older` is the address of the page with older
    /// ones.
    newer: Option<String>,
    older: Option<String>,
    others: Vec<Other>,
}

/// Another sign-in of the same person, such as one on another computer.
struct Other {
    id: String,
    program: String,
    address: String,
    since: Moment,
    seen: Moment,
}

struct Shown {
    id: String,
    role: String,
    account: String,
    since: Moment,
    until: Moment,
    given_to: String,
}

/// What the message above the list says after a person wanted to end a session or another sign-in: that it was ended
/// now (`Ended`, `SignInEnded`), or had ended before (`Gone`, `SignInGone`).
pub(super) enum Said {
    Ended,
    Gone,
    SignInEnded,
    SignInGone,
}

/// Shows the page with this sign-in and its sessions.
pub(super) async fn page(visit: &mut Visit<'_>, said: Option<Said>) -> Result<Answer, Problem> {
    let signed_in = match visit.must_be_signed_in() {
        Ok(signed_in) => signed_in,
        Err(answer) => return Ok(*answer),
    };
    let SignedIn { sign_in, .. } = &signed_in;
    let from = visit.parameter("from")?.and_then(|from| from.parse().ok());
    let from: usize = from.unwrap_or_default();
    let live = live::sessions(visit.broker, sign_in).await;
    let live = live.map_err(|error| Problem::refused(&error, None))?;
    let mut sessions: Vec<Shown> = live.into_iter().map(|live| shown(visit, live)).collect();
    // The newest first.
    sessions.sort_by(|a, b| b.since.iso.cmp(&a.since.iso).then(a.role.cmp(&b.role)));
    let at = |from: usize| format!("/portal/sessions?from={from}");
    let next = from.saturating_add(ON_A_PAGE);
    let older = (sessions.len() > next).then(|| at(next));
    let newer = (from > 0).then(|| at(from.saturating_sub(ON_A_PAGE)));
    let sessions = sessions.into_iter().skip(from).take(ON_A_PAGE).collect();
    let (t, factors) = (visit.t, &sign_in.factors);
    let factors: Vec<String> = factors
        .iter()
        .map(|factor| {
            format!(
                "{} ({})",
                t.factor(factor.method),
                Moment::at(factor.at).text
            )
        })
        .collect();
    let frame = match said {
        None => visit.frame(),
        Some(Said::Ended) => visit.frame().done(Some(t.session_ended)),
        Some(Said::Gone) => visit.frame().alert(Some(t.session_gone)),
        Some(Said::SignInEnded) => visit.frame().done(Some(t.sign_in_ended)),
        Some(Said::SignInGone) => visit.frame().alert(Some(t.sign_in_gone)),
    };
    let others = live::others(visit.broker, sign_in).await;
    let others = others.map_err(|error| Problem::refused(&error, None))?;
    Ok(Answer::page(&Page {
        who: sign_in.arn(),
        since: Moment::at(sign_in.at),
        until: Moment::at(sign_in.ends_at),
        address: sign_in.source.to_string(),
        program: &sign_in.user_agent,
        factors: factors.join(", "),
        sessions,
        newer,
        older,
        others: others.into_iter().take(ON_A_PAGE).map(other).collect(),
        frame,
    })?)
}

fn other((sign_in, seen_at): (SignIn, i64)) -> Other {
    Other {
        id: sign_in.id_text(),
        address: sign_in.source.to_string(),
        since: Moment::at(sign_in.at),
        seen: Moment::at(Timestamp::from_seconds(seen_at)),
        program: sign_in.user_agent,
    }
}

fn shown(visit: &Visit<'_>, live: Live) -> Shown {
    let account = live.account_id.to_string();
    let directory = visit.broker.directory.load();
    let name = roles::account_name(&directory, live.account_id);
    Shown {
        id: hex(&live.session_id),
        role: live.role_name,
        account: if name == account {
            account
        } else {
            format!("{name} {account}")
        },
        since: Moment::at(live.issued_at),
        until: Moment::at(live.expires_at),
        given_to: live.given_to,
    }
}

/// Ends one session of this sign-in, or another sign-in of the person. The page says whether that
/// succeeded.
pub(super) async fn end(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    let Some(signed_in) = visit.signed_in.clone() else {
        return Err(Problem::ended());
    };
    let other = form.take("sign_in");
    if !other.is_empty() {
        return end_other(visit, &signed_in.sign_in, &other).await;
    }
    let id = session_id(&form.take("session"));
    let live = live::sessions(visit.broker, &signed_in.sign_in).await;
    let live = live.map_err(|error| Problem::refused(&error, None))?;
    let own = live.into_iter().find(|live| Some(live.session_id) == id);
    let Some(own) = own else {
        let answer = page(visit, Some(Said::Gone)).await?;
        return Ok(answer.with_status(StatusCode::NOT_FOUND));
    };
    ending::end_session(
        visit.broker,
        &signed_in.sign_in,
        &own.session_id,
        visit.origin,
    )
    .await
    .map_err(|error| Problem::refused(&error, None))?;
    page(visit, Some(Said::Ended)).await
}

async fn end_other(
    visit: &mut Visit<'_>,
    sign_in: &SignIn,
    other: &str,
) -> Result<Answer, Problem> {
    let ended = match session_id(other) {
        Some(id) => ending::end_other(visit.broker, sign_in, &id, visit.origin).await,
        None => Err(Error::NotFound(String::new())),
    };
    match ended {
        Ok(()) => page(visit, Some(Said::SignInEnded)).await,
        Err(Error::NotFound(_)) => {
            let answer = page(visit, Some(Said::SignInGone)).await?;
            Ok(answer.with_status(StatusCode::NOT_FOUND))
        }
        Err(error) => Err(Problem::refused(&error, None)),
    }
}

/// Parses the id of a session or sign-in, which is 32 hexadecimal digits in lower case.
fn session_id(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok()?;
    Some(number.to_be_bytes()).filter(|id| hex(id) == text)
}

/// Shows the page that asks the person to confirm the end of this sign-in and all its sessions.
pub(super) fn ask_all(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    if let Err(answer) = visit.must_be_signed_in() {
        return Ok(*answer);
    }
    let t = visit.t;
    Ok(Answer::page(&ConfirmPage {
        title: t.end_all_title,
        text: t.end_all_text,
        name: None,
        action: "/portal/sessions/end-all",
        fields: Vec::new(),
        asks: Asks::default(),
        user_name: "",
        back: "/portal/sessions",
        frame: visit.frame().narrow(),
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_exactly_32_digits() {
        let text = "000102030405060708090a0b0c0d0e0f";
        assert_eq!(session_id(text).unwrap()[15], 15);
        for bad in [
            "",
            "+00102030405060708090a0b0c0d0e0f",
            &text[1..],
            &text.to_uppercase(),
            "x",
        ] {
            assert_eq!(session_id(bad), None, "{bad}");
        }
    }
}
