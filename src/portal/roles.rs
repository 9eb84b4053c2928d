//! The page with the roles that a person may choose, by account, and their search, which works
//! without a script.

use askama::Template;

use super::answer::Answer;
use super::frame::Frame;
use super::problem::Problem;
use super::visit::{Visit, encoded};
use crate::budgets::{Counted, CountedAs};
use crate::error::Error;
use crate::sign_in::SignIn;
use crate::sign_in::roles::{self, Choice, MAX_CHOICES};

/// The maximum number of roles on a page, which keeps most pages below 30 kB.
const ON_A_PAGE: usize = 100;

/// The maximum number of pages of the list that a search reads.
const SEARCHED_PAGES: usize = 5;

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
    previous: Option<&'a str>,
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

/// A page of roles, or the result of a search.
#[derive(Default)]
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
    let from = visit.parameter("from")?;
    let found = match query.trim().is_empty() {
        true => list(visit, &signed_in.sign_in, from.as_deref()).await,
        false => search(visit, &signed_in.sign_in, &query).await,
    };
    let found = found.map_err(|error| Problem::refused(&error, None))?;
    let is_whole = query.trim().is_empty() && from.is_none();
    Ok(Answer::page(&Page {
        who: signed_in.sign_in.arn(),
        has_none: is_whole && found.choices.is_empty() && found.next.is_none(),
        count: found.count,
        groups: groups(&found.choices),
        previous: from.as_deref().map(|_| "/portal"),
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
    };
    let now = broker.clock.monotonic();
    let counted = broker.budgets.call(CountedAs::Call, counted, now);
    counted.map_err(|exceeded| Problem::refused(&broker.throttled(exceeded.name()), None))
}

/// Returns one page of all roles. `from` continues an earlier page.
async fn list(visit: &Visit<'_>, sign_in: &SignIn, from: Option<&str>) -> Result<Found, Error> {
    let (broker, origin) = (visit.broker, visit.origin);
    let page = roles::page(broker, sign_in, None, from, ON_A_PAGE, origin).await?;
    let is_all = from.is_none() && page.next.is_none();
    let count = number(page.choices.len());
    Ok(Found {
        count: match is_all {
            true => count,
            false => format!("{count} on this page"),
        },
        next: page
            .next
            .map(|next| format!("/portal?from={}", encoded(&next))),
        choices: page.choices,
    })
}

/// Returns the roles in all accounts that match a query: at most [`ON_A_PAGE`], from the first [`SEARCHED_PAGES`] pages
/// of the list.
async fn search(visit: &Visit<'_>, sign_in: &SignIn, query: &str) -> Result<Found, Error> {
    let (broker, origin) = (visit.broker, visit.origin);
    let mut found = Found::default();
    let mut from: Option<String> = None;
    let mut more = false;
    for _ in 0..SEARCHED_PAGES {
        let page = roles::page(broker, sign_in, None, from.as_deref(), MAX_CHOICES, origin).await?;
        let matching = page.choices.into_iter().filter(|role| matches(role, query));
        found.choices.extend(matching);
        from = page.next;
        more = from.is_some() || found.choices.len() > ON_A_PAGE;
        if from.is_none() || found.choices.len() > ON_A_PAGE {
            break;
        }
    }
    found.choices.truncate(ON_A_PAGE);
    found.count = number(found.choices.len());
    if more {
        found.count = format!("{}. {}", found.count, visit.t.too_many_found);
    }
    Ok(found)
}

/// Returns whether the account's name or the role's ARN contains each word of a query, without
/// regard to case.
fn matches(role: &Choice, query: &str) -> bool {
    let text = format!("{} {}", role.account_name, role.role_arn).to_lowercase();
    query
        .to_lowercase()
        .split_whitespace()
        .all(|word| text.contains(word))
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
        for query in [
            "",
            "dep",
            "shop deploy",
            "DEPLOY 1111",
            "role/deploy",
            " shop  ",
        ] {
            assert!(matches(&deploy, query), "{query}");
        }
        for query in ["shop admin", "4444", "<script>"] {
            assert!(!matches(&deploy, query), "{query}");
        }
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
