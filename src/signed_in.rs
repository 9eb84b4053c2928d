//! [`SignIn`]: a person who signed in. Every session that comes from a sign-in has the id of the sign-in among its
//! ancestors, so that a revocation of the id ends the sign-in and all these sessions.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::digest::hex;
use crate::base::names::RoleSessionName;
use crate::directory::Directory;
use crate::error::Error;
use crate::federation::kept::Kept;
use crate::lineage;
use crate::revocations::{RevocationKey, Revocations};
use crate::session::token::Ancestor;

/// The id of a sign-in: 16 random bytes.
pub type SignInId = [u8; 16];

/// A sign-in: the person, the factors that were proven, and where and until when the sign-in is valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignIn {
    pub id: SignInId,
    pub who: Who,
    pub at: Timestamp,
    /// The latest end of the sign-in; it can be ended earlier.
    pub ends_at: Timestamp,
    /// The factors in the order in which they were given.
    pub factors: Vec<Factor>,
    /// The address from which the person signed in.
    pub source: IpAddr,
    pub user_agent: String,
    /// The session at the identity provider: the claim `sid`, or the SessionIndex. `None` for a user of the directory,
    /// or if the provider names none.
    pub provider_session: Option<String>,
    /// Whether the person must choose another password before they can do anything else.
    pub must_change_password: bool,
    /// The last change of the feed that was in force when the person signed in.
    pub issued_under: i64,
    /// The id of the store to which the change in [`Self::issued_under`] belongs. A broker with another store treats
    /// the sign-in as over.
    pub store_id: String,
    /// The mark of the user's password ([`password_mark`]). A sign-in ends when the password changes.
    pub password: Option<String>,
}

/// The person who signed in: a user of the directory, or a person for whom an identity provider vouches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Who {
    /// A user of the directory, who signed in with a password.
    User {
        account: AccountId,
        /// The unique id of the user, `AIDA…`.
        id: String,
        name: String,
        arn: String,
    },
    /// A person for whom an identity provider vouched.
    Federated(#[serde(with = "shared")] Arc<Kept>),
}

/// A factor by which a person proved who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    pub method: Method,
    pub at: Timestamp,
    /// The serial number of the MFA device; `None` for other factors.
    pub device: Option<String>,
}

/// The kind of a factor, with its name of RFC 8176.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The password of a user of the directory.
    Pwd,
    /// A one-time password of an MFA device.
    Otp,
    /// Proof of possession of a key in hardware.
    Hwk,
    /// The identity provider says that it asked for several factors.
    Mfa,
    /// An identity provider vouches for the person. RFC 8176 has no name for this.
    Fed,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pwd => "pwd",
            Self::Otp => "otp",
            Self::Hwk => "hwk",
            Self::Mfa => "mfa",
            Self::Fed => "fed",
        }
    }

    /// Whether the factor counts as multi-factor authentication.
    fn is_second(self) -> bool {
        matches!(self, Self::Otp | Self::Hwk | Self::Mfa)
    }
}

impl SignIn {
    /// The id in hexadecimal, as pages and rows of the store contain it.
    pub fn id_text(&self) -> String {
        hex(&self.id)
    }

    /// The account of the user or of the identity provider.
    pub fn account(&self) -> AccountId {
        match &self.who {
            Who::User { account, .. } => *account,
            Who::Federated(kept) => kept.account,
        }
    }

    /// The ARN of the user or of the identity provider.
    pub fn arn(&self) -> &str {
        match &self.who {
            Who::User { arn, .. } => arn,
            Who::Federated(kept) => &kept.provider_arn,
        }
    }

    /// The name of the person for pages and audit records.
    pub fn name(&self) -> String {
        match &self.who {
            Who::User { name, .. } => name.clone(),
            Who::Federated(kept) => kept.shown_name(),
        }
    }

    /// The unique id of the user, or for a federated person the id by which budgets count the person's calls.
    pub fn principal_id(&self) -> &str {
        match &self.who {
            Who::User { id, .. } => id,
            Who::Federated(kept) => &kept.principal_id,
        }
    }

    /// The role session name of the person: the user name, or the name for which an identity provider vouches.
    /// Characters that are not allowed in a role session name are replaced by `-`.
    ///
    /// # Errors
    /// [`Error`] is never returned, because the text is converted to a valid name.
    pub fn role_session_name(&self) -> Result<RoleSessionName, Error> {
        let name = match &self.who {
            Who::User { name, .. } => name,
            Who::Federated(kept) => kept.name(),
        };
        Ok(RoleSessionName::fitted(name))
    }

    /// When the person last gave a second factor; `None` if they gave none.
    pub fn mfa_at(&self) -> Option<Timestamp> {
        let second = self.factors.iter().filter(|f| f.method.is_second());
        second.map(|factor| factor.at).max()
    }

    /// Whether the newest factor of the sign-in is older than `limit`, so that the person must give a new one before an
    /// important step.
    pub fn is_older_than(&self, limit: Duration, now: Timestamp) -> bool {
        let last = self.factors.iter().map(|factor| factor.at).max();
        now.since(last.unwrap_or(self.at)) > limit
    }

    /// The entry for the sign-in in the ancestors of the sessions that come from it. `arn` is the ARN of the user, or
    /// of the provider that vouches in the account of the role.
    pub fn ancestor(&self, arn: &str) -> Ancestor {
        let (unique_id, access_key_id) = match &self.who {
            // A change of the password ends everything that began with it.
            Who::User { id, .. } => (id.clone(), password_key(arn)),
            Who::Federated(_) => (String::new(), String::new()),
        };
        Ancestor {
            arn: arn.to_owned(),
            unique_id,
            access_key_id,
            session_id: self.id.to_vec(),
            ..Ancestor::default()
        }
    }

    /// The revocation keys of the sign-in. A revocation of any of them ends it.
    ///
    /// # Errors
    /// `InvalidClientTokenId` if the ARN is not that of a principal.
    pub fn came_from(&self) -> Result<Box<[RevocationKey]>, Error> {
        self.came_from_as(self.ancestor(self.arn()))
    }

    /// The revocation keys of the sign-in, except the key of the password, for a person who has just changed the
    /// password.
    ///
    /// # Errors
    /// The same as for [`Self::came_from`].
    pub fn came_from_otherwise(&self) -> Result<Box<[RevocationKey]>, Error> {
        self.came_from_as(Ancestor {
            access_key_id: String::new(),
            ..self.ancestor(self.arn())
        })
    }

    fn came_from_as(&self, mut own: Ancestor) -> Result<Box<[RevocationKey]>, Error> {
        if let Who::Federated(kept) = &self.who {
            own.subject.clone_from(&kept.subject);
        }
        lineage::came_from(&own, "", &[])
    }

    /// Whether the sign-in is over: its time has passed, it was revoked, its user, its password or its
    /// provider was removed or replaced, or it belongs to another store.
    pub fn is_over(
        &self,
        directory: &Directory,
        revocations: &Revocations,
        store_id: &str,
        now: Timestamp,
    ) -> bool {
        let Ok(keys) = self.came_from() else {
            return true;
        };
        now >= self.ends_at
            || self.store_id != store_id
            || revocations.is_revoked(&keys, self.issued_under, self.at.seconds())
            || !self.is_there(directory)
    }

    /// Whether the directory still has the user with the same password, or the provider.
    pub fn is_there(&self, directory: &Directory) -> bool {
        match &self.who {
            Who::User { arn, id, .. } => {
                directory.user(arn).is_some_and(|user| *user.id == **id)
                    && (self.password.is_none() || self.password == password_mark(directory, arn))
            }
            Who::Federated(kept) => kept.is_vouched_for(directory),
        }
    }
}

/// Serializes the value in an `Arc` like the value itself, for `#[serde(with)]`.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::federation::kept::Kept;

    pub(super) fn serialize<S: Serializer>(kept: &Arc<Kept>, to: S) -> Result<S::Ok, S::Error> {
        kept.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Kept>, D::Error> {
        Kept::deserialize(from).map(Arc::new)
    }
}

/// The text in place of an access key id in the ancestors of a session that began with a user's password. A revocation
/// of this text ends all such sessions. It does not have the form of an access key id, so the two cannot be confused.
pub fn password_key(user_arn: &str) -> String {
    format!("password of {user_arn}")
}

/// A text that changes with every new password of the user; `None` if the user has no password. It stays the same when
/// only the hash of the password is computed anew.
pub fn password_mark(directory: &Directory, user_arn: &str) -> Option<String> {
    Some(hex(&directory.login_profile(user_arn)?.mark))
}
