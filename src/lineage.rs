//! The lineage of a session: how each principal of its chain is named, and which revocations end
//! the session.

use std::borrow::Cow;

use crate::base::arn::{AccountId, IamArn};
use crate::base::digest::hex;
use crate::error::Error;
use crate::revocations::{RevocationKey, Selector, provider_subject};
use crate::session::token::{self, Ancestor, Claims};

/// The principals behind a session, as the tokens of sessions that are made from it record them. If a provider's token
/// or assertion began the session, the provider's entry gets the subject, which the claims keep in another field.
pub fn ancestors(claims: &Claims) -> Cow<'_, [Ancestor]> {
    match (claims.ancestors.as_slice(), &claims.holder) {
        ([provider], Some(holder)) if provider.subject.is_empty() => Cow::Owned(vec![Ancestor {
            subject: holder.subject().to_owned(),
            ..provider.clone()
        }]),
        (ancestors, _) => Cow::Borrowed(ancestors),
    }
}

/// The session itself as an ancestor of sessions made from it. `restricted` says whether session
/// policies limit it.
pub fn own(claims: &Claims, restricted: bool) -> Ancestor {
    Ancestor {
        arn: claims.principal_arn.clone(),
        unique_id: claims.principal_id.clone(),
        access_key_id: claims.access_key_id.clone(),
        session_name: claims.session_name.clone(),
        session_id: claims.session_id.clone(),
        restricted,
        subject: String::new(),
        narrowed: claims.narrowed.is_some(),
    }
}

/// The value of `aws:userid` and of `UserId` in GetCallerIdentity for a session.
pub fn user_id(
    account: AccountId,
    kind: token::SessionKind,
    principal_id: &str,
    session_name: &str,
) -> String {
    match kind {
        token::SessionKind::Role => [principal_id, ":", session_name].concat(),
        token::SessionKind::User => principal_id.to_owned(),
        token::SessionKind::FederatedUser => format!("{account}:{session_name}"),
    }
}

/// The revocation keys of the session and of each of its ancestors: a revocation of any of them
/// ends the session.
///
/// # Errors
/// `InvalidClientTokenId` if one of the ARNs is not the ARN of a principal.
pub fn came_from(
    own: &Ancestor,
    source_identity: &str,
    ancestors: &[Ancestor],
) -> Result<Box<[RevocationKey]>, Error> {
    let account = IamArn::parse(&own.arn)
        .ok_or(Error::InvalidClientTokenId)?
        .account;
    let mut keys = vec![
        RevocationKey::new(Selector::Everything, "", ""),
        RevocationKey::new(Selector::Account, account.as_str(), ""),
    ];
    if !source_identity.is_empty() {
        keys.push(RevocationKey::new(
            Selector::SourceIdentity,
            account.as_str(),
            source_identity,
        ));
    }
    for ancestor in ancestors.iter().chain([own]) {
        let arn = IamArn::parse(&ancestor.arn).ok_or(Error::InvalidClientTokenId)?;
        let account = arn.account;
        keys.push(RevocationKey::new(
            Selector::AccessKey,
            account.as_str(),
            &ancestor.access_key_id,
        ));
        keys.push(RevocationKey::new(
            Selector::Principal,
            account.as_str(),
            &ancestor.principal_arn(),
        ));
        if arn.kind == "role" {
            keys.push(RevocationKey::new(
                Selector::Role,
                account.as_str(),
                &ancestor.arn,
            ));
        }
        if !ancestor.subject.is_empty() {
            let subject = provider_subject(&ancestor.arn, &ancestor.subject);
            keys.push(RevocationKey::new(
                Selector::ProviderSubject,
                account.as_str(),
                &subject,
            ));
        }
        if !ancestor.session_id.is_empty() {
            keys.push(RevocationKey::new(
                Selector::Session,
                account.as_str(),
                &hex(&ancestor.session_id),
            ));
        }
    }
    Ok(keys.into())
}

/// The ARN of a role session, `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
pub fn session_arn(account: AccountId, role_name: &str, role_session_name: &str) -> String {
    let account = account.as_str();
    let parts = [
        "arn:aws:sts::",
        account,
        ":assumed-role/",
        role_name,
        "/",
        role_session_name,
    ];
    parts.concat()
}

/// The ARN of a federated user, `arn:aws:sts::ACCOUNT:federated-user/NAME`.
pub fn federated_user_arn(account: AccountId, name: &str) -> String {
    format!("arn:aws:sts::{account}:federated-user/{name}")
}

/// Returns the ARN of a user or, if there is a session name, the ARN of the session of the role or federated user.
pub fn principal_arn(arn: &str, session_name: &str) -> String {
    match IamArn::parse(arn) {
        Some(parsed) if session_name.is_empty() || parsed.name.is_empty() => arn.to_owned(),
        Some(role) if role.kind == "role" => session_arn(role.account, role.name, session_name),
        Some(user) => federated_user_arn(user.account, session_name),
        None => arn.to_owned(),
    }
}

impl Ancestor {
    /// The ARN of this user or session, as CloudTrail and policies name it.
    pub fn principal_arn(&self) -> String {
        principal_arn(&self.arn, &self.session_name)
    }
}
