//! RevokeSessions: ends sessions early, including the sessions that were made with them. The revocation is durable
//! before the call is answered. The call waits up to two seconds until every connected broker has the revocation in
//! force, and the answer names the brokers that have not.

mod hit;
mod selected;

use serde::Serialize;
use serde_json::value::RawValue;

pub use self::hit::Counted;
use self::hit::{Hit, spread};
pub use self::selected::Asked;
use self::selected::Selected;
use crate::base::arn::{AccountId, IamArn};
use crate::base::clock::Timestamp;
use crate::base::field::FieldError;
use crate::budgets::CountedAs;
use crate::commands::{Command, Detail, Edit, Revoked};
use crate::directory::Directory;
use crate::directory::resource::{Name, ResourceKind};
use crate::error::Error;
use crate::federation;
use crate::ops::context::Context;
use crate::ops::iam::change::change_at_any_price;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::revocations::{Mark, RevocationKey, Selector};
use crate::store::{Entry, Node};
use crate::trust;

/// A call of RevokeSessions whose parameters have been checked.
#[derive(Debug)]
pub struct RevokeSessions {
    selector: Selector,
    value: String,
    /// The account in the ARN that the request names, which must be the caller's; `None` if the
    /// request names no ARN.
    account: Option<String>,
    issued_before: Option<i64>,
    /// Whether to deactivate the long-term access key that the request names.
    deactivate: bool,
}

/// The effect of a revocation, and the brokers that have it in force.
pub struct RevokeSessionsOutput {
    /// The number of the revocation in the change feed.
    pub sequence_number: i64,
    /// The number of brokers that may accept sessions, including this one. `None` if the store did not
    /// say which brokers there are.
    pub nodes_connected: Option<usize>,
    /// The brokers that have not confirmed that the revocation is in force there.
    pub pending: Vec<Node>,
    /// What the directory and the session records say about the revoked sessions.
    pub target: Target,
    /// Whether the long-term access key is now inactive, so that no new sessions can be made with
    /// it.
    pub access_key_deactivated: bool,
}

/// What this broker knows about the principal, key or sessions that a request selects.
pub struct Target {
    /// Whether the directory contains the role, user, identity provider or long-term access key that
    /// the selector names; `None` if the selector names something else.
    pub exists: Option<bool>,
    /// The number of recorded sessions that this revocation ends. `None` if the records could not be read.
    pub sessions: Option<Counted>,
    /// Whether the request names a long-term access key that stays active, because a revocation of sessions alone does
    /// not deactivate it.
    pub access_key_goes_on: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    selector: &'static str,
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deactivate_access_key: bool,
}

impl RevokeSessions {
    /// Checks the selection of sessions and the other parameters.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(
        asked: Option<Asked>,
        issued_before: Option<i64>,
        deactivate: bool,
    ) -> Result<Self, Error> {
        let Selected {
            selector,
            value,
            account,
        } = match asked {
            Some(asked) => asked.selected()?,
            None if issued_before.is_some() => Selected::account(),
            None => {
                let rule = "must be given if no other field selects sessions, because the call then ends all \
                    sessions of the account that were issued before this time";
                return Err(FieldError::new("IssuedBefore", rule).into());
            }
        };
        if deactivate && (selector != Selector::AccessKey || value.starts_with(TEMPORARY_KEY)) {
            let rule = "must be left out unless AccessKeyId names a long-term access key";
            return Err(FieldError::new("DeactivateAccessKey", rule).into());
        }
        Ok(Self {
            selector,
            value,
            account,
            issued_before,
            deactivate,
        })
    }
}

impl Operation for RevokeSessions {
    const NAME: &'static str = "RevokeSessions";
    const COUNTED_AS: CountedAs = CountedAs::Revocation;
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const HANDS_OUT: bool = false;
    /// The call must not wait behind other calls, because those may be made with the very sessions
    /// that it ends.
    const IS_URGENT: bool = true;
    /// The call succeeds even if its audit record cannot be written: the durable change feed
    /// contains the revocation, and a broken audit log must not keep anybody from ending a session.
    const MUST_BE_RECORDED: bool = false;
    type Output = RevokeSessionsOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            selector: self.selector.as_str(),
            value: &self.value,
            issued_before: self
                .issued_before
                .map(|at| Timestamp::from_seconds(at).to_string()),
            deactivate_access_key: self.deactivate,
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<RevokeSessionsOutput, Error> {
        self.admit(cx)?;
        if self.deactivate {
            // Permission is checked before anything is ended.
            self.deactivation(cx)?;
        }
        let mut writer = cx.wait(cx.broker.store.write_revocation()).await?;
        let account = match self.admit(cx) {
            Ok(account) => account,
            Err(error) => {
                writer.abandon().await;
                return Err(error);
            }
        };
        let known = self.known(&cx.directory, account.as_str());
        let actor = cx.actor();
        let hit = self.hit(cx, account.as_str(), writer.sequence());
        let mark = hit.mark;
        let revoked = Revoked::new(self.selector, account.as_str(), &self.value, mark);
        let detail = Detail {
            revoked: vec![revoked],
            ..Detail::default()
        };
        writer
            .record(&Entry {
                changed_at: cx.now,
                actor: actor.text(),
                action: Self::NAME,
                kind: "revocation",
                id: format!("{} {}", self.selector.as_str(), self.value),
                detail: serde_json::to_string(&detail).map_err(|_| Error::InternalFailure)?,
            })
            .await?;
        writer
            .revoke(self.selector.as_str(), account.as_str(), &self.value, mark)
            .await?;
        let sequence_number = writer.commit().await?;
        cx.changed(sequence_number);
        // It is in force here at once, and on other brokers through the feed.
        cx.broker.revocations.mark(&hit.key, mark);
        cx.broker.feed.nudge();
        let (spread, sessions) = tokio::join!(
            spread(cx.broker, sequence_number),
            hit.count(cx.broker, account.as_str(), cx.now)
        );
        // If the store did not answer, the metric keeps the result of the revocation before.
        if let Some((_, pending)) = &spread {
            cx.broker
                .metrics
                .revocations_pending_nodes
                .set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
        }
        let (nodes_connected, pending) = spread.map_or_else(
            || (None, Vec::new()),
            |(connected, pending)| (Some(connected), pending),
        );
        let mut target = Target { sessions, ..known };
        // The sessions of the key have ended already, whether or not this succeeds.
        let access_key_deactivated = self.deactivate && self.deactivate_key(cx).await;
        target.access_key_goes_on &= !access_key_deactivated;
        Ok(RevokeSessionsOutput {
            sequence_number,
            nodes_connected,
            pending,
            target,
            access_key_deactivated,
        })
    }
}

impl RevokeSessions {
    /// Checks that the caller may revoke the selected sessions. Returns the caller's account.
    pub(super) fn admit(&self, cx: &mut Context<'_>) -> Result<AccountId, Error> {
        let resource = match self.selector {
            Selector::Principal | Selector::Role => self.value.clone(),
            Selector::ProviderSubject => {
                self.value.split(' ').next().unwrap_or_default().to_owned()
            }
            _ => "*".to_owned(),
        };
        let permitted = trust::permit(
            cx.caller(),
            &cx.directory,
            &cx.facts(),
            "brevet:RevokeSessions",
            &resource,
        );
        permitted.map_err(|denied| cx.refuse(&denied, &resource))?;
        let account = cx.caller().account();
        if self
            .account
            .as_deref()
            .is_some_and(|a| a != account.as_str())
        {
            let field = match self.selector {
                Selector::Role => "RoleArn",
                _ if is_provider(&self.value) => "ProviderArn",
                _ => "PrincipalArn",
            };
            return Err(FieldError::new(field, "must be in the caller's account").into());
        }
        if self.issued_before.is_some_and(|at| at > cx.now.seconds()) {
            return Err(FieldError::new("IssuedBefore", "must not be in the future").into());
        }
        Ok(account)
    }

    /// Returns the mark for this revocation, together with the mark that it replaces. Without
    /// `IssuedBefore`, the mark ends every matching session that was issued under `last_change` or
    /// an earlier change of the feed.
    pub(super) fn hit(&self, cx: &Context<'_>, account: &str, last_change: i64) -> Hit {
        let key = RevocationKey::new(self.selector, account, &self.value);
        let mark = Mark {
            // Everything issued before this change was in force, whatever the clocks said.
            before_sequence: if self.issued_before.is_some() {
                0
            } else {
                last_change + 1
            },
            before_seconds: self.issued_before.unwrap_or_default(),
            expires_at: Mark::outlives(cx.now),
        };
        Hit {
            key,
            mark,
            before: cx.broker.revocations.find(&key).unwrap_or_default(),
        }
    }

    /// Deactivates the access key, even the last administrator's, and returns whether that succeeded.
    /// A failure does not undo the revocation.
    async fn deactivate_key(&self, cx: &mut Context<'_>) -> bool {
        let decide = |cx: &mut Context<'_>| Ok(vec![self.deactivation(cx)?]);
        match change_at_any_price(cx, "UpdateAccessKey", decide).await {
            Ok(()) => true,
            Err(error) => {
                error.log();
                false
            }
        }
    }

    /// Returns the change that deactivates the access key, after checking that the caller may make
    /// it.
    fn deactivation(&self, cx: &mut Context<'_>) -> Result<Command, Error> {
        if !cx.broker.directory_is_in_the_store {
            let why = "it is managed in a file ([directory] file). Set the key's `Status` to `Inactive` there, and repeat the call without DeactivateAccessKey";
            return Err(Error::ReadOnlyDirectory(why));
        }
        let account = cx.caller().account();
        let own = |arn: &str| IamArn::parse(arn).is_some_and(|arn| arn.account == account);
        let key = cx
            .directory
            .access_key(&self.value)
            .filter(|key| own(&key.user_arn));
        let user = key.map(|key| key.user_arn.to_string());
        let user = user.ok_or_else(|| {
            Error::NotFound("The account has no access key with this id.".to_owned())
        })?;
        let permitted = trust::permit(
            cx.caller(),
            &cx.directory,
            &cx.facts(),
            "iam:UpdateAccessKey",
            &user,
        );
        permitted.map_err(|denied| cx.refuse(&denied, &user))?;
        let name = Name::new(ResourceKind::AccessKey, self.value.as_str());
        Ok(Command::edit(name, Edit::SetActive(false)))
    }

    /// Looks up the entity that the selector names, in the caller's account only. Does not count
    /// sessions.
    pub(super) fn known(&self, directory: &Directory, account: &str) -> Target {
        let mut access_key_goes_on = false;
        let exists = match self.selector {
            Selector::Role => Some(directory.role(&self.value).is_some()),
            Selector::Principal | Selector::ProviderSubject
                if let Some(exists) =
                    federation::has_provider(directory, provider_of(&self.value)) =>
            {
                Some(exists)
            }
            Selector::Principal if self.value.starts_with("arn:aws:iam:") => {
                Some(directory.user(&self.value).is_some())
            }
            Selector::AccessKey if !self.value.starts_with(TEMPORARY_KEY) => {
                let own = |arn: &str| {
                    IamArn::parse(arn).is_some_and(|arn| arn.account.as_str() == account)
                };
                let key = directory
                    .access_key(&self.value)
                    .filter(|key| own(&key.user_arn));
                access_key_goes_on = key.is_some_and(|key| key.active);
                Some(key.is_some())
            }
            _ => None,
        };
        Target {
            exists,
            sessions: None,
            access_key_goes_on,
        }
    }
}

/// The prefix of temporary access key ids. The directory contains only long-term keys.
const TEMPORARY_KEY: &str = "ASIA";

/// Returns whether the value of a mark names an identity provider, with or without a subject.
fn is_provider(value: &str) -> bool {
    federation::account_of(provider_of(value)).is_some()
}

/// Returns the provider's ARN from the value of a mark, which is the ARN alone or the ARN, a space
/// and a subject.
fn provider_of(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}
