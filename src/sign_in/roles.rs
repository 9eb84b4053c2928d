//! Finds the roles that a person who signed in may assume: those whose trust policies currently admit the sign-in, as
//! the evaluator decides. There is no separate list of assignments.

use std::sync::Arc;

use crate::authn;
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::names::RoleSessionName;
use crate::broker::Broker;
use crate::caller::{Caller, Identity};
use crate::directory::{Directory, Role};
use crate::error::Error;
use crate::evaluator::AllowedPrincipal;
use crate::ops::sts::seen::Seen;
use crate::ops::sts::{assume_role, federated_session};
use crate::origin::Origin;
use crate::signed_in::{SignIn, Who};

/// The maximum number of roles in one answer.
pub const MAX_CHOICES: usize = 1_000;
/// How many roles the evaluator decides on before the task yields to other tasks.
const AT_ONCE: usize = 100;
/// The maximum number of roles that are looked at for one answer, where an account without any counts as one. If more
/// trust policies may concern the person, the next page continues with them.
const MAX_JUDGED: usize = 20_000;

/// A role that a person may assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub account_id: AccountId,
    /// The alias of the account, or else its number.
    pub account_name: String,
    pub role_name: String,
    pub role_arn: String,
}

/// A page of the roles that a person may assume.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub choices: Vec<Choice>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<String>,
}

/// The roles that a person may assume, at most [`MAX_CHOICES`], ordered by the name of the account and then by the name
/// of the role.
///
/// # Errors
/// The same as for [`page`].
#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, reason = "tests ask for all roles at once")
)]
pub async fn roles(
    broker: &Broker,
    sign_in: &SignIn,
    account: Option<&str>,
    origin: &Origin,
) -> Result<Vec<Choice>, Error> {
    let account = match account {
        None => None,
        Some(text) => match AccountId::parse(text) {
            Some(account) => Some(account),
            None => return Ok(Vec::new()),
        },
    };
    let all = |_: &Choice| true;
    let page = page(broker, sign_in, account, None, MAX_CHOICES, all, origin).await?;
    Ok(page.choices)
}

/// A page of those roles that a person may assume and that are `wanted`. It begins at `next`, which an earlier page has
/// returned.
///
/// # Errors
/// [`Error::NotSignedIn`] if the sign-in is over, or the person must first choose another password;
/// [`Error::InvalidMarker`] if `next` is not from an earlier page, or its account is no longer among those of the
/// person; [`Error::ServiceUnavailable`] while this broker does not know all revocations.
pub async fn page(
    broker: &Broker,
    sign_in: &SignIn,
    account: Option<AccountId>,
    next: Option<&str>,
    limit: usize,
    wanted: impl Fn(&Choice) -> bool + Send,
    origin: &Origin,
) -> Result<Page, Error> {
    let start = next.map(Place::parse).transpose()?;
    let judge = Judge::new(broker, sign_in, origin)?;
    let accounts = judge.accounts(account);
    let skipped = accounts.iter().position(|(id, _)| match &start {
        Some(start) => *id == start.account,
        None => true,
    });
    let skipped = match (skipped, &start) {
        (Some(skipped), _) => skipped,
        (None, Some(_)) => return Err(Error::InvalidMarker),
        (None, None) => 0,
    };
    let mut page = Page::default();
    let mut judged = 0;
    let mut after = start.map(|start| start.role);
    for (account_id, account_name) in accounts.get(skipped..).unwrap_or_default() {
        let Some(caller) = judge.caller(*account_id) else {
            after = None;
            continue;
        };
        loop {
            if judged >= MAX_JUDGED {
                let last = after.unwrap_or_default();
                page.next = Some(Place::text(*account_id, &last));
                return Ok(page);
            }
            let found = judge.candidates(*account_id, after.as_deref(), AT_ONCE);
            for role in &found {
                if page.choices.len() >= limit.clamp(1, MAX_CHOICES) {
                    let last = after.unwrap_or_default();
                    page.next = Some(Place::text(*account_id, &last));
                    return Ok(page);
                }
                after = Some(role.name.to_string());
                let choice = Choice {
                    account_id: *account_id,
                    account_name: account_name.clone(),
                    role_name: role.name.to_string(),
                    role_arn: role.arn.to_string(),
                };
                if wanted(&choice) && judge.admits(&caller, role) {
                    page.choices.push(choice);
                }
            }
            judged += found.len().max(1);
            tokio::task::yield_now().await;
            if found.len() < AT_ONCE {
                break;
            }
        }
        after = None;
    }
    Ok(page)
}

/// The accounts in which a person may assume a role, with their names, ordered by name. After [`MAX_JUDGED`] roles, an
/// account counts as one of them without a decision on all its roles.
///
/// # Errors
/// [`Error::NotSignedIn`] if the sign-in is over, or the person must first choose another password;
/// [`Error::ServiceUnavailable`] while this broker does not know all revocations.
pub async fn accounts(
    broker: &Broker,
    sign_in: &SignIn,
    origin: &Origin,
) -> Result<Vec<(AccountId, String)>, Error> {
    let judge = Judge::new(broker, sign_in, origin)?;
    let mut admitted = Vec::new();
    let mut judged = 0;
    for (account, name) in judge.accounts(None) {
        let Some(caller) = judge.caller(account) else {
            continue;
        };
        let mut after: Option<String> = None;
        loop {
            let found = judge.candidates(account, after.as_deref(), AT_ONCE);
            // It may have one, and is not hidden because there were so many to judge.
            let may_have_one = judged >= MAX_JUDGED && !found.is_empty();
            let has_one = may_have_one || found.iter().any(|role| judge.admits(&caller, role));
            judged += found.len().max(1);
            tokio::task::yield_now().await;
            if has_one {
                admitted.push((account, name));
                break;
            }
            if found.len() < AT_ONCE {
                break;
            }
            after = found.last().map(|role| role.name.to_string());
        }
    }
    Ok(admitted)
}

/// Decides which roles a person may assume, all by the same snapshot of the directory and at the same time.
struct Judge<'a> {
    broker: &'a Broker,
    sign_in: Arc<SignIn>,
    directory: Arc<Directory>,
    origin: &'a Origin,
    now: Timestamp,
    name: RoleSessionName,
}

impl<'a> Judge<'a> {
    fn new(broker: &'a Broker, sign_in: &SignIn, origin: &'a Origin) -> Result<Self, Error> {
        broker.must_know_what_is_revoked()?;
        let (directory, now) = (broker.directory.load_full(), broker.clock.now());
        let is_over = sign_in.is_over(&directory, &broker.revocations, broker.store.id(), now);
        if is_over || sign_in.must_change_password {
            return Err(Error::NotSignedIn);
        }
        Ok(Self {
            broker,
            sign_in: Arc::new(sign_in.clone()),
            directory,
            origin,
            now,
            name: sign_in.role_session_name()?,
        })
    }

    /// The person as a caller of AssumeRole in this account; `None` if the sign-in does not authenticate anybody in the
    /// account, for example because the account does not have the identity provider.
    fn caller(&self, account: AccountId) -> Option<Caller> {
        let (broker, directory) = (self.broker, &*self.directory);
        authn::sign_in::authenticate(broker, &self.sign_in, account, directory, self.now).ok()
    }

    /// The accounts in which a trust policy may admit the person, with their names, ordered by name. `only` limits the
    /// list to one account.
    fn accounts(&self, only: Option<AccountId>) -> Vec<(AccountId, String)> {
        let accounts = match &self.sign_in.who {
            Who::Federated(kept) => kept.accounts(&self.directory),
            Who::User {
                account, id, arn, ..
            } => {
                let principals = of_user(account.as_str(), id, arn);
                self.directory.accounts_trusting(&principals)
            }
        };
        let wanted = |account: &AccountId| only.is_none_or(|only| only == *account);
        let named = |account: AccountId| (account, account_name(&self.directory, account));
        let mut accounts: Vec<_> = accounts.into_iter().filter(wanted).map(named).collect();
        accounts.sort_by(|(a, one), (b, other)| (one, a).cmp(&(other, b)));
        accounts
    }

    /// The roles whose trust policies name the person, the person's account or provider, or everybody. The conditions
    /// of the policies are not evaluated yet.
    fn candidates(&self, account: AccountId, after: Option<&str>, limit: usize) -> Vec<Arc<Role>> {
        let directory = &self.directory;
        match &self.sign_in.who {
            Who::User {
                account: own,
                id,
                arn,
                ..
            } => {
                let principals = of_user(own.as_str(), id, arn);
                directory.roles_trusting(&principals, account, after, limit)
            }
            Who::Federated(kept) => {
                let Ok(provider) = kept.vouching_in(account, directory) else {
                    return Vec::new();
                };
                let principals = [
                    AllowedPrincipal::Provider(&provider),
                    AllowedPrincipal::Everybody,
                ];
                directory.roles_trusting(&principals, account, after, limit)
            }
        }
    }

    fn admits(&self, caller: &Caller, role: &Arc<Role>) -> bool {
        let seen = Seen {
            directory: &self.directory,
            origin: self.origin,
            region: &self.broker.region,
            now: self.now,
        };
        match &caller.identity {
            Identity::Federated(identity) => {
                federated_session::would_admit(caller, identity, role, &self.name, seen)
            }
            _ => assume_role::would_admit(caller, role, &self.name, seen),
        }
    }
}

/// The entries of trust policies that can name a user.
fn of_user<'a>(account: &'a str, id: &'a str, arn: &'a str) -> [AllowedPrincipal<'a>; 4] {
    [
        AllowedPrincipal::Account(account),
        AllowedPrincipal::User(id),
        AllowedPrincipal::User(arn),
        AllowedPrincipal::Everybody,
    ]
}

/// The alias of an account, or else its number.
pub fn account_name(directory: &Directory, account: AccountId) -> String {
    let settings = directory.account_settings(account);
    let alias = settings.and_then(|settings| settings.alias.as_deref());
    alias.map_or_else(|| account.to_string(), str::to_owned)
}

/// The place where a page begins: after this role of this account.
struct Place {
    account: AccountId,
    role: String,
}

impl Place {
    fn text(account: AccountId, role: &str) -> String {
        format!("{account}/{role}")
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let (account, role) = text.split_once('/').ok_or(Error::InvalidMarker)?;
        let account = AccountId::parse(account).ok_or(Error::InvalidMarker)?;
        if role.len() > 64 {
            return Err(Error::InvalidMarker);
        }
        Ok(Self {
            account,
            role: role.to_owned(),
        })
    }
}
