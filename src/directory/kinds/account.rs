//! Accounts with their settings: alias and password policy. An account is known if it is declared
//! or owns a declared resource.

use std::sync::Arc;

use crate::base::arn::AccountId;
use crate::base::entropy::NoEntropy;
use crate::directory::declared::{Declared, Defaults, Insertion, Source, keep};
use crate::directory::limits::Limits;
use crate::directory::shape::{Ignored, shape};
use crate::directory::{Directory, DirectoryError, fault};
use crate::password::policy::{Characters, PasswordPolicy};

shape! {
    /// An account. The alias is optional, and unique among all accounts.
    Account {
        account_id: String,
        account_alias: Option<String>,
        password_policy: Option<PasswordPolicyDetail>,
    }
}

shape! {
    /// A password policy as GetAccountPasswordPolicy prints it.
    PasswordPolicyDetail {
        /// The minimum number of characters of a password: 6 (the default) to 128.
        minimum_password_length: Option<i64>,
        require_symbols: Option<bool>,
        require_numbers: Option<bool>,
        require_uppercase_characters: Option<bool>,
        require_lowercase_characters: Option<bool>,
        allow_users_to_change_password: Option<bool>,
        /// Whether passwords expire. Ignored, because `MaxPasswordAge` determines it.
        expire_passwords: Ignored,
        /// After how many days a password expires: 1 to 1095. Without it, passwords do not expire.
        max_password_age: Option<i64>,
        /// How many earlier passwords may not be used again: 1 to 24. Without it, all may.
        password_reuse_prevention: Option<i64>,
        hard_expiry: Option<bool>,
    }
}

impl PasswordPolicyDetail {
    /// The minimum number of characters of a password if the policy does not set one.
    pub const DEFAULT_LENGTH: u32 = 6;

    /// Checks and compiles the policy.
    ///
    /// # Errors
    /// A text with the first field that breaks a rule, and the rule.
    fn compile(&self) -> Result<PasswordPolicy, String> {
        let number = |name: &str, value: Option<i64>, (least, most): (i64, i64)| {
            let legal = value.is_none_or(|value| (least..=most).contains(&value));
            let number = value.map(|value| u32::try_from(value).unwrap_or_default());
            legal.then_some(number).ok_or_else(|| {
                format!(
                    "PasswordPolicy: {name} must be a number from {least} to {most}, or be left out"
                )
            })
        };
        let length = number(
            "MinimumPasswordLength",
            self.minimum_password_length,
            (6, 128),
        )?;
        let reuse = number(
            "PasswordReusePrevention",
            self.password_reuse_prevention,
            (1, 24),
        )?;
        let is = |flag: Option<bool>| flag.unwrap_or(false);
        Ok(PasswordPolicy {
            minimum_length: length.unwrap_or(Self::DEFAULT_LENGTH) as usize,
            characters: Characters::Each {
                uppercase: is(self.require_uppercase_characters),
                lowercase: is(self.require_lowercase_characters),
                number: is(self.require_numbers),
                symbol: is(self.require_symbols),
            },
            allow_users_to_change: is(self.allow_users_to_change_password),
            max_age_days: number("MaxPasswordAge", self.max_password_age, (1, 1_095))?,
            reuse_prevention: reuse.unwrap_or_default() as usize,
            hard_expiry: is(self.hard_expiry),
        })
    }
}

/// The alias and the password policy of an account in a snapshot.
#[derive(Debug, Clone, Default)]
pub struct AccountSettings {
    /// The alias that people may enter instead of the account id when they sign in; `None` if there is none.
    pub alias: Option<Box<str>>,
    /// The password policy that the account has set; `None` if AWS's default applies.
    pub password_policy: Option<PasswordPolicy>,
}

impl Declared for Account {
    fn id(&self) -> &str {
        &self.account_id
    }

    /// The alias in lower case, because no two accounts may have the same; the account id if there is no alias.
    fn folded(&self) -> String {
        let alias = self.account_alias.as_ref();
        alias.map_or_else(|| self.account_id.clone(), |a| a.to_ascii_lowercase())
    }

    fn account(&self) -> &str {
        &self.account_id
    }

    fn fill(&mut self, _: &Defaults<'_>) -> Result<(), NoEntropy> {
        Ok(())
    }

    /// Keeps the alias and the password policy that the declaration leaves out, for example because it only mentions
    /// the account.
    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.account_alias, &old.account_alias);
        keep(&mut self.password_policy, &old.password_policy);
    }

    fn check(&self, limits: &mut Limits<'_>) {
        if AccountId::parse(&self.account_id).is_none() {
            limits.invalid("AccountId must be twelve digits");
        }
        if self
            .account_alias
            .as_deref()
            .is_some_and(|a| !is_account_alias(a))
        {
            limits.invalid("AccountAlias must be 3 to 63 characters of a-z, 0-9 and single hyphens, must not begin or end with a hyphen, and must not be twelve digits");
        }
        let policy = self.password_policy.as_ref();
        if let Some(Err(rule)) = policy.map(PasswordPolicyDetail::compile) {
            limits.invalid(rule);
        }
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let Some(account) = AccountId::parse(&self.account_id) else {
            return Err(fault(how.place, "AccountId must be twelve digits"));
        };
        // The snapshot of a command or import exists only to check one resource.
        if !matches!(how.source, Source::Declared) {
            let policy = self.password_policy.as_ref();
            let policy = policy.map(PasswordPolicyDetail::compile).transpose();
            let settings = AccountSettings {
                alias: self.account_alias.as_deref().map(Into::into),
                password_policy: policy.map_err(|rule| fault(how.place, rule))?,
            };
            Arc::make_mut(&mut directory.accounts).insert(account, settings);
        }
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        let known = AccountId::parse(id).filter(|account| directory.accounts.contains_key(account));
        if let Some(account) = known {
            Arc::make_mut(&mut directory.accounts).remove(&account);
        }
    }
}

/// Whether a text may be the alias of an account: IAM API Reference, "CreateAccountAlias".
pub fn is_account_alias(alias: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (3..=63).contains(&alias.len())
        && alias.bytes().all(legal)
        && !alias.starts_with('-')
        && !alias.ends_with('-')
        && !alias.contains("--")
        && AccountId::parse(alias).is_none()
}
