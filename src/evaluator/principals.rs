//! The Principal element: the forms in which it can name principals.
//!
//! The rules are in the IAM User Guide, "AWS JSON policy elements: Principal". `naming.rs` decides
//! whether an entry names a caller.

/// The Principal element of one statement.
#[derive(Debug, Clone)]
pub(super) enum Principals {
    /// The statement has no such element: the policy applies to the principal to which it is
    /// attached.
    Implied,
    /// `Principal`: the statement applies to these entries.
    Are(Box<[PrincipalPattern]>),
    /// `NotPrincipal`: the statement applies to everybody except these entries.
    AreNot(Box<[PrincipalPattern]>),
}

/// One entry of a Principal element. No entry contains a wildcard, except for `*` as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PrincipalPattern {
    /// `"*"`: everybody.
    Any,
    /// `{"AWS": "*"}`: everybody, but in an Allow no identity provider.
    AnyAws,
    /// An account: twelve digits (in the caller's own partition), or
    /// `arn:PARTITION:iam::ACCOUNT:root`.
    Account {
        partition: Option<Box<str>>,
        id: Box<str>,
    },
    /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`, which matches every session of the role. The whole
    /// ARN is compared if the caller's path is known.
    Role {
        arn: Box<str>,
        account: Box<str>,
        name: Box<str>,
    },
    /// Any other principal ARN, compared as a whole: a user, or an assumed-role or federated-user
    /// session.
    Exact(Box<str>),
    /// A user or role by its unique id (`AIDA…`, `AROA…`), whatever its current name.
    Id(Box<str>),
    /// One session of a role, by the role's unique id and the session's name.
    Session { role: Box<str>, name: Box<str> },
    /// `{"Federated": …}`: an identity provider by ARN or domain.
    Federated(Box<str>),
    /// `{"Service": …}`: a service by its principal name, such as `ec2.amazonaws.com`.
    Service(Box<str>),
    /// `{"CanonicalUser": …}`: allowed in a policy, but matches nobody in Brevet.
    CanonicalUser,
}

impl PrincipalPattern {
    /// Reads one text under `AWS`. The error is the rule that the text breaks.
    pub fn parse_aws(text: &str) -> Result<Self, &'static str> {
        let digits = |t: &str| t.len() == 12 && t.bytes().all(|b| b.is_ascii_digit());
        if text == "*" {
            return Ok(Self::AnyAws);
        }
        if digits(text) {
            return Ok(Self::Account {
                partition: None,
                id: text.into(),
            });
        }
        if text.contains(['*', '?']) {
            return Err("a principal ARN must not have a wildcard");
        }
        // Policies are stored with unique ids. An id that no longer belongs to anybody stays as it
        // is.
        if is_unique_id(text) {
            return Ok(Self::Id(text.into()));
        }
        if let Some((role, name)) = text.split_once(':').filter(|(role, _)| is_unique_id(role)) {
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
            if (2..=64).contains(&name.len()) && name.bytes().all(legal) {
                return Ok(Self::Session {
                    role: role.into(),
                    name: name.into(),
                });
            }
        }
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().unwrap_or_default();
        let (arn, partition, service, region, account, resource) =
            (next(), next(), next(), next(), next(), next());
        if arn != "arn" || partition.is_empty() || !region.is_empty() || !digits(account) {
            return Err(
                "an AWS principal must be `*`, a 12-digit account id, a principal's ARN or its unique id",
            );
        }
        match (service, resource.split_once('/')) {
            ("iam", None) if resource == "root" => Ok(Self::Account {
                partition: Some(partition.into()),
                id: account.into(),
            }),
            ("iam", Some(("role", path))) => match path.rsplit('/').next() {
                Some(name) if !name.is_empty() => Ok(Self::Role {
                    arn: text.into(),
                    account: account.into(),
                    name: name.into(),
                }),
                _ => Err("the ARN of a role must end in the role's name"),
            },
            ("iam", Some(("user", name))) if !name.is_empty() => Ok(Self::Exact(text.into())),
            ("sts", Some(("assumed-role", rest)))
                if rest.split('/').filter(|p| !p.is_empty()).count() == 2 =>
            {
                Ok(Self::Exact(text.into()))
            }
            ("sts", Some(("federated-user", name))) if !name.is_empty() => {
                Ok(Self::Exact(text.into()))
            }
            _ => Err(
                "an AWS principal must be an account, a user, a role, an assumed-role session or a federated-user session",
            ),
        }
    }
}

impl PrincipalPattern {
    /// The principal that this entry can name, if that is an identity provider, a user, an account or everybody.
    pub(super) fn as_allowed(&self) -> Option<AllowedPrincipal<'_>> {
        Some(match self {
            Self::Any | Self::AnyAws => AllowedPrincipal::Everybody,
            Self::Account { id, .. } => AllowedPrincipal::Account(id),
            Self::Exact(arn) => AllowedPrincipal::User(arn),
            Self::Id(id) => AllowedPrincipal::User(id),
            Self::Federated(provider) => AllowedPrincipal::Provider(provider),
            Self::Role { .. } | Self::Session { .. } | Self::Service(_) | Self::CanonicalUser => {
                return None;
            }
        })
    }
}

/// Whether the text has the form of a unique id of a user or role: 16 to 128 letters and digits.
/// IAM API Reference, "User": `UserId`.
fn is_unique_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The way in which a Principal element names a user, role or session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedPrincipal<'a> {
    /// By the ARN of the user, role or session.
    ByArn(&'a str),
    /// By the unique id of the user or role, or by that of the session's role.
    ById(&'a str),
}

/// An entry of the Principal element of an Allow statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedPrincipal<'a> {
    /// Everybody: `*`.
    Everybody,
    /// The principals of an account, by its id.
    Account(&'a str),
    /// A user, by ARN or unique id. It may also be the ARN of a session or the unique id of a role.
    User(&'a str),
    /// An identity provider, by ARN or domain.
    Provider(&'a str),
}
