//! The password policy of an account: IAM User Guide, "Set an account password policy for IAM
//! users".

use super::hash::MAX_HASHES;

/// The characters that count as symbols: IAM User Guide, "Set an account password policy for IAM
/// users".
const SYMBOLS: &str = "!@#$%^&*()_+-=[]{}|'";
/// The maximum length of a password in characters.
const MAX_LENGTH: usize = 128;
/// The length in characters from which on a password must not contain a name. A shorter name may be
/// part of a password by chance, but must not be the whole password.
const MIN_NAME: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// The minimum length of a password in characters.
    pub minimum_length: usize,
    /// The kinds of characters that a password must contain.
    pub characters: Characters,
    /// Whether each user may change its own password without a policy that allows it.
    pub allow_users_to_change: bool,
    /// The number of days after which a password expires; `None` if passwords do not expire.
    pub max_age_days: Option<u32>,
    /// The number of a user's last passwords, including the current one, that the user must not
    /// choose again; 0 allows all.
    pub reuse_prevention: usize,
    /// Whether a user cannot set a new password after the old one has expired.
    pub hard_expiry: bool,
}

/// The rule about which kinds of characters a password must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Characters {
    /// At least three of the four kinds: upper case, lower case, digits and symbols.
    ThreeKinds,
    /// At least one character of each kind whose field is `true`.
    Each {
        /// At least one letter of `A` to `Z`.
        uppercase: bool,
        /// At least one letter of `a` to `z`.
        lowercase: bool,
        /// At least one digit of `0` to `9`.
        number: bool,
        /// At least one of ``! @ # $ % ^ & * ( ) _ + - = [ ] { } | '``.
        symbol: bool,
    },
}

impl PasswordPolicy {
    /// The policy of an account that has not set one: AWS's default.
    pub const DEFAULT: Self = Self {
        minimum_length: 8,
        characters: Characters::ThreeKinds,
        allow_users_to_change: false,
        max_age_days: None,
        reuse_prevention: 0,
        hard_expiry: false,
    };

    /// Checks a new password of a user. `names` contains the names that must not occur in it, each
    /// with its description for the error text, such as "the user name".
    ///
    /// # Errors
    /// AWS's sentence about the rules that the password breaks.
    pub fn check(&self, password: &str, names: &[(&str, &str)]) -> Result<(), String> {
        let length = password.chars().count();
        if length > MAX_LENGTH {
            return Err(format!(
                "Password should have a maximum length of {MAX_LENGTH}"
            ));
        }
        let too_short = (length < self.minimum_length)
            .then(|| format!("a minimum length of {}", self.minimum_length));
        let lacking = lacking(password);
        let missing = match self.characters {
            Characters::ThreeKinds => {
                let needed = lacking.iter().flatten().count().saturating_sub(1);
                if needed > 0 {
                    let kinds: Vec<&str> = lacking.into_iter().flatten().collect();
                    return Err(match too_short {
                        Some(short) => {
                            format!("Password should have {short}. {}", several(needed, &kinds))
                        }
                        None => several(needed, &kinds),
                    });
                }
                Vec::new()
            }
            Characters::Each {
                uppercase,
                lowercase,
                number,
                symbol,
            } => {
                let required = [uppercase, lowercase, number, symbol];
                let missing = lacking.into_iter().zip(required);
                missing
                    .filter_map(|(kind, required)| kind.filter(|_| required))
                    .collect()
            }
        };
        let all: Vec<&str> = too_short.as_deref().into_iter().chain(missing).collect();
        match all.as_slice() {
            [] => {}
            [one] => return Err(format!("Password should have {one}")),
            all => return Err(several(all.len(), all)),
        }
        for (name, what) in names {
            if contains(password, name) {
                return Err(format!("Password should not contain {what}"));
            }
        }
        Ok(())
    }

    /// The number of a user's stored hashes that a new password is compared with.
    pub fn remembered(&self) -> usize {
        self.reuse_prevention.min(MAX_HASHES)
    }

    /// Returns whether a password of this age, in seconds, has expired.
    pub fn has_expired(&self, age_seconds: i64) -> bool {
        self.max_age_days
            .is_some_and(|days| age_seconds >= i64::from(days) * 86_400)
    }
}

/// Returns AWS's text for each kind of characters that a password lacks: upper case, lower case,
/// numbers, symbols.
fn lacking(password: &str) -> [Option<&'static str>; 4] {
    let lacks = |has: fn(char) -> bool, what| (!password.chars().any(has)).then_some(what);
    [
        lacks(|c| c.is_ascii_uppercase(), "at least one uppercase letter"),
        lacks(|c| c.is_ascii_lowercase(), "at least one lowercase letter"),
        lacks(|c| c.is_ascii_digit(), "at least one number"),
        lacks(|c| SYMBOLS.contains(c), "at least one symbol"),
    ]
}

fn several(count: usize, requirements: &[&str]) -> String {
    format!(
        "Password should meet {count} more of the following requirements: {}",
        requirements.join(", ")
    )
}

/// Returns whether a password is or contains a name, without regard to case.
fn contains(password: &str, name: &str) -> bool {
    let (password, name) = (password.to_lowercase(), name.to_lowercase());
    password == name || (name.chars().count() >= MIN_NAME && password.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(uppercase: bool, lowercase: bool, number: bool, symbol: bool) -> PasswordPolicy {
        PasswordPolicy {
            minimum_length: 6,
            characters: Characters::Each {
                uppercase,
                lowercase,
                number,
                symbol,
            },
            ..PasswordPolicy::DEFAULT
        }
    }

    fn refusal(policy: &PasswordPolicy, password: &str) -> String {
        policy.check(password, &[]).err().unwrap_or_default()
    }

    #[test]
    fn the_default_wants_eight_characters_of_three_kinds() {
        let policy = PasswordPolicy::DEFAULT;
        for good in ["Abcdefg1", "Abcdefg!", "abcdef1!", "ABCDEF1'"] {
            assert_eq!(refusal(&policy, good), "", "{good}");
        }
        assert_eq!(
            refusal(&policy, "Abcdef1"),
            "Password should have a minimum length of 8"
        );
        assert_eq!(
            refusal(&policy, "abcdefg1"),
            "Password should meet 1 more of the following requirements: at least one uppercase letter, at least one symbol"
        );
        assert_eq!(
            refusal(&policy, "äöü"),
            "Password should have a minimum length of 8. Password should meet 3 more of the following requirements: \
             at least one uppercase letter, at least one lowercase letter, at least one number, at least one symbol"
        );
    }

    #[test]
    fn each_required_kind_is_named() {
        assert_eq!(refusal(&each(false, false, false, false), "aaaaaa"), "");
        for (policy, password, what) in [
            (
                each(true, false, false, false),
                "aaaaaa",
                "at least one uppercase letter",
            ),
            (
                each(false, true, false, false),
                "AAAAAA",
                "at least one lowercase letter",
            ),
            (
                each(false, false, true, false),
                "aaaaaa",
                "at least one number",
            ),
            (
                each(false, false, false, true),
                "aaaaa~",
                "at least one symbol",
            ),
            (
                each(true, true, true, true),
                "Aa1!a",
                "a minimum length of 6",
            ),
        ] {
            assert_eq!(
                refusal(&policy, password),
                format!("Password should have {what}")
            );
        }
        for symbol in SYMBOLS.chars() {
            assert_eq!(
                refusal(&each(true, true, true, true), &format!("Aa1aa{symbol}")),
                ""
            );
        }
        assert_eq!(
            refusal(&each(true, true, true, true), "a"),
            "Password should meet 4 more of the following requirements: a minimum length of 6, \
             at least one uppercase letter, at least one number, at least one symbol"
        );
        assert_eq!(
            refusal(&each(false, false, false, false), &"a".repeat(129)),
            "Password should have a maximum length of 128"
        );
    }

    #[test]
    fn length_counts_characters_and_not_bytes() {
        assert_eq!(
            refusal(&each(false, false, false, false), &"é".repeat(128)),
            ""
        );
        assert_eq!(
            refusal(&each(false, false, false, false), "ééé"),
            "Password should have a minimum length of 6"
        );
    }

    #[test]
    fn no_password_contains_the_name_of_its_user_or_account() {
        let policy = each(false, false, false, false);
        let names = [("Alice", "the user name"), ("al", "the account alias")];
        for (password, refused) in [
            ("my-aLiCe-1", Some("the user name")),
            ("alicealice", Some("the user name")),
            ("also good", None),
        ] {
            let expected = refused.map(|what| format!("Password should not contain {what}"));
            assert_eq!(policy.check(password, &names).err(), expected, "{password}");
        }
        let short = PasswordPolicy {
            minimum_length: 1,
            ..policy
        };
        assert!(short.check("AL", &names).is_err() && short.check("ali", &names).is_ok());
    }

    #[test]
    fn a_password_expires_after_its_days() {
        let policy = PasswordPolicy {
            max_age_days: Some(90),
            ..PasswordPolicy::DEFAULT
        };
        assert!(!policy.has_expired(90 * 86_400 - 1) && policy.has_expired(90 * 86_400));
        assert!(!PasswordPolicy::DEFAULT.has_expired(i64::MAX));
    }
}
