//! A SAML provider by its metadata document: created, or given a newer document.

use super::{Actor, Command, CommandContext, CommandError, read, run};
use crate::base::arn::SamlProviderArn;
use crate::directory::declaration::SamlProviderDetail;
use crate::directory::resource::{Kind, Name, Resource};
use crate::proof::saml::Metadata;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// By the change of that number.
    Created(i64),
    /// By the change of that number.
    Renewed(i64),
    /// It has that document already.
    Unchanged,
}

/// Creates the provider of that ARN with a metadata document, which `idp` was read from; or gives the
/// document to the provider that there is, of which everything else stays.
///
/// # Errors
/// When the ARN is none of a SAML provider, the document breaks a rule, or the store does not answer;
/// nothing was changed.
pub async fn put_saml_provider(
    cx: CommandContext<'_>,
    actor: &Actor,
    arn: &str,
    document: &str,
    idp: &Metadata,
) -> Result<Put, CommandError> {
    SamlProviderArn::parse("Arn", arn)
        .map_err(|error| CommandError::Validation(format!("Arn {}", error.rule)))?;
    let name = Name::new(Kind::SamlProvider, arn);
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
