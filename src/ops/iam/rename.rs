//! Changes of names and paths of users and groups: IAM API Reference, "UpdateUser", "UpdateGroup".

use super::action::{Action, Resource, permit};
use super::change::change;
use super::target::Target;
use crate::base::arn::{IamArn, account_of, name_of, path_of};
use crate::commands::{Command, Edit};
use crate::error::Error;
use crate::ops::context::Context;

/// The parts of a user's or group's ARN that a request changes.
pub(super) struct Rename {
    /// The new name; `None` leaves the name as it is.
    pub name: Option<String>,
    /// The new path; `None` leaves the path as it is.
    pub path: Option<String>,
}

impl Rename {
    /// Renames the entity. The caller must be allowed to perform the action on the current ARN and on the new one. If
    /// the entity has the name and the path already, nothing is written.
    ///
    /// # Errors
    /// [`Error::AccessDenied`], then [`Error::NotFound`] if it does not exist, [`Error::EntityAlreadyExists`] if
    /// another one has the name, and the other errors of [`change`].
    pub(super) async fn run<A: Action>(
        &self,
        cx: &mut Context<'_>,
        target: impl Fn(&Context<'_>) -> Result<Target, Error>,
    ) -> Result<(), Error> {
        let decide = |cx: &mut Context<'_>| {
            let target = target(cx)?;
            let new = self.arn(&target.arn);
            permit::<A>(cx, &target.resource())?;
            if new != target.arn {
                let moved = Resource {
                    arn: &new,
                    shown_as: &new,
                    ..target.resource()
                };
                permit::<A>(cx, &moved)?;
            }
            let name = target.name()?;
            Ok::<_, Error>((name, new != target.arn))
        };
        let (_, differs) = decide(cx)?;
        if !differs {
            return Ok(());
        }
        change(cx, A::NAME, |cx| {
            let (name, _) = decide(cx)?;
            Ok(vec![Command::edit(
                name,
                Edit::Rename {
                    name: self.name.clone(),
                    path: self.path.clone(),
                },
            )])
        })
        .await
    }

    /// Returns the entity's ARN with the new name and path. `present` is its current ARN.
    fn arn(&self, present: &str) -> String {
        let kind = IamArn::parse(present).map_or("", |arn| arn.kind);
        let path = self.path.clone().unwrap_or_else(|| path_of(present));
        let name = self.name.as_deref().unwrap_or(name_of(present));
        IamArn::text(account_of(present), kind, &path, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_arn_has_what_is_given_and_keeps_the_rest() {
        let arn = |name: Option<&str>, path: Option<&str>| {
            let rename = Rename {
                name: name.map(str::to_owned),
                path: path.map(str::to_owned),
            };
            rename.arn("arn:aws:iam::111122223333:group/a/b/Team")
        };
        assert_eq!(arn(None, None), "arn:aws:iam::111122223333:group/a/b/Team");
        assert_eq!(
            arn(Some("New"), None),
            "arn:aws:iam::111122223333:group/a/b/New"
        );
        assert_eq!(
            arn(None, Some("/c/")),
            "arn:aws:iam::111122223333:group/c/Team"
        );
        assert_eq!(
            arn(Some("New"), Some("/")),
            "arn:aws:iam::111122223333:group/New"
        );
    }
}
