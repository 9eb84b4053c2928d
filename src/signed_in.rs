//! [`SignIn`]: a person who signed in. Everything that comes from a sign-in has its id in its lineage,
//! so that a revocation of the id ends the sign-in and all that came from it.

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

/// A person who signed in, with the facts that were proven then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignIn {
    pub id: SignInId,
    pub who: Who,
    pub at: Timestamp,
    /// When the sign-in is over, whatever happens until then.
    pub ends_at: Timestamp,
    /// The factors in the order in which they were given.
    pub factors: Vec<Factor>,
    /// The address from which the person signed in.
    pub source: IpAddr,
    pub user_agent: String,
    /// The session at the identity provider: the claim `sid`, or the SessionIndex.
    pub provider_session: Option<String>,
    /// Whether the person must choose another password before anything else.
    pub must_change_password: bool,
    /// The last change of the feed that was in force when the person signed in.
    pub issued_under: i64,
    /// The store to which that change belongs.
    pub store_id: String,
    /// The mark of the user's password ([`password_mark`]). A sign-in ends when the password changes.
    pub password: Option<String>,
}

/// The person who signed in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Who {
    /// A user of the directory.
    User {
        account: AccountId,
        /// The unique id, `AIDA…`.
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
    /// The serial number of the device, if one was used.
    pub device: Option<String>,
}

/// The kind of a factor, with its name of RFC 8176.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A password.
    Pwd,
    /// A one-time password of a device.
    Otp,
    /// A key in hardware.
    Hwk,
    /// The identity provider says that it asked for several factors.
    Mfa,
    /// The word of an identity provider, which has no name in RFC 8176.
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
    /// The id in hexadecimal, as people and the store see it.
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

    /// The name of the person for people.
    pub fn name(&self) -> String {
        match &self.who {
            Who::User { name, .. } => name.clone(),
            Who::Federated(kept) => kept.shown_name(),
        }
    }

    /// The unique id of the user, or the id under which calls of the federated person are counted.
    pub fn principal_id(&self) -> &str {
        match &self.who {
            Who::User { id, .. } => id,
            Who::Federated(kept) => &kept.principal_id,
        }
    }

    /// The name of the role sessions of the person: the user name, or that for which an identity
    /// provider vouches, with `-` in place of characters that such a name cannot have.
    ///
    /// # Errors
    /// [`Error`], which does not happen, because the text is made to be a valid name.
    pub fn role_session_name(&self) -> Result<RoleSessionName, Error> {
        let name = match &self.who {
            Who::User { name, .. } => name,
            Who::Federated(kept) => kept.name(),
        };
        Ok(RoleSessionName::fitted(name))
    }

    /// When the person last gave a second factor.
    pub fn mfa_at(&self) -> Option<Timestamp> {
        let second = self.factors.iter().filter(|f| f.method.is_second());
        second.map(|factor| factor.at).max()
    }

    /// Whether the last factor of this person is older than `limit`, so that an important step needs a
    /// new one.
    pub fn is_older_than(&self, limit: Duration, now: Timestamp) -> bool {
        let last = self.factors.iter().map(|factor| factor.at).max();
        now.since(last.unwrap_or(self.at)) > limit
    }

    /// The sign-in as the first principal of everything that comes from it. `arn` is the ARN of the
    /// user, or of the provider that vouches in the account of the role.
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

    /// The revocation keys, any of which ends the sign-in.
    ///
    /// # Errors
    /// `InvalidClientTokenId` if the ARN is not that of a principal.
    pub fn came_from(&self) -> Result<Box<[RevocationKey]>, Error> {
        self.came_from_as(self.ancestor(self.arn()))
    }

    /// The revocation keys without that of the password, for a person who has just changed it.
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

    /// Whether the user with its password, or the provider, is still in the directory.
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

/// Serializes what is shared like the value itself.
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

/// The text by which everything that began with the password of a user is revoked. It takes the place of
/// an access key in the lineage, and no access key has this form.
pub fn password_key(user_arn: &str) -> String {
    format!("password of {user_arn}")
}

/// A text by which another password of the user is noticed; `None` if the user has no password. It stays
/// the same when the hash of the password is made anew.
pub fn password_mark(directory: &Directory, user_arn: &str) -> Option<String> {
    Some(hex(&directory.login_profile(user_arn)?.mark))
}
