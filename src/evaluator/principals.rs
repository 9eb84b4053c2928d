//! The Principal element: the forms in which it names somebody, and their texts.
//!
//! IAM User Guide, "AWS JSON policy elements: Principal". Who a caller is, and whether an entry names
//! it, is for `naming.rs`.

/// The element of one statement.
#[derive(Debug, Clone)]
pub(super) enum Principals {
    /// There is no such element: the policy is its principal's own.
    Implied,
    Are(Box<[PrincipalPattern]>),
    AreNot(Box<[PrincipalPattern]>),
}

/// One entry of a Principal element. No entry has a wildcard inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PrincipalPattern {
    /// `"*"`: everybody.
    Any,
    /// `{"AWS": "*"}`: everybody in an account. An Allow does not name identity providers by it.
    AnyAws,
    /// An account: twelve digits (of the caller's own partition), or `arn:PARTITION:iam::ACCOUNT:root`.
    Account {
        partition: Option<Box<str>>,
        id: Box<str>,
    },
    /// `arn:aws:iam::ACCOUNT:role/PATH/NAME`, which every session of the role carries. Compared whole
    /// with a caller whose path is known.
    Role {
        arn: Box<str>,
        account: Box<str>,
        name: Box<str>,
    },
    /// Any other principal ARN, compared whole: a user, an assumed-role or federated-user session.
    Exact(Box<str>),
    /// A user or a role by its unique id (`AIDA…`, `AROA…`), whatever its name is now.
    Id(Box<str>),
    /// One session of a role: the role's unique id, and the session's name.
    Session { role: Box<str>, name: Box<str> },
    /// `{"Federated": …}`: an identity provider, by ARN or domain.
    Federated(Box<str>),
    /// `{"Service": …}`.
    Service(Box<str>),
    /// `{"CanonicalUser": …}`: legal, and nobody Brevet knows.
    CanonicalUser,
}

impl PrincipalPattern {
    /// One text under `AWS`. The error is the rule that it breaks.
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
        // Policies are stored with unique ids, and one that nobody has any more is shown as it is.
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
                "an AWS principal is `*`, a 12-digit account, a principal's ARN or its unique id",
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
                _ => Err("the role's name is missing"),
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
                "an AWS principal is an account, a user, a role, an assumed-role or a federated-user session",
            ),
        }
    }
}

/// The form of a unique id of a user or role: 16 to 128 letters and digits. IAM API Reference, "User":
/// `UserId`.
fn is_unique_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// How a Principal element names a user, a role or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedPrincipal<'a> {
    /// By its ARN.
    ByArn(&'a str),
    /// By its unique id, or its role's.
    ById(&'a str),
}
