//! The page with the roles that a person may choose, by account, and their search, which works
//! without a script.

use askama::Template;
use http::StatusCode;

use super::answer::Answer;
use super::frame::Frame;
use super::problem::Problem;
use super::visit::{Visit, encoded};
use crate::budgets::{Counted, CountedAs};
use crate::error::Error;
use crate::sign_in::SignIn;
use crate::sign_in::roles::{self, Choice};

/// The maximum number of roles on a page, which keeps most pages below 30 kB.
const ON_A_PAGE: usize = 100;

/// The maximum number of pages of the list that a search reads for one page of its result.
const SEARCHED_PAGES: usize = 5;

/// The maximum length of a search in bytes and in words, because each word is looked for in every role.
const MAX_SEARCH: (usize, usize) = (128, 10);

#[derive(Template)]
#[template(path = "roles.html", config = "src/portal/askama.toml")]
struct Page<'a> {
    frame: Frame<'a>,
    who: &'a str,
    /// Whether the person may not choose any role, so that the page explains what to do.
    has_none: bool,
    query: &'a str,
    count: String,
    groups: Vec<Group<'a>>,
    previous: Option<String>,
    next: Option<String>,
}

/// An account and those of its roles that are on the page.
struct Group<'a> {
    id: &'a str,
    name: &'a str,
    roles: Vec<Shown<'a>>,
}

struct Shown<'a> {
    arn: &'a str,
    name: &'a str,
}

/// A page of roles, or of the result of a search.
struct Found {
    choices: Vec<Choice>,
    count: String,
    next: Option<String>,
}

/// Shows one page of all roles that the person may choose, or the roles that match a search.
pub(super) async fn page(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let signed_in = match visit.must_be_signed_in() {
        Ok(signed_in) => signed_in,
        Err(answer) => return Ok(*answer),
    };
    count(visit, &signed_in.sign_in)?;
    let query = visit.parameter("q")?.unwrap_or_default();
    if is_too_long(&query) {
        let (t, status) = (visit.t, StatusCode::BAD_REQUEST);
        let (title, what, next) = (t.long_search_title, t.long_search, t.long_search_next);
        return Err(Problem::new(status, title, what, next).leading_to("/portal", t.to_roles));
    }
    let from = visit.parameter("from")?;
    let found = find(visit, &signed_in.sign_in, &query, from.as_deref()).await;
    let found = found.map_err(|error| Problem::refused(&error, None))?;
    let is_whole = query.trim().is_empty() && from.is_none();
    Ok(Answer::page(&Page {
        who: signed_in.sign_in.arn(),
        has_none: is_whole && found.choices.is_empty() && found.next.is_none(),
        count: found.count,
        groups: groups(&found.choices),
        previous: from.map(|_| address(&query, None)),
        next: found.next,
        query: &query,
        frame: visit.frame(),
    })?)
}

/// Counts a request for the list as a call of the person, because the broker evaluates the policies
/// of each role for it.
fn count(visit: &Visit<'_>, sign_in: &SignIn) -> Result<(), Problem> {
    let broker = visit.broker;
    let account = sign_in.account();
    let counted = Counted {
        principal: sign_in.principal_id(),
        account: account.as_str(),
        signature: None,
        amount: 1,
        subjects: &[],
    };
    let now = broker.clock.monotonic();
    let counted = broker.budgets.call(CountedAs::Call, counted, now);
    counted.map_err(|exceeded| Problem::refused(&broker.throttled(exceeded.name()), None))
}

/// Returns a page of the roles in all accounts that match a query, or of all roles for an empty query. `from` continues
/// an earlier page. The page of a search ends where [`SEARCHED_PAGES`] pages of the list do, even if it has few roles.
async fn find(
    visit: &Visit<'_>,
    sign_in: &SignIn,
    query: &str,
    from: Option<&str>,
) -> Result<Found, Error> {
    let (broker, origin) = (visit.broker, visit.origin);
    let lower = query.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let is_search = !words.is_empty();
    let mut choices = Vec::new();
    let mut next = from.map(str::to_owned);
    for _ in 0..(if is_search { SEARCHED_PAGES } else { 1 }) {
        let room = ON_A_PAGE.saturating_sub(choices.len());
        let wanted = |role: &Choice| matches(role, &words);
        let page =
            roles::page(broker, sign_in, None, next.as_deref(), room, wanted, origin).await?;
        choices.extend(page.choices);
        next = page.next;
        if next.is_none() || choices.len() >= ON_A_PAGE {
            break;
        }
    }
    let mut count = number(choices.len());
    if from.is_some() || next.is_some() {
        count.push_str(" on this page");
    }
    if is_search && next.is_some() {
        count = format!("{count}. {}", visit.t.more_may_match);
    }
    Ok(Found {
        choices,
        count,
        next: next.map(|next| address(query, Some(&next))),
    })
}

/// Returns whether a search has more bytes or words than [`MAX_SEARCH`].
fn is_too_long(query: &str) -> bool {
    let (bytes, words) = MAX_SEARCH;
    query.len() > bytes || query.split_whitespace().count() > words
}

/// Returns the address of a page of the list, or of a search if there is a query.
fn address(query: &str, from: Option<&str>) -> String {
    let query = Some(query).filter(|query| !query.trim().is_empty());
    let parameters = [("q", query), ("from", from)];
    let given = parameters
        .iter()
        .filter_map(|(name, value)| Some((name, (*value)?)));
    let given: Vec<String> = given
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    match given.is_empty() {
        true => "/portal".to_owned(),
        false => format!("/portal?{}", given.join("&")),
    }
}

/// Returns whether the account's name or the role's ARN contains each of these words, which must be in lower case,
/// without regard to case.
fn matches(role: &Choice, words: &[&str]) -> bool {
    let text = format!("{} {}", role.account_name, role.role_arn).to_lowercase();
    words.iter().all(|word| text.contains(word))
}

fn number(count: usize) -> String {
    let noun = if count == 1 { "role" } else { "roles" };
    format!("{count} {noun}")
}

fn groups(roles: &[Choice]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for role in roles {
        let shown = Shown {
            arn: &role.role_arn,
            name: &role.role_name,
        };
        match groups.last_mut() {
            Some(group) if group.id == role.account_id.as_str() => group.roles.push(shown),
            _ => groups.push(Group {
                id: role.account_id.as_str(),
                name: &role.account_name,
                roles: vec![shown],
            }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::arn::AccountId;

    fn role(account: &str, account_name: &str, name: &str) -> Choice {
        Choice {
            account_id: AccountId::parse(account).unwrap(),
            account_name: account_name.to_owned(),
            role_name: name.to_owned(),
            role_arn: format!("arn:aws:iam::{account}:role/{name}"),
        }
    }

    #[test]
    fn a_search_looks_at_account_number_and_role_at_once() {
        let deploy = role("111122223333", "Shop", "Deploy");
        for words in [
            &[][..],
            &["dep"],
            &["shop", "deploy"],
            &["deploy", "1111"],
            &["role/deploy"],
        ] {
            assert!(matches(&deploy, words), "{words:?}");
        }
        for words in [&["shop", "admin"][..], &["4444"], &["<script>"]] {
            assert!(!matches(&deploy, words), "{words:?}");
        }
    }

    #[test]
    fn a_search_has_at_most_128_bytes_and_ten_words() {
        assert!(!is_too_long(&"a".repeat(128)) && is_too_long(&"a".repeat(129)));
        assert!(!is_too_long(&"a ".repeat(10)) && is_too_long(&"a ".repeat(11)));
    }

    #[test]
    fn the_next_page_of_a_search_is_one_of_the_search() {
        assert_eq!(address("", None), "/portal");
        assert_eq!(address(" ", Some("1/a")), "/portal?from=1%2Fa");
        assert_eq!(address("a b&c", None), "/portal?q=a%20b%26c");
        assert_eq!(address("a", Some("1/b")), "/portal?q=a&from=1%2Fb");
    }

    #[test]
    fn roles_are_grouped_by_account_and_counted() {
        let roles = [
            role("111122223333", "Shop", "Admin"),
            role("111122223333", "Shop", "Deploy"),
            role("444455556666", "Bank", "Admin"),
        ];
        let groups = groups(&roles);
        assert_eq!(groups.len(), 2);
        assert_eq!((groups[0].name, groups[0].roles.len()), ("Shop", 2));
        assert_eq!(groups[1].roles[0].name, "Admin");
        assert_eq!(number(3), "3 roles");
        assert_eq!(number(1), "1 role");
    }
}
