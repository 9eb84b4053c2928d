//! Associations of workloads with roles: pods of a Kubernetes cluster by their service account, and tasks of Amazon ECS
//! by their family. They decide which role AssumeRoleForWorkload gives to a workload of a node.

use crate::base::arn::{AccountId, account_of, name_of};
use crate::base::entropy::NoEntropy;
use crate::base::names::is_label;
use crate::directory::declared::{Declared, Defaults, Insertion, Source, keep};
use crate::directory::limits::Limits;
use crate::directory::name::{Name, ResourceKind, folded};
use crate::directory::shape::shape;
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};

/// The audience that the tokens of pods must have unless an association sets another one: Amazon EKS User Guide,
/// "Understand how EKS Pod Identity works".
const POD_AUDIENCE: &str = "pods.eks.amazonaws.com";
/// The maximum length in characters of the name of a cluster or family.
const MAX_NAME: usize = 100;
/// The maximum length of the name of a namespace or service account: Kubernetes limits them like the subdomains of
/// RFC 1123.
const MAX_KUBERNETES_NAME: usize = 253;

shape! {
    /// Gives a role to the pods that run under a service account of Kubernetes, or to the tasks of a family of Amazon
    /// ECS. For pods, it sets `Namespace`, `ServiceAccount` and `ProviderArn`; for tasks, `Family`.
    AssociationDetail {
        /// The ARN, which may be left out, because it is made of the other fields.
        arn: String,
        role_arn: String,
        cluster: String,
        namespace: Option<String>,
        service_account: Option<String>,
        /// The OpenID Connect provider that signs the tokens of the cluster's service accounts.
        provider_arn: Option<String>,
        /// The audience that a pod's token must have. The default is `pods.eks.amazonaws.com`.
        audience: Option<String>,
        family: Option<String>,
        create_date: Option<String>,
    }
}

/// A compiled association, in a snapshot.
#[derive(Debug)]
pub struct Association {
    arn: Box<str>,
    /// The ARN of the role, which is in the association's account.
    pub role_arn: Box<str>,
    /// The requirements for the service-account tokens of pods; `None` for an association of tasks.
    pub tokens: Option<PodTokens>,
}

/// The requirements of an association for the service-account token that a pod presents.
#[derive(Debug)]
pub struct PodTokens {
    /// The ARN of the provider that must have signed the tokens.
    pub provider_arn: Box<str>,
    /// The audience that the tokens must have, and no other one.
    pub audience: Box<str>,
}

impl Keyed for Association {
    fn key(&self) -> &str {
        &self.arn
    }
}

impl AssociationDetail {
    /// Whether the association gives its role to tasks of Amazon ECS and not to pods.
    pub fn is_of_tasks(&self) -> bool {
        self.family.is_some()
    }

    /// Makes the ARN from the other fields.
    fn made_arn(&self) -> String {
        let account = account_of(&self.role_arn);
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        match &self.family {
            Some(family) => of_tasks(account, &self.cluster, family),
            None => of_pods(
                account,
                &self.cluster,
                &text(&self.namespace),
                &text(&self.service_account),
            ),
        }
    }

    /// The rules for the token that a pod must show; `None` for an association of tasks.
    ///
    /// # Errors
    /// [`DirectoryError`] that names the first field that breaks a rule. `place` is where the association is declared.
    fn tokens(&self, place: &str) -> Result<Option<PodTokens>, DirectoryError> {
        let broken = |field: &str, rule: &str| Err(fault(format!("{place}: {field}"), rule));
        match (&self.family, &self.namespace, &self.service_account) {
            (Some(family), None, None)
                if self.provider_arn.is_none() && self.audience.is_none() =>
            {
                if !is_label(family, MAX_NAME) {
                    return broken("Family", "must be 1 to 100 letters, digits, `-` or `_`");
                }
                Ok(None)
            }
            (None, Some(namespace), Some(service_account)) => {
                for (field, text) in [
                    ("Namespace", namespace),
                    ("ServiceAccount", service_account),
                ] {
                    if !is_kubernetes_name(text) {
                        return broken(
                            field,
                            "must be a Kubernetes name: 1 to 253 lower-case letters, digits, `-` or `.`",
                        );
                    }
                }
                let Some(provider_arn) = &self.provider_arn else {
                    return broken(
                        "ProviderArn",
                        "is required; set it to the ARN of the OpenID Connect provider that issues the \
                        service-account tokens of the cluster",
                    );
                };
                if account_of(provider_arn) != account_of(&self.role_arn) {
                    return broken("ProviderArn", "must be in the same account as RoleArn");
                }
                let audience = self.audience.as_deref().unwrap_or(POD_AUDIENCE);
                if !(1..=255).contains(&audience.chars().count()) {
                    return broken("Audience", "must be 1 to 255 characters");
                }
                Ok(Some(PodTokens {
                    provider_arn: provider_arn.as_str().into(),
                    audience: audience.into(),
                }))
            }
            _ => {
                let rule = "must have either Namespace, ServiceAccount and ProviderArn (for pods), or Family without any of these and \
                            without Audience (for tasks)";
                Err(fault(place, rule))
            }
        }
    }
}

/// The ARN of the association of a service account.
pub fn of_pods(account: &str, cluster: &str, namespace: &str, service_account: &str) -> String {
    format!("arn:aws:eks::{account}:podidentityassociation/{cluster}/{namespace}/{service_account}")
}

/// The ARN of the association of a family of tasks.
pub fn of_tasks(account: &str, cluster: &str, family: &str) -> String {
    format!("arn:aws:ecs::{account}:task-definition/{cluster}/{family}")
}

impl Declared for AssociationDetail {
    fn id(&self) -> &str {
        &self.arn
    }

    /// The ARN as it is, because names of clusters and families are case-sensitive.
    fn folded(&self) -> String {
        self.arn.clone()
    }

    fn links(&self) -> Vec<Name> {
        let provider = self.provider_arn.as_deref();
        let provider = provider.map(|arn| Name::new(ResourceKind::OidcProvider, arn));
        let role = folded(account_of(&self.role_arn), name_of(&self.role_arn));
        let role = Name::new(ResourceKind::Role, role);
        provider.into_iter().chain([role]).collect()
    }

    /// Sets the ARN if it was left out.
    fn drop_what_is_observed(&mut self) {
        if self.arn.is_empty() {
            self.arn = self.made_arn();
        }
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        Ok(())
    }

    fn keep_what_is_left_out(&mut self, old: &Self) {
        keep(&mut self.create_date, &old.create_date);
    }

    fn check(&self, _: &mut Limits<'_>) {}

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let place = how.place;
        let broken = |field: &str, rule: &str| Err(fault(format!("{place}: {field}"), rule));
        if AccountId::parse(account_of(&self.role_arn)).is_none() {
            return broken(
                "RoleArn",
                "must be the ARN of a role: `arn:aws:iam::ACCOUNT:role/NAME`",
            );
        }
        // The store checks the references of its rows itself.
        let is_file = matches!(how.source, Source::File(_));
        if is_file && directory.roles.get(&self.role_arn).is_none() {
            return broken("RoleArn", "must be the ARN of a role in this file");
        }
        if !is_label(&self.cluster, MAX_NAME) {
            return broken("Cluster", "must be 1 to 100 letters, digits, `-` or `_`");
        }
        let tokens = self.tokens(place)?;
        if self.arn != self.made_arn() {
            let rule = format!("must be left out, or be `{}`", self.made_arn());
            return broken("Arn", &rule);
        }
        directory.associations.put(Association {
            arn: self.arn.as_str().into(),
            role_arn: self.role_arn.as_str().into(),
            tokens,
        });
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.associations.remove(id);
    }
}

/// Whether the text can be the name of a Kubernetes object.
fn is_kubernetes_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    (1..=MAX_KUBERNETES_NAME).contains(&text.len()) && text.bytes().all(legal)
}
