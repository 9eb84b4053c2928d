//! Creates a SAML provider from its metadata document, or replaces the document of an existing one.

use super::{Actor, Command, CommandContext, CommandError, read, run};
use crate::base::arn::SamlProviderArn;
use crate::base::legible::Legible;
use crate::directory::declaration::SamlProviderDetail;
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::proof::saml::Metadata;

/// The effect of [`put_saml_provider`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Created the provider. The number is that of the change in the feed.
    Created(i64),
    /// Replaced the document of the provider. The number is that of the change in the feed.
    Renewed(i64),
    /// Changed nothing, because the provider already has this document.
    Unchanged,
}

/// Creates the provider with this ARN and metadata document. If it exists, only its document is replaced. `idp` is the
/// parsed document. Its entity ID must be that of the replaced document, unless `may_be_another` is set.
///
/// # Errors
/// [`CommandError`] if `arn` is not the ARN of a SAML provider, if the document breaks a rule, if its entity ID is
/// another one and `may_be_another` is not set, or if an operation of the store fails. Nothing was changed then, unless
/// the commit failed.
pub async fn put_saml_provider(
    cx: CommandContext<'_>,
    actor: &Actor,
    arn: &str,
    document: &str,
    idp: &Metadata,
    may_be_another: bool,
) -> Result<Put, CommandError> {
    SamlProviderArn::parse("Arn", arn)
        .map_err(|error| CommandError::Validation(format!("Arn {}", error.rule)))?;
    let name = Name::new(ResourceKind::SamlProvider, arn);
    let mut writer = cx.store.write().await?;
    let stored = writer.get(&name).await?;
    let old = stored.as_ref().map(|stored| read(&name, &stored.body));
    let (mut detail, is_new) = match old.transpose()? {
        Some(Resource::SamlProvider(old)) => (old, false),
        _ => (
            SamlProviderDetail {
                arn: arn.to_owned(),
                ..SamlProviderDetail::default()
            },
            true,
        ),
    };
    if !is_new && detail.saml_metadata_document == document {
        writer.abandon().await;
        return Ok(Put::Unchanged);
    }
    let old = Metadata::parse(detail.saml_metadata_document.as_bytes());
    let other = old.ok().filter(|old| old.entity_id() != idp.entity_id());
    if let Some(old) = other.filter(|_| !may_be_another) {
        writer.abandon().await;
        return Err(CommandError::Validation(format!(
            "{arn} has the entity ID `{}`, but the new metadata has the entity ID `{}`; add --force if another \
            identity provider shall replace this one",
            Legible(old.entity_id()),
            Legible(idp.entity_id())
        )));
    }
    document.clone_into(&mut detail.saml_metadata_document);
    detail.valid_until = idp.usable_until().map(|end| end.to_string());
    let resource = Resource::SamlProvider(detail);
    let (action, command) = match &stored {
        None => ("CreateSAMLProvider", Command::Create(resource)),
        Some(stored) => (
            "UpdateSAMLProvider",
            Command::Replace {
                resource,
                expected: Some(stored.version),
            },
        ),
    };
    if let Err(error) = run(cx, &mut writer, actor, action, command).await {
        writer.abandon().await;
        return Err(error);
    }
    let sequence = writer.commit().await?;
    Ok(match is_new {
        true => Put::Created(sequence),
        false => Put::Renewed(sequence),
    })
}
