//! Kinds of credentials that no user of this broker can have: SSH keys, signing certificates,
//! service-specific credentials and server certificates. Clients list them before they delete a
//! user, so Brevet answers with empty lists. Actions on a single credential answer that it does not
//! exist.

use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permit};
use super::page::{PageEnd, PageRequest};
use super::target::Target;
use crate::error::Error;
use crate::ops::context::Context;

/// A request for a page of one user's credentials.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListOfUser {
    user_name: Option<String>,
    #[serde(default)]
    all_users: bool,
    #[serde(flatten)]
    page: PageRequest,
}

/// A request for a page of server certificates.
#[derive(Deserialize)]
pub struct ListOfAccount {
    #[serde(flatten)]
    page: PageRequest,
}

/// A request that names one credential of a user.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OneOfUser {
    user_name: Option<String>,
    #[serde(alias = "SSHPublicKeyId", alias = "ServiceSpecificCredentialId")]
    certificate_id: String,
}

/// A request that names one server certificate.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OneOfAccount {
    server_certificate_name: String,
}

/// An empty page that contains the list of every kind of credential, under the name that its action
/// uses.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NoItems {
    #[serde(rename = "SSHPublicKeys")]
    ssh_public_keys: [(); 0],
    certificates: [(); 0],
    service_specific_credentials: [(); 0],
    server_certificate_metadata_list: [(); 0],
    #[serde(flatten)]
    end: PageEnd,
}

/// The output of an action that never succeeds. It has no values.
#[derive(Serialize)]
pub enum Never {}

impl ListOfUser {
    async fn answer<A: Action>(self, cx: &mut Context<'_>) -> Result<NoItems, Error> {
        if self.all_users && self.user_name.is_none() {
            permit::<A>(cx, &Resource::any())?;
        } else {
            let target = Target::user(cx, self.user_name.as_deref())?;
            permit::<A>(cx, &target.resource())?;
            target.name()?;
        }
        no_items(&self.page)
    }
}

impl ListOfAccount {
    async fn answer<A: Action>(self, cx: &mut Context<'_>) -> Result<NoItems, Error> {
        permit::<A>(cx, &Resource::any())?;
        no_items(&self.page)
    }
}

fn no_items(page: &PageRequest) -> Result<NoItems, Error> {
    let (_, end) = page.take(std::iter::empty::<&str>(), |name| name)?;
    Ok(NoItems {
        ssh_public_keys: [],
        certificates: [],
        service_specific_credentials: [],
        server_certificate_metadata_list: [],
        end,
    })
}

impl OneOfUser {
    async fn answer<A: Action>(self, cx: &mut Context<'_>) -> Result<Never, Error> {
        let target = Target::user(cx, self.user_name.as_deref())?;
        permit::<A>(cx, &target.resource())?;
        target.name()?;
        let what = match A::NAME {
            name if name.ends_with("SSHPublicKey") => "SSH Public Key",
            name if name.ends_with("SigningCertificate") => "Certificate",
            _ => "Service Specific Credential",
        };
        let id = self.certificate_id;
        Err(Error::NotFound(format!(
            "The {what} with id {id} cannot be found."
        )))
    }
}

impl OneOfAccount {
    async fn answer<A: Action>(self, cx: &mut Context<'_>) -> Result<Never, Error> {
        let (account, name) = (cx.caller().account(), self.server_certificate_name);
        let arn = format!("arn:aws:iam::{account}:server-certificate/{name}");
        permit::<A>(cx, &Resource::new(&arn, &[]))?;
        Err(Error::NotFound(format!(
            "The Server Certificate with name {name} cannot be found."
        )))
    }
}

/// Defines the actions that share one kind of request and answer.
macro_rules! absent {
    ($input:ident -> $output:ident, read_only: $read_only:literal; $($action:ident = $name:literal),+ $(,)?) => {$(
        #[doc = concat!($name, ": IAM API Reference.")]
        #[derive(Deserialize)]
        pub struct $action($input);

        impl Action for $action {
            const NAME: &'static str = $name;
            const READ_ONLY: bool = $read_only;
            type Output = $output;

            async fn run(self, cx: &mut Context<'_>) -> Result<$output, Error> {
                self.0.answer::<Self>(cx).await
            }
        }
    )+};
}

absent! {
    ListOfUser -> NoItems, read_only: true;
    ListServiceSpecificCredentials = "ListServiceSpecificCredentials",
    ListSigningCertificates = "ListSigningCertificates",
    ListSshPublicKeys = "ListSSHPublicKeys",
}

absent! {
    ListOfAccount -> NoItems, read_only: true;
    ListServerCertificates = "ListServerCertificates",
}

absent! {
    OneOfUser -> Never, read_only: true;
    GetSshPublicKey = "GetSSHPublicKey",
}

absent! {
    OneOfUser -> Never, read_only: false;
    DeleteServiceSpecificCredential = "DeleteServiceSpecificCredential",
    DeleteSigningCertificate = "DeleteSigningCertificate",
    DeleteSshPublicKey = "DeleteSSHPublicKey",
    ResetServiceSpecificCredential = "ResetServiceSpecificCredential",
    UpdateServiceSpecificCredential = "UpdateServiceSpecificCredential",
    UpdateSigningCertificate = "UpdateSigningCertificate",
    UpdateSshPublicKey = "UpdateSSHPublicKey",
}

absent! {
    OneOfAccount -> Never, read_only: true;
    GetServerCertificate = "GetServerCertificate",
    ListServerCertificateTags = "ListServerCertificateTags",
}

absent! {
    OneOfAccount -> Never, read_only: false;
    DeleteServerCertificate = "DeleteServerCertificate",
    TagServerCertificate = "TagServerCertificate",
    UntagServerCertificate = "UntagServerCertificate",
    UpdateServerCertificate = "UpdateServerCertificate",
}
