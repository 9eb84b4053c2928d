//! Entries that were removed from a directory file. They are written to the store as revocations before the
//! new file is used, so that their sessions do not become valid again if the old file comes back.

use crate::base::arn::account_of;
use crate::base::names::AccessKeyId;
use crate::directory::Directory;
use crate::directory::resource::{Name, ResourceKind};
use crate::revocations::Selector;

/// An entry of a directory file whose sessions must end, because the entry was removed, disabled, or replaced by
/// another one of the same name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Departure {
    pub selector: Selector,
    pub account: String,
    pub value: String,
}

impl Departure {
    /// Creates a departure in the account that the ARN contains.
    pub fn new(selector: Selector, arn: &str, value: &str) -> Self {
        Self {
            selector,
            account: account_of(arn).to_owned(),
            value: value.to_owned(),
        }
    }

    /// The name of the removed entry in the directory. `None` if no kind of resource belongs to the selector.
    pub fn name(&self) -> Option<Name> {
        let kind = match self.selector {
            // The names of certificates are longer and have other characters.
            Selector::AccessKey if AccessKeyId::parse("AccessKeyId", &self.value).is_err() => {
                ResourceKind::Certificate
            }
            Selector::AccessKey => ResourceKind::AccessKey,
            Selector::Role => ResourceKind::Role,
            Selector::Principal if self.value.contains(":oidc-provider/") => {
                ResourceKind::OidcProvider
            }
            Selector::Principal if self.value.contains(":saml-provider/") => {
                ResourceKind::SamlProvider
            }
            Selector::Principal => ResourceKind::User,
            _ => return None,
        };
        Some(Name::new(kind, self.value.as_str()))
    }

    /// Describes the departure of an entry that was removed, or replaced by another one of the same name.
    /// `None` for an entry from which no session comes.
    pub fn of(name: &Name, identity: &str) -> Option<Self> {
        let (selector, owner) = match name.kind {
            ResourceKind::User | ResourceKind::OidcProvider | ResourceKind::SamlProvider => {
                (Selector::Principal, name.id.as_str())
            }
            ResourceKind::Role => (Selector::Role, name.id.as_str()),
            // The identity of a credential is the ARN of its owner.
            ResourceKind::AccessKey | ResourceKind::Certificate => (Selector::AccessKey, identity),
            ResourceKind::Account
            | ResourceKind::Policy
            | ResourceKind::Group
            | ResourceKind::InstanceProfile
            | ResourceKind::MfaDevice
            | ResourceKind::LoginProfile
            | ResourceKind::Association
            | ResourceKind::BucketPolicy
            | ResourceKind::Organization => return None,
        };
        Some(Self::new(selector, owner, &name.id))
    }
}

/// The entries whose sessions end when one directory replaces another.
pub(super) fn departures(old: &Directory, new: &Directory) -> Vec<Departure> {
    let keys = old.access_keys().filter(|key| {
        let id = key.id.as_str();
        key.active
            && new
                .access_key(id)
                .is_none_or(|now| !now.active || now.user_arn != key.user_arn)
    });
    let keys = keys.map(|key| Departure::new(Selector::AccessKey, &key.user_arn, key.id.as_str()));
    let certificates = old.certificates().filter(|old| {
        old.active
            && new
                .certificate(&old.id)
                .is_none_or(|now| !now.active || now.user_arn != old.user_arn)
    });
    let certificates =
        certificates.map(|c| Departure::new(Selector::AccessKey, &c.user_arn, &c.id));
    let keys = keys.chain(certificates);
    let users = old
        .users()
        .filter(|user| new.user(&user.arn).is_none_or(|now| now.id != user.id));
    let users = users.map(|user| Departure::new(Selector::Principal, &user.arn, &user.arn));
    let roles = old
        .roles()
        .filter(|role| new.role(&role.arn).is_none_or(|now| now.id != role.id));
    let roles = roles.map(|role| Departure::new(Selector::Role, &role.arn, &role.arn));
    let providers = old
        .oidc_providers()
        .filter(|provider| new.oidc_provider(&provider.arn).is_none());
    let providers =
        providers.map(|provider| Departure::new(Selector::Principal, &provider.arn, &provider.arn));
    let saml_providers = old
        .saml_providers()
        .filter(|provider| new.saml_provider(&provider.arn).is_none());
    let saml_providers = saml_providers
        .map(|provider| Departure::new(Selector::Principal, &provider.arn, &provider.arn));
    let all = keys.chain(users).chain(roles).chain(providers);
    let mut all: Vec<Departure> = all.chain(saml_providers).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn directory(active: bool, left: &[&str], role_id: &str) -> Directory {
        let arn = |kind: &str, name: &str| format!("arn:aws:iam::111122223333:{kind}/{name}");
        let is_here = |what: &str| !left.contains(&what);
        let status = if active { "Active" } else { "Inactive" };
        let key = json!({"AccessKeyId": "AKIATESTTESTTESTTES1", "UserArn": arn("user", "bob"), "Status": status,
            "SecretAccessKey": "a-secret-that-is-long-enough-0123456789"});
        let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "sts:AssumeRole"}]});
        let text = json!({
            "UserDetailList": if is_here("user") { json!([{"UserName": "bob", "UserId": "AIDABOBBOBBOBBOBBOB1",
                "Arn": arn("user", "bob"), "Path": "/"}]) } else { json!([]) },
            "RoleDetailList": if is_here("role") { json!([{"RoleName": "R", "RoleId": role_id, "Arn": arn("role", "R"),
                "Path": "/", "AssumeRolePolicyDocument": trust}]) } else { json!([]) },
            "Brevet": {
                "AccessKeys": if is_here("user") && is_here("key") { json!([key]) } else { json!([]) },
                "OpenIDConnectProviders": if is_here("provider") {
                    json!([{"Arn": arn("oidc-provider", "idp.example.com"), "Url": "https://idp.example.com",
                        "ClientIDList": ["sts.amazonaws.com"]}])
                } else {
                    json!([])
                },
            },
        });
        Directory::compile(text.to_string().as_bytes(), None).unwrap()
    }

    #[test]
    fn what_went_is_named_and_nothing_else() {
        const ROLE: &str = "AROARRRRRRRRRRRRRRRR1";
        let whole = directory(true, &[], ROLE);
        let gone = |new: &Directory| -> Vec<String> {
            departures(&whole, new)
                .into_iter()
                .map(|d| format!("{} {}", d.selector.as_str(), d.value))
                .collect()
        };
        let (key, user) = (
            "access-key AKIATESTTESTTESTTES1",
            "principal arn:aws:iam::111122223333:user/bob",
        );
        let role = "role arn:aws:iam::111122223333:role/R";
        let provider = "principal arn:aws:iam::111122223333:oidc-provider/idp.example.com";
        assert!(gone(&directory(true, &[], ROLE)).is_empty());
        assert_eq!(gone(&directory(false, &[], ROLE)), [key]);
        assert_eq!(gone(&directory(true, &["key"], ROLE)), [key]);
        assert_eq!(gone(&directory(true, &["user"], ROLE)), [key, user]);
        assert_eq!(gone(&directory(true, &["role"], ROLE)), [role]);
        assert_eq!(
            gone(&directory(true, &[], "AROASSSSSSSSSSSSSSSS1")),
            [role],
            "another one of that name"
        );
        assert_eq!(gone(&directory(true, &["provider"], ROLE)), [provider]);
        // What comes ends nothing; nor does what was disabled before.
        assert!(departures(&directory(false, &["role", "provider"], ROLE), &whole).is_empty());
    }
}
