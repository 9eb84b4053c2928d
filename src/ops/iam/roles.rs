//! Roles: IAM API Reference, "CreateRole", "GetRole", "UpdateRole", "UpdateRoleDescription",
//! "UpdateAssumeRolePolicy", "DeleteRole", "ListRoles".

mod life;
mod lists;
mod update;

use serde::Serialize;
use serde_json::Value;

use super::entities::{Extent, Role};
use super::{documents, rows};
use crate::base::field::FieldError;
use crate::directory::declaration::Document;
use crate::directory::resource::Resource;
use crate::error::{Error, INVALID_JSON};
use crate::evaluator::PolicyKind;
use crate::ops::context::Context;

pub use life::{CreateRole, DeleteRole, GetRole};
pub use lists::ListRoles;
pub use update::{UpdateAssumeRolePolicy, UpdateRole, UpdateRoleDescription};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OneRole {
    role: Role,
}

/// Converts stored roles to the form of answers, with ARNs instead of unique ids as the principals
/// of their trust policies. Waits for the store, so the caller must be authorized again afterwards.
pub(super) async fn shown(
    cx: &mut Context<'_>,
    mut entries: Vec<Resource>,
    extent: Extent,
) -> Result<Vec<Role>, Error> {
    rows::show_principals(cx, &mut entries).await?;
    let role = |entry| match entry {
        Resource::Role(role) => Some(Role::new(*role, extent)),
        _ => None,
    };
    entries.into_iter().filter_map(role).collect()
}

/// Checks the trust policy in a request.
///
/// # Errors
/// [`Error::MalformedPolicyDocument`] if the document breaks a rule of trust policies, or names
/// actions of another service than STS.
fn trust_policy(text: &str) -> Result<Document, Error> {
    let document = documents::checked(PolicyKind::Trust, text)?;
    // A document that is too long for the quota has not been parsed yet, and may be nested too deeply.
    let invalid = |_| Error::MalformedPolicyDocument(INVALID_JSON.to_owned());
    let parsed: Value = serde_json::from_str(text).map_err(invalid)?;
    let actions = each(parsed.get("Statement"))
        .flat_map(|statement| each(statement.get("Action")))
        .filter_map(Value::as_str);
    for action in actions {
        let service = action.split(':').next().unwrap_or_default();
        if !service.eq_ignore_ascii_case("sts") {
            let words = "AssumeRole policy may only specify STS AssumeRole actions.";
            return Err(Error::MalformedPolicyDocument(words.to_owned()));
        }
    }
    Ok(document)
}

/// Iterates over an element of a policy that may be a list or a single item.
fn each(element: Option<&Value>) -> impl Iterator<Item = &Value> {
    let items = match element {
        Some(Value::Array(items)) => items.as_slice(),
        Some(item) => std::slice::from_ref(item),
        None => &[],
    };
    items.iter()
}

/// Refuses a request with `MaxSigninSessionDuration`, which limits sessions of AWS's console.
/// Brevet has no console.
///
/// # Errors
/// [`Error::Validation`] if the request has the field.
fn no_signin(is_given: bool) -> Result<(), Error> {
    let rule = "must not be set, because Brevet has no console sessions";
    match is_given {
        false => Ok(()),
        true => Err(FieldError::new("MaxSigninSessionDuration", rule).into()),
    }
}

/// Returns the answer for one stored role, with all its fields. Waits for the store, so the caller
/// must be authorized again afterwards.
async fn answer(cx: &mut Context<'_>, entry: Resource) -> Result<OneRole, Error> {
    let mut roles = shown(cx, vec![entry], Extent::Whole).await?;
    let role = roles.pop().ok_or(Error::InternalFailure)?;
    Ok(OneRole { role })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_policy_that_is_nested_too_deeply_is_malformed() {
        let text = format!(
            r#"{{"Statement":{}{}}}"#,
            "[".repeat(5_000),
            "]".repeat(5_000)
        );
        let refused = trust_policy(&text).unwrap_err();
        assert_eq!(
            refused,
            Error::MalformedPolicyDocument(INVALID_JSON.to_owned())
        );
    }

    #[test]
    fn a_trust_policy_opens_actions_of_sts_only() {
        let with = |action: &str| {
            format!(
                r#"{{"Statement":[{{"Effect":"Allow","Principal":{{"AWS":"111122223333"}},"Action":{action}}}]}}"#
            )
        };
        for good in [r#""sts:AssumeRole""#, r#"["STS:*","sts:TagSession"]"#] {
            assert!(trust_policy(&with(good)).is_ok(), "{good}");
        }
        for bad in [r#""*""#, r#"["sts:AssumeRole","s3:GetObject"]"#] {
            let refused = trust_policy(&with(bad)).unwrap_err();
            assert_eq!(
                refused,
                Error::MalformedPolicyDocument(
                    "AssumeRole policy may only specify STS AssumeRole actions.".to_owned()
                )
            );
        }
    }
}
