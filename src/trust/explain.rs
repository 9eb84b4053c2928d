//! Explains an earlier decision: evaluates the request again and reports what every statement does.

use std::borrow::Cow;
use std::sync::Arc;

use super::facts::Facts;
use super::question::{InForce, Question};
use crate::base::arn::{AccountId, account_of};
use crate::directory::{Dangling, Directory, Effective};
use crate::evaluator::{self, Explanation, Policy, Principal, RequestContext, Source};
use crate::federation;
use crate::s3;
use crate::session::policies::Compiled;
use crate::session::token::SessionKind;

/// A request that was decided before, and whose decision is to be explained.
pub struct Asked<'a> {
    /// How the principal's session was issued; `None` for a long-term key, and for a caller for whom an identity
    /// provider vouched.
    pub session: Option<SessionKind>,
    /// The ARN of the role for a role session, otherwise of the user or identity provider.
    pub principal_arn: &'a str,
    pub arn: &'a str,
    /// The policies that limit the session.
    pub policies: &'a Compiled,
    /// The condition keys of the request with their values.
    pub keys: &'a [(String, Vec<String>)],
    pub action: &'a str,
    /// The ARN of the resource, such as that of the requested role.
    pub resource: &'a str,
    /// The account that owns the bucket, if the resource is a bucket or in one.
    pub bucket_owner: Option<AccountId>,
    /// Whether the explanation may use the resource's own policy and tags. It may not if the reader belongs to another
    /// account, because such a reader must not even learn whether the resource exists.
    pub look_at_resource: bool,
}

impl Asked<'_> {
    /// The policy of the requested bucket, if its owner made one and the reader may look at it.
    fn bucket_policy<'d>(&self, directory: &'d Directory) -> Option<&'d Policy> {
        let owner = self.bucket_owner.filter(|_| self.look_at_resource)?;
        let resource = self.resource.strip_prefix("arn:aws:s3:::")?;
        let bucket = resource.split('/').next()?;
        let made = directory.bucket_policy(bucket)?;
        (made.account == owner).then_some(&made.policy)
    }
}

/// The effect of every statement on a request under the current policies.
pub struct Explained {
    /// The decision and the reports of all statements.
    pub explanation: Explanation,
    /// The service and resource control policies that have statements in the reports.
    pub controls: Vec<Control>,
    /// The root, unit or account at which no service control policy allows the request; `None` if
    /// there is none.
    pub silent: Option<String>,
}

/// A service or resource control policy, as an explanation names it.
pub struct Control {
    /// The place of the policy among the policies in force, by which reports refer to it.
    pub source: Source,
    /// The id of the policy, `p-…`.
    pub id: String,
    /// The name of the policy; empty if it has none.
    pub name: String,
    /// The root, unit or account to which it is attached.
    pub target: String,
}

/// Reports what every statement does with a request under the current policies. `None` if the
/// principal no longer exists.
///
/// # Errors
/// [`Dangling`] if a policy or group to which the principal refers is missing.
pub fn explain(asked: &Asked<'_>, directory: &Directory) -> Result<Option<Explained>, Dangling> {
    let Some(subject) = subject(asked, directory)? else {
        return Ok(None);
    };
    let (account, effective) = (subject.account, &subject.effective);
    let mut facts = Facts {
        keys: RequestContext::new(),
        session_tags: &[],
    };
    for (name, values) in asked.keys {
        match (
            evaluator::keys::find(name).is_some_and(|k| k.multivalued),
            values.as_slice(),
        ) {
            (false, [value]) => facts.keys.set(name.as_str(), value.as_str()),
            _ => facts.keys.set_many(
                name.as_str(),
                values.iter().map(|v| Cow::from(v.as_str())).collect(),
            ),
        }
    }
    let role = directory
        .role(asked.resource)
        .filter(|_| asked.look_at_resource);
    if let Some(role) = role {
        facts.resource_tags(&role.tags, true);
    }
    let bucket = asked.bucket_policy(directory);
    if asked.bucket_owner.is_some() {
        facts.unknown(s3::actions::unknown_of(asked.action));
    }
    let question = Question {
        principal: subject.principal(asked),
        account,
        identity: effective.identity.iter().map(Arc::as_ref).collect(),
        boundary: effective.boundary.as_deref(),
        session: InForce::new(asked.policies, directory),
        context: &facts.keys,
        action: asked.action,
        resource: asked.resource,
        resource_account: role
            .map(|r| r.account)
            .or(asked.bucket_owner)
            .unwrap_or(account),
        trust: role.map(|r| &r.trust).or(bucket),
        principal_member: directory.member(account).filter(|_| !subject.is_provider),
        resource_member: owner(asked.resource)
            .or(asked.bucket_owner.map(Some))
            .unwrap_or(Some(account))
            .filter(|_| asked.look_at_resource)
            .and_then(|owner| directory.member(owner)),
    };
    let explanation = question.ask(evaluator::explain);
    let mut controls = Vec::<Control>::new();
    for report in &explanation.statements {
        let source = report.at.source;
        let Some((control, target)) = question.attached(source) else {
            continue;
        };
        if controls.last().is_none_or(|last| last.source != source) {
            controls.push(Control {
                source,
                id: control.id.to_string(),
                name: control.name.to_string(),
                target: target.to_owned(),
            });
        }
    }
    Ok(Some(Explained {
        silent: question.silent_level().map(str::to_owned),
        explanation,
        controls,
    }))
}

/// The account in a resource's ARN: `None` if the account field is empty, and `Some(None)` if it is not an account id.
fn owner(resource: &str) -> Option<Option<AccountId>> {
    let account = Some(account_of(resource)).filter(|account| !account.is_empty())?;
    Some(AccountId::parse(account))
}

/// The current directory entry of a request's principal.
struct Subject<'a> {
    account: AccountId,
    name: &'a str,
    id: &'a str,
    is_provider: bool,
    effective: Effective,
}

impl<'a> Subject<'a> {
    /// The principal in the form in which policies are evaluated for it.
    fn principal(&'a self, asked: &Asked<'a>) -> Principal<'a> {
        let (account, name, id) = (self.account.as_str(), self.name, self.id);
        match asked.session {
            None if self.is_provider => Principal::Federated(asked.principal_arn),
            Some(SessionKind::Role) => Principal::RoleSession {
                account,
                role: name,
                role_arn: Some(asked.principal_arn),
                arn: asked.arn,
                id: Some(id),
            },
            Some(SessionKind::FederatedUser) => Principal::FederatedUser {
                account,
                arn: asked.arn,
            },
            Some(SessionKind::User) | None => Principal::User {
                account,
                arn: asked.arn,
                id: Some(id),
            },
        }
    }
}

/// The current entry of the principal; `None` if it no longer exists.
fn subject<'a>(
    asked: &Asked<'a>,
    directory: &'a Directory,
) -> Result<Option<Subject<'a>>, Dangling> {
    let declared = federation::has_provider(directory, asked.principal_arn);
    let provider = federation::account_of(asked.principal_arn);
    let (account, name, id, effective) = match asked.session {
        None if let Some(provider) = provider => {
            if declared != Some(true) {
                return Ok(None);
            }
            (provider, "", "", Effective::default())
        }
        Some(SessionKind::Role) => {
            let Some(role) = directory.role(asked.principal_arn) else {
                return Ok(None);
            };
            (
                role.account,
                &*role.name,
                &*role.id,
                directory.effective_of_role(role)?,
            )
        }
        _ => {
            let Some(user) = directory.user(asked.principal_arn) else {
                return Ok(None);
            };
            (
                user.account,
                &*user.name,
                &*user.id,
                directory.effective_of_user(user)?,
            )
        }
    };
    Ok(Some(Subject {
        account,
        name,
        id,
        is_provider: declared.is_some(),
        effective,
    }))
}
