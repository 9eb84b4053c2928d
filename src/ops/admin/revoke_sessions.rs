//! RevokeSessions: sessions end before their time, and so does what came from them. Durable before
//! it is answered, and in force on every connected broker within two seconds.

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
use crate::directory::resource::{Kind, Name};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::change::change;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::revocations::{Key, Mark, Selector};
use crate::store::{Entry, Node};
use crate::trust;

/// The checked request.
#[derive(Debug)]
pub struct RevokeSessions {
    selector: Selector,
    value: String,
    /// The account in an ARN; it must be the caller's.
    account: Option<String>,
    issued_before: Option<i64>,
    /// Of a long-term key: whether it is to prove nothing any more.
    deactivate: bool,
}

/// The answer.
pub struct RevokeSessionsOutput {
    /// The change's number.
    pub sequence_number: i64,
    /// The brokers that may accept sessions, this one among them.
    pub nodes_connected: usize,
    /// Those of them that are not known to have it in force.
    pub pending: Vec<Node>,
    /// What was hit.
    pub target: Target,
    /// Whether the access key itself was made inactive.
    pub access_key_deactivated: bool,
}

/// What a revocation hits, as far as this broker knows.
pub struct Target {
    /// Whether the directory has the role, the user or the long-term access key that was named.
    /// None where none of these was.
    pub exists: Option<bool>,
    /// The sessions on record that had not ended, and end by this. None: the records could not be
    /// read in time.
    pub sessions: Option<Counted>,
    /// Whether a long-term access key was named that is active.
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
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the field and the rule.
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
                let rule = "must not be null where no selector is given: it would end every session of the account";
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
    /// The calls of others may be what it is to end.
    const IS_URGENT: bool = true;
    /// It is in the feed, which is durable; an audit log that cannot be written must not keep
    /// anybody from ending a session.
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
            // Whether it may is said before anything ends.
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
        // Here at once; elsewhere by the feed.
        cx.broker.revocations.mark(&hit.key, mark);
        cx.broker.feed.nudge();
        let ((nodes_connected, pending), sessions) = tokio::join!(
            spread(cx.broker, sequence_number),
            hit.count(cx.broker, account.as_str(), cx.now)
        );
        cx.broker
            .metrics
            .revocations_pending_nodes
            .set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
        let mut target = Target { sessions, ..known };
        // What came from the key has ended already, whatever becomes of this.
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
    /// Whether the caller may, and the account that is its own.
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
                _ if self.value.contains(PROVIDER) => "ProviderArn",
                _ => "PrincipalArn",
            };
            return Err(FieldError::new(field, "must be of the caller's account").into());
        }
        if self.issued_before.is_some_and(|at| at > cx.now.seconds()) {
            return Err(FieldError::new("IssuedBefore", "must not be in the future").into());
        }
        Ok(account)
    }

    /// The mark that goes behind the last change of the feed.
    pub(super) fn hit(&self, cx: &Context<'_>, account: &str, last_change: i64) -> Hit {
        let key = Key::new(self.selector, account, &self.value);
        let mark = Mark {
            // Whatever was issued before this change was in force, by whichever clock.
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

    /// Makes the access key inactive; whether it is. A failure does not undo the revocation.
    async fn deactivate_key(&self, cx: &mut Context<'_>) -> bool {
        let decide = |cx: &mut Context<'_>| Ok(vec![self.deactivation(cx)?]);
        match change(cx, "UpdateAccessKey", decide).await {
            Ok(()) => true,
            Err(error) => {
                error.log();
                false
            }
        }
    }

    /// The change that makes the access key inactive, if the caller may.
    fn deactivation(&self, cx: &mut Context<'_>) -> Result<Command, Error> {
        if !cx.broker.directory_is_in_the_store {
            let why = "the directory is a file; set the key's `Status` to `Inactive` there, and revoke without deactivating";
            return Err(Error::UnmodifiableEntity(why));
        }
        let account = cx.caller().account();
        let own = |arn: &str| IamArn::parse(arn).is_some_and(|arn| arn.account == account);
        let key = cx
            .directory
            .access_key(&self.value)
            .filter(|key| own(&key.user_arn));
        let user = key.map(|key| key.user_arn.to_string());
        let user =
            user.ok_or_else(|| Error::NotFound("There is no such access key.".to_owned()))?;
        let permitted = trust::permit(
            cx.caller(),
            &cx.directory,
            &cx.facts(),
            "iam:UpdateAccessKey",
            &user,
        );
        permitted.map_err(|denied| cx.refuse(&denied, &user))?;
        let name = Name::new(Kind::AccessKey, self.value.as_str());
        Ok(Command::Edit {
            name,
            edit: Edit::SetActive(false),
            expected: None,
        })
    }

    /// What the directory knows of whatever the selector names; of the caller's account alone.
    pub(super) fn known(&self, directory: &Directory, account: &str) -> Target {
        let mut access_key_goes_on = false;
        let exists = match self.selector {
            Selector::Role => Some(directory.role(&self.value).is_some()),
            Selector::Principal | Selector::ProviderSubject if self.value.contains(PROVIDER) => {
                let arn = self.value.split(' ').next().unwrap_or_default();
                Some(directory.oidc_provider(arn).is_some())
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

/// How ids of temporary access keys begin.
const TEMPORARY_KEY: &str = "ASIA";
/// What ARNs of OpenID Connect providers have in them, and no others.
const PROVIDER: &str = ":oidc-provider/";
