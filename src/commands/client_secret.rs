//! Sets or removes the client secret of an OpenID Connect provider, with which people sign in.

use zeroize::Zeroizing;

use super::{Actor, Command, CommandContext, CommandError, Message, read, run};
use crate::base::secret::Secret;
use crate::directory::resource::{Name, Resource, ResourceKind};

/// Sets the secret of the client `client_id` at the provider with this ARN. `None` makes it a public client. From then
/// on, people sign in with this client. No other field of the provider changes. Returns the number of the change in the
/// feed.
///
/// # Errors
/// [`CommandError`] if there is no such provider, if it does not have this client id, if the secret breaks
/// a rule, or if an operation of the store fails. Nothing was changed then, unless the commit failed.
pub async fn put_client_secret(
    cx: CommandContext<'_>,
    actor: &Actor,
    arn: &str,
    client_id: &str,
    secret: Option<&Secret<String>>,
) -> Result<i64, CommandError> {
    let name = Name::new(ResourceKind::OidcProvider, arn);
    let mut writer = cx.store.write().await?;
    let stored = writer.get(&name).await?;
    let old = stored.as_ref().map(|stored| read(&name, &stored.body));
    let (mut provider, expected) = match (old.transpose()?, &stored) {
        (Some(Resource::OidcProvider(old)), Some(stored)) => (old, stored.version),
        _ => {
            writer.abandon().await;
            let what = Message::from(format!("OpenID Connect provider {arn}"));
            return Err(CommandError::NoSuchEntity(what));
        }
    };
    if !provider.client_id_list.iter().any(|id| id == client_id) {
        writer.abandon().await;
        let known = match provider.client_id_list.as_slice() {
            [] => "is empty".to_owned(),
            ids => format!("has {}", ids.join(", ")),
        };
        return Err(CommandError::Validation(format!(
            "`{client_id}` is not in the ClientIDList of {arn}, which {known}. Add the client id with `aws iam \
             add-client-id-to-open-id-connect-provider`"
        )));
    }
    provider.drop_sign_in_client();
    provider.client_id = Some(client_id.to_owned());
    provider.client_secret = secret.map(|secret| Zeroizing::new(secret.expose().clone()));
    let command = Command::Replace {
        resource: Resource::OidcProvider(provider),
        expected: Some(expected),
    };
    if let Err(error) = run(cx, &mut writer, actor, "PutClientSecret", command).await {
        writer.abandon().await;
        return Err(error);
    }
    Ok(writer.commit().await?)
}
