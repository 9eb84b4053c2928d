//! SAML providers: IAM API Reference, "CreateSAMLProvider", "GetSAMLProvider", "UpdateSAMLProvider",
//! "DeleteSAMLProvider" and "ListSAMLProviders".

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::action::{self, Action, permit};
use super::change::{change, delete, invalid_input};
use super::creation::New;
use super::entities;
use super::rows;
use super::target::Target;
use crate::base::legible::Legible;
use crate::commands::{Command, Edit, PrivateKey, SamlUpdate, private_keys};
use crate::directory::declaration::{SamlProviderDetail, Tag};
use crate::directory::resource::Resource;
use crate::error::Error;
use crate::ops::context::Context;
use crate::proof::saml::Metadata;

/// The parameters of AWS's requests that Brevet supports only in part or not at all.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NotAvailable {
    assertion_encryption_mode: Option<String>,
    context_provider: Option<IgnoredAny>,
    identity_center_instance_arn: Option<IgnoredAny>,
    remove_context_provider: Option<IgnoredAny>,
    remove_identity_center_instance: Option<IgnoredAny>,
}

impl NotAvailable {
    /// Checks that the request asks for nothing that is not available. An `AssertionEncryptionMode` other than
    /// `Required` is accepted.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with the name of the unsupported parameter.
    fn check(&self) -> Result<(), Error> {
        let rule = if self.assertion_encryption_mode.as_deref() == Some("Required") {
            "AssertionEncryptionMode cannot be Required, because Brevet accepts unencrypted assertions, too."
        } else if self.context_provider.is_some()
            || self.identity_center_instance_arn.is_some()
            || self.remove_context_provider.is_some()
            || self.remove_identity_center_instance.is_some()
        {
            "ContextProvider and IdentityCenterInstanceArn are not supported: leave them out."
        } else {
            return Ok(());
        };
        Err(Error::InvalidInput(rule.to_owned()))
    }
}

/// Parses a metadata document, and checks that it has not expired.
///
/// # Errors
/// [`Error::InvalidInput`] with the rule that it breaks.
fn metadata(cx: &Context<'_>, document: &str) -> Result<Metadata, Error> {
    let invalid = |rule: String| Error::InvalidInput(format!("SAMLMetadataDocument: {rule}"));
    let metadata =
        Metadata::parse(document.as_bytes()).map_err(|error| invalid(error.to_string()))?;
    match metadata.usable_until().filter(|end| *end <= cx.now) {
        Some(end) => Err(invalid(format!(
            "the metadata or the last of its signing certificates expired at {end}"
        ))),
        None => Ok(metadata),
    }
}

/// Creates a provider from the metadata document of an identity provider.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateSamlProvider {
    #[serde(rename = "SAMLMetadataDocument")]
    document: String,
    name: String,
    #[serde(default)]
    tags: Vec<Tag>,
    add_private_key: Option<Zeroizing<String>>,
    #[serde(flatten)]
    not_available: NotAvailable,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    #[serde(rename = "SAMLProviderArn")]
    arn: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

impl Action for CreateSamlProvider {
    const NAME: &'static str = "CreateSAMLProvider";
    const READ_ONLY: bool = false;
    type Output = Created;

    async fn run(self, cx: &mut Context<'_>) -> Result<Created, Error> {
        let account = cx.caller().account();
        let arn = format!("arn:aws:iam::{account}:saml-provider/{}", self.name);
        let new = New {
            arn: &arn,
            tags: &self.tags,
            boundary: None,
            tagging: "iam:TagSAMLProvider",
        };
        new.permit::<Self>(cx)?;
        self.not_available.check()?;
        new.check_tags()?;
        let idp = metadata(cx, &self.document)?;
        let provider = SamlProviderDetail {
            arn: arn.clone(),
            saml_metadata_document: self.document.clone(),
            create_date: Some(cx.now.to_string()),
            valid_until: idp.usable_until().map(|end| end.to_string()),
            assertion_encryption_mode: self.not_available.assertion_encryption_mode.clone(),
            tags: self.tags.clone(),
            ..SamlProviderDetail::default()
        };
        let changed = change(cx, Self::NAME, |cx| {
            new.permit::<Self>(cx)?;
            let mut commands = vec![Command::Create(Resource::SamlProvider(provider.clone()))];
            if let Some(key) = &self.add_private_key {
                commands.push(Command::edit(
                    Resource::SamlProvider(provider.clone()).name(),
                    Edit::UpdateSamlProvider(Box::new(SamlUpdate {
                        add_private_key: Some(key.clone()),
                        ..SamlUpdate::default()
                    })),
                ));
            }
            Ok(commands)
        });
        changed.await.map_err(|error| match error {
            Error::EntityAlreadyExists(_) => Error::EntityAlreadyExists(format!(
                "SAMLProvider with name {} already exists.",
                self.name
            )),
            other => invalid_input(other),
        })?;
        Ok(Created {
            arn,
            tags: entities::sorted(self.tags),
        })
    }
}

#[derive(Deserialize)]
pub struct GetSamlProvider {
    #[serde(rename = "SAMLProviderArn")]
    arn: String,
}

/// A provider in the form of answers. Private keys appear only with their ids and dates.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shown {
    #[serde(rename = "SAMLProviderUUID")]
    uuid: Option<String>,
    #[serde(rename = "SAMLMetadataDocument")]
    document: String,
    create_date: String,
    valid_until: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
    assertion_encryption_mode: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    private_key_list: Vec<PrivateKey>,
}

impl Action for GetSamlProvider {
    const NAME: &'static str = "GetSAMLProvider";
    const READ_ONLY: bool = true;
    type Output = Shown;

    async fn run(self, cx: &mut Context<'_>) -> Result<Shown, Error> {
        let target = Target::saml_provider(cx, &self.arn);
        let Resource::SamlProvider(provider) = rows::one::<Self>(cx, &target).await? else {
            return Err(target.not_found());
        };
        Ok(Shown {
            private_key_list: private_keys(&provider),
            uuid: provider.saml_provider_uuid,
            document: provider.saml_metadata_document,
            create_date: entities::date(provider.create_date),
            valid_until: provider.valid_until,
            tags: entities::sorted(provider.tags),
            assertion_encryption_mode: provider.assertion_encryption_mode,
        })
    }
}

/// Changes the metadata document or the private keys of a provider.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateSamlProvider {
    #[serde(rename = "SAMLProviderArn")]
    arn: String,
    #[serde(rename = "SAMLMetadataDocument")]
    document: Option<String>,
    add_private_key: Option<Zeroizing<String>>,
    remove_private_key: Option<String>,
    #[serde(flatten)]
    not_available: NotAvailable,
}

#[derive(Serialize)]
pub struct Updated {
    #[serde(rename = "SAMLProviderArn")]
    arn: String,
}

impl Action for UpdateSamlProvider {
    const NAME: &'static str = "UpdateSAMLProvider";
    const READ_ONLY: bool = false;
    type Output = Updated;

    async fn run(self, cx: &mut Context<'_>) -> Result<Updated, Error> {
        let changed = change(cx, Self::NAME, |cx| {
            let target = Target::saml_provider(cx, &self.arn);
            permit::<Self>(cx, &target.resource())?;
            let name = target.name()?;
            self.not_available.check()?;
            let idp = self.document.as_deref().map(|text| metadata(cx, text));
            let idp = idp.transpose()?;
            if let Some(idp) = &idp {
                same_identity_provider(cx, &self.arn, idp)?;
            }
            let valid_until = idp.as_ref().and_then(Metadata::usable_until);
            let edit = Edit::UpdateSamlProvider(Box::new(SamlUpdate {
                metadata: self.document.clone().map(|text| (text, valid_until)),
                encryption_mode: self.not_available.assertion_encryption_mode.clone(),
                remove_private_key: self.remove_private_key.clone(),
                add_private_key: self.add_private_key.clone(),
            }));
            Ok(vec![Command::edit(name, edit)])
        });
        changed.await.map_err(invalid_input)?;
        Ok(Updated { arn: self.arn })
    }
}

/// Checks that new metadata belongs to the same identity provider as before, because roles trust
/// the SAML provider for the people of that identity provider.
///
/// # Errors
/// [`Error::InvalidInput`] if the metadata has another entity ID.
fn same_identity_provider(cx: &Context<'_>, arn: &str, idp: &Metadata) -> Result<(), Error> {
    let old = cx.directory.saml_provider(arn);
    let old = old.and_then(|provider| provider.metadata.as_ref().ok());
    match old.filter(|old| old.entity_id() != idp.entity_id()) {
        Some(old) => Err(Error::InvalidInput(format!(
            "SAMLMetadataDocument: the SAML provider is for the identity provider `{}`, but the new metadata is \
             that of `{}`. Create a SAML provider for each identity provider.",
            Legible(old.entity_id()),
            Legible(idp.entity_id())
        ))),
        None => Ok(()),
    }
}

/// Deletes a provider and ends the sessions that were issued for its assertions.
#[derive(Deserialize)]
pub struct DeleteSamlProvider {
    #[serde(rename = "SAMLProviderArn")]
    arn: String,
}

impl Action for DeleteSamlProvider {
    const NAME: &'static str = "DeleteSAMLProvider";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        delete::<Self>(cx, |cx| Ok(Target::saml_provider(cx, &self.arn))).await
    }
}

/// Lists all SAML providers of the account, without paging.
#[derive(Deserialize)]
pub struct ListSamlProviders {}

#[derive(Serialize)]
pub struct Providers {
    #[serde(rename = "SAMLProviderList")]
    list: Vec<Listed>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    arn: String,
    valid_until: Option<String>,
    create_date: Option<String>,
}

impl Action for ListSamlProviders {
    const NAME: &'static str = "ListSAMLProviders";
    const READ_ONLY: bool = true;
    type Output = Providers;

    async fn run(self, cx: &mut Context<'_>) -> Result<Providers, Error> {
        permit::<Self>(cx, &action::Resource::any())?;
        let account = cx.caller().account();
        let own = cx.directory.saml_providers();
        let own = own.filter(|provider| provider.account == account);
        let mut list: Vec<Listed> = own
            .map(|provider| Listed {
                arn: provider.arn.to_string(),
                valid_until: provider.valid_until.as_deref().map(str::to_owned),
                create_date: provider.create_date.as_deref().map(str::to_owned),
            })
            .collect();
        list.sort();
        Ok(Providers { list })
    }
}
