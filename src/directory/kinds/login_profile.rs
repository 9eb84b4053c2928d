//! Login profiles: the passwords of users. Their hashes are kept sealed, like other secrets.

// The fields of the declared form are AWS's and are documented there.
#![allow(missing_docs)]

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::base::arn::IamArn;
use crate::base::entropy::NoEntropy;
use crate::base::secret::Secret;
use crate::directory::declared::{Declared, Defaults, Insertion, keep};
use crate::directory::limits::Limits;
use crate::directory::name::{Name, ResourceKind};
use crate::directory::secret_field::{SecretField, SecretText, sealing_name};
use crate::directory::shape::shape;
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};
use crate::password::hash::{self, Cost, HashError, Mark};
use crate::revocations::Selector;

shape! {
    /// The password of a user, as hashes that are in clear (for import) or sealed under the master
    /// key.
    LoginProfileDetail {
        user_arn: String,
        /// The hash of the password, followed by those of earlier passwords, separated by spaces.
        password_hash: Option<Zeroizing<String>>,
        sealed_password_hash: Option<String>,
        /// Whether the user must choose another password at the next sign-in.
        password_reset_required: Option<bool>,
        create_date: Option<String>,
        password_last_changed: Option<String>,
    }
}

/// The password of a user in a snapshot, as a hash.
#[derive(Debug)]
pub struct LoginProfile {
    /// The ARN of the user whose password this is.
    pub user_arn: Arc<str>,
    /// The hash of the current password.
    pub hash: Secret<String>,
    /// A digest that changes when the user gets another password.
    pub mark: Mark,
    /// The memory and the number of passes that computing the hash takes.
    pub cost: Cost,
    /// Whether the user must choose another password at the next sign-in.
    pub must_be_reset: bool,
    /// When the password was last changed, in seconds since 1970; 0 if that is not known, so that a
    /// password policy with a maximum age counts it as expired.
    pub changed_at: i64,
}

impl Keyed for LoginProfile {
    fn key(&self) -> &str {
        &self.user_arn
    }
}

impl Declared for LoginProfileDetail {
    const HAS_SECRET: bool = true;

    fn id(&self) -> &str {
        &self.user_arn
    }

    fn links(&self) -> Vec<Name> {
        vec![Name::new(ResourceKind::User, self.user_arn.as_str())]
    }

    fn secret(&self) -> Option<SecretField<'_>> {
        Some(SecretField {
            name: "PasswordHash",
            bound_to: sealing_name("login profile", &self.user_arn, &self.user_arn),
            clear: self.password_hash.as_ref().map(|s| s.as_str()),
            sealed: self.sealed_password_hash.as_deref(),
            normal: hash::normal,
        })
    }

    fn set_secret(&mut self, text: SecretText) {
        (self.password_hash, self.sealed_password_hash) = text.into_fields();
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        defaults.date(&mut self.password_last_changed);
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.create_date, &old.create_date);
        keep(&mut self.password_last_changed, &old.password_last_changed);
        // A file that does not mention it must not excuse a user from choosing another password.
        keep(
            &mut self.password_reset_required,
            &old.password_reset_required,
        );
    }

    fn check(&self, limits: &mut Limits<'_>) {
        if IamArn::parse(&self.user_arn).is_none_or(|arn| arn.kind != "user") {
            limits.invalid("UserArn must be the ARN of a user");
        }
    }

    /// Sessions that began with a password are revoked like those of an access key; `password_key` makes the id of the
    /// revocation.
    fn sessions(&self) -> Option<Selector> {
        Some(Selector::AccessKey)
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let all = directory.open_secret(self.secret(), how)?;
        let current = hash::each(all.expose()).next().unwrap_or_default();
        let malformed = |error: HashError| fault(how.place, error.to_string());
        let (mark, cost) = (
            hash::mark(current).map_err(malformed)?,
            Cost::of(current).map_err(malformed)?,
        );
        let changed = self.password_last_changed.as_ref();
        let changed = changed.or(self.create_date.as_ref());
        let changed = changed.and_then(|date| date.parse().ok());
        // The profile shares the allocation of its user's ARN.
        let user = directory.users.get(&self.user_arn);
        let user_arn = user.map_or_else(|| self.user_arn.as_str().into(), |u| u.arn.clone());
        let previous = directory.login_profiles.put(LoginProfile {
            user_arn,
            hash: Secret::new(current.to_owned()),
            mark,
            cost,
            must_be_reset: self.password_reset_required.unwrap_or(false),
            changed_at: changed.map_or(0, jiff::Timestamp::as_second),
        });
        directory.count_password_costs(previous.as_deref(), Some(cost));
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        let previous = directory.login_profiles.remove(id);
        directory.count_password_costs(previous.as_deref(), None);
    }
}

/// The maximum number of costs that [`Directory::password_costs`] returns.
const MAX_COSTS: usize = 4;

impl Directory {
    /// The different costs of the users' password hashes: the four most frequent ones, if there are more.
    pub fn password_costs(&self) -> Vec<Cost> {
        let mut all: Vec<(&Cost, &usize)> = self.password_costs.iter().collect();
        all.sort_by(|a, b| b.1.cmp(a.1));
        let costs = all.into_iter().take(MAX_COSTS);
        costs.map(|(cost, _)| *cost).collect()
    }

    fn count_password_costs(&mut self, previous: Option<&LoginProfile>, new: Option<Cost>) {
        let old = previous.map(|profile| profile.cost);
        if old == new {
            return;
        }
        let counts = Arc::make_mut(&mut self.password_costs);
        if let Some(new) = new {
            *counts.entry(new).or_default() += 1;
        }
        if let Some(old) = old
            && let Some(count) = counts.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(&old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::resource::Resource;

    fn profile(name: &str, cost: &str) -> LoginProfileDetail {
        LoginProfileDetail {
            user_arn: format!("arn:aws:iam::111122223333:user/{name}"),
            password_hash: Some(Zeroizing::new(format!(
                "$argon2id$v=19${cost},p=1$c2l4dGVlbiBieXRlIHNsdA$G/bFSWjBTx+oD5UAxzUD+cpH7AFcbWp48NzvOCVG3rM"
            ))),
            ..LoginProfileDetail::default()
        }
    }

    #[test]
    fn the_costs_of_all_hashes_are_known_through_every_change() {
        let mut directory = Directory::empty().unwrap();
        let cost = |memory_kib, passes| Cost {
            memory_kib,
            passes,
            lanes: 1,
        };
        let put = |directory: &mut Directory, name: &str, cost: &str| {
            let profile = Resource::LoginProfile(profile(name, cost));
            directory.insert(&profile, None).unwrap();
        };
        assert!(directory.password_costs().is_empty());
        put(&mut directory, "a", "m=19456,t=2");
        put(&mut directory, "b", "m=19456,t=2");
        put(&mut directory, "c", "m=38912,t=2");
        let both = [cost(19_456, 2), cost(38_912, 2)];
        assert_eq!(directory.password_costs(), both);
        let before = directory.clone();
        put(&mut directory, "a", "m=38912,t=2");
        put(&mut directory, "b", "m=38912,t=2");
        assert_eq!(directory.password_costs(), [cost(38_912, 2)]);
        assert_eq!(before.password_costs(), both, "a snapshot does not change");
        for name in ["a", "b", "c", "c"] {
            let arn = format!("arn:aws:iam::111122223333:user/{name}");
            LoginProfileDetail::remove(&mut directory, &arn);
        }
        assert!(directory.password_costs().is_empty());
        // Of many kinds, those of most users count.
        for (n, passes) in (2..=6).enumerate() {
            for user in 0..=n {
                let cost = format!("m=19456,t={passes}");
                put(&mut directory, &format!("u{passes}-{user}"), &cost);
            }
        }
        let most: Vec<u32> = directory
            .password_costs()
            .iter()
            .map(|c| c.passes)
            .collect();
        assert_eq!(most, [6, 5, 4, 3]);
    }
}
