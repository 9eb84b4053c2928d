//! [`AccountId`], [`IamArn`] and [`RoleArn`]: the grammar of ARNs. Whether a resource exists is not checked here. ARNs
//! of the directory are parsed only here.

use std::fmt;

use crate::base::field::FieldError;

/// A valid account id: exactly 12 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId([u8; 12]);

impl serde::Serialize for AccountId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for AccountId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("must be twelve digits"))
    }
}

impl AccountId {
    /// Parses an account id; `None` unless the text is 12 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 12] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_digit).then_some(Self(bytes))
    }

    /// The account id with this number; `None` if it has more than 12 digits.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::parse(&format!("{number:012}"))
    }

    /// An account id that AWS never assigns, so that it stands for no account.
    pub const NOBODY: Self = Self([b'0'; 12]);

    /// The account id as a number, without leading zeros.
    pub fn number(self) -> u64 {
        self.0.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))
    }

    /// The 12 digits, including leading zeros.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The parts of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`, whose content is not checked: IAM User Guide, "IAM
/// identifiers".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    /// The partition, such as `aws`.
    pub partition: &'a str,
    /// The service, such as `iam` or `sts`.
    pub service: &'a str,
    /// The region, which is empty for IAM and STS.
    pub region: &'a str,
    /// The account: 12 digits, or `aws` for AWS managed policies. In ARNs of some services, such as buckets, it is
    /// empty.
    pub account: &'a str,
    /// Everything after the account, which may contain colons and slashes.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Parses an ARN; `None` unless the text has six parts, of which the first is `arn`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next() != Some("arn") {
            return None;
        }
        Some(Self {
            partition: parts.next()?,
            service: parts.next()?,
            region: parts.next()?,
            account: parts.next()?,
            resource: parts.next()?,
        })
    }
}

/// The account in an ARN as written; empty for a text that has fewer than five parts between colons.
pub fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// The last part of an ARN, which is the name without its path.
pub fn name_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
}

/// The parts of `arn:aws:iam::ACCOUNT:KIND/PATH/NAME`: IAM User Guide, "IAM identifiers".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IamArn<'a> {
    /// The account that owns the resource.
    pub account: AccountId,
    /// The kind of resource, such as `user`, `role`, `policy` or `oidc-provider`. It may be any text.
    pub kind: &'a str,
    /// The name without its path. For an OpenID Connect provider, the URL without its scheme.
    pub name: &'a str,
}

impl<'a> IamArn<'a> {
    /// Parses an ARN; `None` unless the text has this form, in the partition `aws`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (account, resource) = text.strip_prefix("arn:aws:iam::")?.split_once(':')?;
        let (kind, path) = resource.split_once('/')?;
        // The name of an OpenID Connect provider is a URL, which may end with a slash.
        let name = match kind {
            "oidc-provider" => path,
            _ => path.rsplit('/').next().unwrap_or_default(),
        };
        if name.is_empty() {
            return None;
        }
        Some(Self {
            account: AccountId::parse(account)?,
            kind,
            name,
        })
    }

    /// The ARN of a resource of this kind, path (`/` or `/PATH/`) and name.
    pub fn text(account: &str, kind: &str, path: &str, name: &str) -> String {
        format!("arn:aws:iam::{account}:{kind}{path}{name}")
    }
}

/// The path in `arn:aws:iam::ACCOUNT:KIND/PATH/NAME`: `/PATH/`, or `/` for an ARN without a path.
pub fn path_of(arn: &str) -> String {
    let resource = arn.splitn(6, ':').nth(5).and_then(|r| r.split_once('/'));
    match resource.and_then(|(_, rest)| rest.rsplit_once('/')) {
        Some((path, _)) => format!("/{path}/"),
        None => "/".to_owned(),
    }
}

/// The account in `arn:aws:iam::ACCOUNT:KIND/NAME`, where the name may be any text that is not
/// empty, such as a URL. `None` for any other text.
pub fn account_of_provider(arn: &str, kind: &str) -> Option<AccountId> {
    let (account, resource) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let name = resource.strip_prefix(kind)?.strip_prefix('/')?;
    AccountId::parse(account).filter(|_| !name.is_empty())
}

/// The ARN of a role: `arn:aws:iam::ACCOUNT:role/PATH/NAME`, 20 to 2048 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoleArn {
    text: String,
    account: AccountId,
}

impl RoleArn {
    /// Checks the form and the length, but not that the role exists.
    ///
    /// # Errors
    /// [`FieldError`] that names the field and the rule.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldError> {
        Self::from_owned(field, text.to_owned())
    }

    /// Does the same as [`Self::parse`] without copying the text.
    ///
    /// # Errors
    /// [`FieldError`] that names the field and the rule.
    pub fn from_owned(field: &'static str, text: String) -> Result<Self, FieldError> {
        crate::base::field::length(field, &text, 20, 2048)?;
        let legal = text.bytes().all(|b| b.is_ascii_graphic());
        let arn = IamArn::parse(&text).filter(|arn| legal && arn.kind == "role");
        match arn.map(|arn| arn.account) {
            Some(account) => Ok(Self { text, account }),
            None => Err(FieldError::new(
                field,
                "must be the ARN of a role: `arn:aws:iam::ACCOUNT:role/NAME`",
            )),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The owner of the role, as named in its ARN.
    pub fn account(&self) -> AccountId {
        self.account
    }
}

/// The ARN of a SAML provider: `arn:aws:iam::ACCOUNT:saml-provider/NAME`, 20 to 2048 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamlProviderArn {
    text: String,
    account: AccountId,
}

impl SamlProviderArn {
    /// Checks the form and the length, but not whether the provider exists.
    ///
    /// # Errors
    /// [`FieldError`] that names the field and the rule.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldError> {
        crate::base::field::length(field, text, 20, 2048)?;
        let account = account_of_provider(text, "saml-provider");
        match account.filter(|_| is_saml_provider_name(name_of_saml_provider(text))) {
            Some(account) => Ok(Self {
                text: text.to_owned(),
                account,
            }),
            None => Err(FieldError::new(
                field,
                "must be the ARN of a SAML provider: `arn:aws:iam::ACCOUNT:saml-provider/NAME`, where NAME has 1 to \
                 128 letters, digits, `.`, `_` and `-`",
            )),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn account(&self) -> AccountId {
        self.account
    }

    /// The part of the ARN after `saml-provider/`.
    pub fn name(&self) -> &str {
        name_of_saml_provider(&self.text)
    }
}

/// The part of a SAML provider's ARN after `saml-provider/`; empty for other texts.
fn name_of_saml_provider(arn: &str) -> &str {
    arn.split_once(":saml-provider/")
        .map_or("", |(_, name)| name)
}

/// Whether a text is 1 to 128 characters of `[\w._-]`: IAM API Reference, "CreateSAMLProvider", Name.
fn is_saml_provider_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(legal)
}

/// The ARN to display for the unique id of a principal or of one of its sessions. `None` if nobody
/// has the id or the text is not an id; the text itself is then displayed.
pub fn arn_of_principal<'a>(
    principal: &str,
    arn: impl Fn(&str) -> Option<&'a str>,
) -> Option<String> {
    match principal.split_once(':') {
        None => arn(principal).map(str::to_owned),
        Some((id, session)) => {
            let role = arn(id)?;
            let (account, name) = (account_of(role), name_of(role));
            Some(format!(
                "arn:aws:sts::{account}:assumed-role/{name}/{session}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_taken_apart() {
        let arn = Arn::parse("arn:aws:sts::111122223333:assumed-role/R/a:b").unwrap();
        assert_eq!((arn.service, arn.account), ("sts", "111122223333"));
        assert_eq!(arn.resource, "assumed-role/R/a:b");
        assert_eq!(Arn::parse("arn:aws:iam::111122223333"), None);
        assert_eq!(Arn::parse("urn:aws:iam::111122223333:user/x"), None);
        assert_eq!(account_of("arn:aws:iam::aws:policy/X"), "aws");
        assert_eq!(account_of("AIDAALICEALICEALICE1"), "");
        assert_eq!(name_of("arn:aws:iam::111122223333:role/a/b/R"), "R");
        for (arn, path) in [
            ("arn:aws:iam::111122223333:role/R", "/"),
            ("arn:aws:iam::111122223333:role/a/b/R", "/a/b/"),
            ("arn:aws:iam::111122223333:root", "/"),
        ] {
            assert_eq!(path_of(arn), path);
        }
        let provider = "arn:aws:iam::111122223333:oidc-provider/a.b/";
        assert!(account_of_provider(provider, "oidc-provider").is_some());
        assert!(account_of_provider(provider, "saml-provider").is_none());
        assert_eq!(IamArn::parse(provider).unwrap().name, "a.b/");
        assert_eq!(IamArn::parse("arn:aws:iam::111122223333:role/a/"), None);
    }

    #[test]
    fn arns_of_saml_providers() {
        let text = "arn:aws:iam::111122223333:saml-provider/corp_IdP.1-a";
        let arn = SamlProviderArn::parse("PrincipalArn", text).unwrap();
        assert_eq!(
            (arn.account().as_str(), arn.name()),
            ("111122223333", "corp_IdP.1-a")
        );
        for bad in [
            "",
            "arn:aws:iam::111122223333:saml-provider/",
            "arn:aws:iam::111122223333:saml-provider/a/b",
            "arn:aws:iam::111122223333:saml-provider/a b",
            "arn:aws:iam::111122223333:oidc-provider/idp.example.com",
            "arn:aws:iam::11112222333:saml-provider/corp",
            "arn:aws-cn:iam::111122223333:saml-provider/corp",
        ] {
            assert!(
                SamlProviderArn::parse("PrincipalArn", bad).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn role_arns() {
        let arn = RoleArn::parse("RoleArn", "arn:aws:iam::111122223333:role/a/b/Deploy").unwrap();
        assert_eq!(arn.account().number(), 111_122_223_333);
        for bad in [
            "",
            "arn:aws:iam::111122223333:user/x",
            "arn:aws:iam::11112222333:role/Deploy",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role/a b",
        ] {
            assert!(RoleArn::parse("RoleArn", bad).is_err(), "{bad}");
        }
    }
}
