//! The scopes that a program can ask for, as AWS's API has them.

use crate::error::{Error, GrantErrorKind};

/// Access to the accounts and roles of the person. With it, a program may get refresh tokens.
const ACCOUNT_ACCESS: &str = "sso:account:access";
/// The scope of older programs, some of which request no scope at all. It gives the same access, but no refresh tokens.
const PORTAL: &str = "sso-portal:*";
const MAX_SCOPES: usize = 10;

/// Checks that all scopes of a request exist. Returns them without duplicates.
///
/// # Errors
/// `InvalidScope` if a scope does not exist, or there are too many of them.
pub(super) fn checked<'a>(asked: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, Error> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in asked {
        if ![ACCOUNT_ACCESS, PORTAL].contains(&scope) || scopes.len() >= MAX_SCOPES {
            let text = format!("The scopes must be `{ACCOUNT_ACCESS}` or `{PORTAL}`.");
            return Err(GrantErrorKind::InvalidScope.because(text).into());
        }
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    Ok(scopes)
}

/// The scopes that a request asks for. If it asks for none, all scopes for which the program is registered.
///
/// # Errors
/// `InvalidScope` if a scope does not exist, or the program is not registered for it.
pub(super) fn granted(registered: &[String], asked: Option<&str>) -> Result<Vec<String>, Error> {
    let Some(asked) = asked else {
        return Ok(registered.to_vec());
    };
    let asked = checked(asked.split(' ').filter(|scope| !scope.is_empty()))?;
    let missing = asked.iter().find(|scope| !registered.contains(scope));
    match missing {
        None => Ok(asked),
        Some(scope) => {
            let text = format!("The program is not registered for the scope `{scope}`.");
            Err(GrantErrorKind::InvalidScope.because(text).into())
        }
    }
}

/// All scopes, for programs that an administrator has registered.
pub(super) fn all() -> Vec<String> {
    vec![ACCOUNT_ACCESS.to_owned(), PORTAL.to_owned()]
}

/// Whether a program with these scopes may get refresh tokens.
pub(super) fn are_refreshable(scopes: &[String]) -> bool {
    scopes.iter().any(|scope| scope == ACCOUNT_ACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_never_wider_than_registered() {
        let registered = checked([ACCOUNT_ACCESS]).unwrap();
        assert_eq!(granted(&registered, None).unwrap(), registered);
        assert_eq!(
            granted(&registered, Some("")).unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(
            granted(&registered, Some(ACCOUNT_ACCESS)).unwrap(),
            registered
        );
        assert!(granted(&registered, Some(PORTAL)).is_err());
        assert!(granted(&all(), Some("openid")).is_err());
        assert!(checked(["sso:account:access", "admin"]).is_err());
        assert!(are_refreshable(&registered) && !are_refreshable(&[PORTAL.to_owned()]));
    }
}
