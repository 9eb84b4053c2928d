//! OpenID Connect providers: IAM API Reference, "CreateOpenIDConnectProvider",
//! "GetOpenIDConnectProvider", "ListOpenIDConnectProviders", "DeleteOpenIDConnectProvider",
//! "UpdateOpenIDConnectProviderThumbprint", "AddClientIDToOpenIDConnectProvider" and
//! "RemoveClientIDFromOpenIDConnectProvider".

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::action::{self, Action, permit};
use super::change::{change, delete, invalid_input};
use super::creation::New;
use super::entities;
use super::rows;
use super::target::Target;
use crate::commands::{Command, Edit};
use crate::directory::declaration::{OidcProviderDetail, Tag};
use crate::directory::resource::Resource;
use crate::error::Error;
use crate::ops::context::Context;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateOpenIdConnectProvider {
    url: String,
    #[serde(rename = "ClientIDList", default)]
    client_ids: Vec<String>,
    #[serde(rename = "ThumbprintList", default)]
    thumbprints: Vec<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    context_provider: Option<IgnoredAny>,
    identity_center_instance_arn: Option<IgnoredAny>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

impl Action for CreateOpenIdConnectProvider {
    const NAME: &'static str = "CreateOpenIDConnectProvider";
    const READ_ONLY: bool = false;
    type Output = Created;

    async fn run(self, cx: &mut Context<'_>) -> Result<Created, Error> {
        let account = cx.caller().account();
        let invalid = |rule: &str| Error::InvalidInput(rule.to_owned());
        let name = self.url.strip_prefix("https://");
        let name = name.ok_or_else(|| invalid("Url must begin with https://."))?;
        let arn = format!("arn:aws:iam::{account}:oidc-provider/{name}");
        let new = New {
            arn: &arn,
            tags: &self.tags,
            boundary: None,
            tagging: "iam:TagOpenIDConnectProvider",
        };
        new.permit::<Self>(cx)?;
        new.check_tags()?;
        if self.context_provider.is_some() || self.identity_center_instance_arn.is_some() {
            let rule =
                "ContextProvider and IdentityCenterInstanceArn are not supported: leave them out.";
            return Err(invalid(rule));
        }
        let provider = OidcProviderDetail {
            arn: arn.clone(),
            url: self.url.clone(),
            client_id_list: self.client_ids.clone(),
            thumbprint_list: self.thumbprints.clone(),
            create_date: Some(cx.now.to_string()),
            tags: self.tags.clone(),
            ..OidcProviderDetail::default()
        };
        let changed = change(cx, Self::NAME, |cx| {
            new.permit::<Self>(cx)?;
            let provider = Resource::OidcProvider(provider.clone());
            Ok(vec![Command::Create(provider)])
        });
        changed.await.map_err(|error| match error {
            Error::EntityAlreadyExists(_) => Error::EntityAlreadyExists(format!(
                "Provider with url {} already exists.",
                self.url
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
pub struct GetOpenIdConnectProvider {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
}

/// A provider in the form of answers. As in AWS's answers, `Url` has no scheme.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shown {
    url: String,
    #[serde(rename = "ClientIDList")]
    client_ids: Vec<String>,
    #[serde(rename = "ThumbprintList")]
    thumbprints: Vec<String>,
    create_date: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

impl Action for GetOpenIdConnectProvider {
    const NAME: &'static str = "GetOpenIDConnectProvider";
    const READ_ONLY: bool = true;
    type Output = Shown;

    async fn run(self, cx: &mut Context<'_>) -> Result<Shown, Error> {
        let target = Target::oidc_provider(cx, &self.arn);
        let Resource::OidcProvider(provider) = rows::one::<Self>(cx, &target).await? else {
            return Err(target.not_found());
        };
        let url = provider.url;
        let url = url
            .strip_prefix("https://")
            .map(str::to_owned)
            .unwrap_or(url);
        Ok(Shown {
            url,
            client_ids: provider.client_id_list,
            thumbprints: provider.thumbprint_list,
            create_date: entities::date(provider.create_date),
            tags: entities::sorted(provider.tags),
        })
    }
}

/// Lists the ARNs of all providers of the account, without paging.
#[derive(Deserialize)]
pub struct ListOpenIdConnectProviders {}

#[derive(Serialize)]
pub struct Providers {
    #[serde(rename = "OpenIDConnectProviderList")]
    list: Vec<Listed>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    arn: String,
}

impl Action for ListOpenIdConnectProviders {
    const NAME: &'static str = "ListOpenIDConnectProviders";
    const READ_ONLY: bool = true;
    type Output = Providers;

    async fn run(self, cx: &mut Context<'_>) -> Result<Providers, Error> {
        permit::<Self>(cx, &action::Resource::any())?;
        let account = cx.caller().account();
        let own = cx.directory.oidc_providers();
        let own = own.filter(|provider| provider.account == account);
        let mut list: Vec<Listed> = own
            .map(|provider| Listed {
                arn: provider.arn.to_string(),
            })
            .collect();
        list.sort();
        Ok(Providers { list })
    }
}

/// Deletes a provider and ends the sessions that were issued for its tokens.
#[derive(Deserialize)]
pub struct DeleteOpenIdConnectProvider {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
}

impl Action for DeleteOpenIdConnectProvider {
    const NAME: &'static str = "DeleteOpenIDConnectProvider";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        delete::<Self>(cx, |cx| Ok(Target::oidc_provider(cx, &self.arn))).await
    }
}

/// Replaces the thumbprints of a provider.
#[derive(Deserialize)]
pub struct UpdateOpenIdConnectProviderThumbprint {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
    #[serde(rename = "ThumbprintList")]
    thumbprints: Vec<String>,
}

impl Action for UpdateOpenIdConnectProviderThumbprint {
    const NAME: &'static str = "UpdateOpenIDConnectProviderThumbprint";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let edit = Edit::UpdateThumbprints(self.thumbprints);
        edited::<Self>(cx, &self.arn, &edit).await
    }
}

/// Adds a client id (an audience) to a provider.
#[derive(Deserialize)]
pub struct AddClientIdToOpenIdConnectProvider {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
    #[serde(rename = "ClientID")]
    client_id: String,
}

impl Action for AddClientIdToOpenIdConnectProvider {
    const NAME: &'static str = "AddClientIDToOpenIDConnectProvider";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let edit = Edit::AddClientId(self.client_id);
        edited::<Self>(cx, &self.arn, &edit).await
    }
}

/// Removes a client id from a provider.
#[derive(Deserialize)]
pub struct RemoveClientIdFromOpenIdConnectProvider {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
    #[serde(rename = "ClientID")]
    client_id: String,
}

impl Action for RemoveClientIdFromOpenIdConnectProvider {
    const NAME: &'static str = "RemoveClientIDFromOpenIDConnectProvider";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let edit = Edit::RemoveClientId(self.client_id);
        edited::<Self>(cx, &self.arn, &edit).await
    }
}

async fn edited<A: Action>(cx: &mut Context<'_>, arn: &str, edit: &Edit) -> Result<(), Error> {
    let changed = change(cx, A::NAME, |cx| {
        let target = Target::oidc_provider(cx, arn);
        permit::<A>(cx, &target.resource())?;
        Ok(vec![Command::edit(target.name()?, edit.clone())])
    });
    changed.await.map_err(invalid_input)
}
