//! The format of the directory file: the output of `aws iam get-account-authorization-details`, and
//! a section `Brevet`. Each list holds the declared form of one kind of resource.

use std::collections::{BTreeSet, HashMap};

use super::name::folded;
use super::resource::Resource;
use super::shape::shape;
use crate::base::arn::{AccountId, account_of};

pub use super::kinds::{
    AccessKeyDetail, Account, AssociationDetail, BucketPolicyDetail, CertificateDetail,
    GroupDetail, InstanceProfile, LoginProfileDetail, ManagedPolicyDetail, MfaDeviceDetail,
    OidcProviderDetail, OrganizationDetail, PasswordPolicyDetail, PolicyVersion, ProfileRole,
    RoleDetail, SamlProviderDetail, UserDetail,
};
pub use super::shape::{Attached, Boundary, Document, Ignored, InlinePolicy, Tag};

shape! {
    /// The whole directory file.
    Declaration {
        user_detail_list: Vec<UserDetail>,
        group_detail_list: Vec<GroupDetail>,
        role_detail_list: Vec<RoleDetail>,
        policies: Vec<ManagedPolicyDetail>,
        /// Whether this is only a page of a longer answer. A file in which this is true is refused,
        /// since it is incomplete.
        is_truncated: Option<bool>,
        marker: Option<String>,
        /// The AWS CLI's mark of an incomplete answer.
        next_token: Option<String>,
        response_metadata: Ignored,
        brevet: Brevet,
    }
}

shape! {
    /// The resources that AWS's export does not contain.
    Brevet {
        accounts: Vec<Account>,
        /// Instance profiles that are not in the list of any role of the export.
        instance_profiles: Vec<InstanceProfile>,
        access_keys: Vec<AccessKeyDetail>,
        /// The client certificates by which the broker recognizes users.
        certificates: Vec<CertificateDetail>,
        #[serde(rename = "MFADevices")]
        mfa_devices: Vec<MfaDeviceDetail>,
        login_profiles: Vec<LoginProfileDetail>,
        #[serde(rename = "OpenIDConnectProviders")]
        open_id_connect_providers: Vec<OidcProviderDetail>,
        #[serde(rename = "SAMLProviders")]
        saml_providers: Vec<SamlProviderDetail>,
        /// The roles of Kubernetes pods, by cluster, namespace and service account.
        pod_associations: Vec<AssociationDetail>,
        /// The roles of Amazon ECS tasks, by cluster and family.
        task_associations: Vec<AssociationDetail>,
        /// The policies of buckets, which decide about requests to object stores.
        bucket_policies: Vec<BucketPolicyDetail>,
        /// The organization to which accounts belong, as `aws organizations` prints it.
        organization: Option<Box<OrganizationDetail>>,
    }
}

impl Declaration {
    /// Returns all resources that a file declares, each kind after those to which it refers. Values
    /// that an export only observes (attachment counts, last use) are dropped, and URL-encoded
    /// documents are decoded.
    ///
    /// # Errors
    /// A message with the ARN or id of the resource if a document of it cannot be decoded.
    pub fn into_resources(self) -> Result<Vec<Resource>, String> {
        let mut roles = self.role_detail_list;
        let brevet = self.brevet;
        let mut profiles = brevet.instance_profiles;
        for role in &mut roles {
            profiles.append(&mut role.instance_profile_list);
        }
        let mut all: Vec<Resource> = self.policies.into_iter().map(Resource::Policy).collect();
        all.extend(self.group_detail_list.into_iter().map(Resource::Group));
        all.extend(self.user_detail_list.into_iter().map(Resource::User));
        all.extend(roles.into_iter().map(|role| Resource::Role(Box::new(role))));
        all.extend(profiles.into_iter().map(Resource::InstanceProfile));
        all.extend(brevet.access_keys.into_iter().map(Resource::AccessKey));
        all.extend(brevet.certificates.into_iter().map(Resource::Certificate));
        all.extend(brevet.mfa_devices.into_iter().map(Resource::MfaDevice));
        let login_profiles = brevet.login_profiles.into_iter();
        all.extend(login_profiles.map(Resource::LoginProfile));
        let oidc_providers = brevet.open_id_connect_providers.into_iter();
        all.extend(oidc_providers.map(Resource::OidcProvider));
        all.extend(
            brevet
                .saml_providers
                .into_iter()
                .map(Resource::SamlProvider),
        );
        let associations = brevet.pod_associations.into_iter();
        let associations = associations.chain(brevet.task_associations);
        all.extend(associations.map(Resource::Association));
        let bucket_policies = brevet.bucket_policies.into_iter();
        all.extend(bucket_policies.map(Resource::BucketPolicy));
        all.extend(brevet.organization.map(Resource::Organization));
        for resource in &mut all {
            resource.drop_what_is_observed();
            decode(resource)?;
        }
        let mut accounts = brevet.accounts;
        accounts.extend(mentioned(&accounts, &all));
        let accounts = accounts.into_iter().map(Resource::Account);
        Ok(accounts.chain(all).collect())
    }

    /// Makes the file that declares these resources, in the form of AWS's export: instance profiles
    /// are inside their roles, and attachments are counted.
    pub fn from_resources(resources: impl IntoIterator<Item = Resource>) -> Self {
        let mut file = Self::default();
        let mut profiles: Vec<InstanceProfile> = Vec::new();
        for resource in resources {
            match resource {
                Resource::Account(a) => file.brevet.accounts.push(a),
                Resource::Policy(p) => file.policies.push(p),
                Resource::Group(g) => file.group_detail_list.push(g),
                Resource::User(u) => file.user_detail_list.push(u),
                Resource::Role(r) => file.role_detail_list.push(*r),
                Resource::InstanceProfile(p) => profiles.push(p),
                Resource::AccessKey(k) => file.brevet.access_keys.push(k),
                Resource::Certificate(c) => file.brevet.certificates.push(c),
                Resource::MfaDevice(d) => file.brevet.mfa_devices.push(d),
                Resource::LoginProfile(p) => file.brevet.login_profiles.push(p),
                Resource::OidcProvider(p) => file.brevet.open_id_connect_providers.push(p),
                Resource::SamlProvider(p) => file.brevet.saml_providers.push(p),
                Resource::Association(a) if a.is_of_tasks() => {
                    file.brevet.task_associations.push(a);
                }
                Resource::Association(a) => file.brevet.pod_associations.push(a),
                Resource::BucketPolicy(p) => file.brevet.bucket_policies.push(p),
                Resource::Organization(o) => file.brevet.organization = Some(o),
            }
        }
        file.count_attachments();
        file.put_into_roles(profiles);
        file
    }

    /// Counts for each managed policy how often it is attached and how often it is a permissions
    /// boundary.
    fn count_attachments(&mut self) {
        let mut used = HashMap::<&str, (i64, i64)>::new();
        let users = self.user_detail_list.iter();
        let users = users.map(|u| (&u.attached_managed_policies, &u.permissions_boundary));
        let roles = self.role_detail_list.iter();
        let roles = roles.map(|r| (&r.attached_managed_policies, &r.permissions_boundary));
        let groups = self.group_detail_list.iter();
        let groups = groups.map(|g| (&g.attached_managed_policies, &None));
        for (attached, boundary) in users.chain(roles).chain(groups) {
            for policy in attached {
                used.entry(&policy.policy_arn).or_default().0 += 1;
            }
            if let Some(boundary) = boundary {
                used.entry(&boundary.permissions_boundary_arn)
                    .or_default()
                    .1 += 1;
            }
        }
        for policy in &mut self.policies {
            let (attachments, boundaries) =
                used.get(policy.arn.as_str()).copied().unwrap_or_default();
            policy.attachment_count = Some(attachments);
            policy.permissions_boundary_usage_count = Some(boundaries);
        }
    }

    /// Moves instance profiles into their roles and repeats the role inside each profile, as AWS does. A profile
    /// without a declared role stays in the section `Brevet`.
    fn put_into_roles(&mut self, profiles: Vec<InstanceProfile>) {
        let mut places = HashMap::new();
        for (place, role) in self.role_detail_list.iter().enumerate() {
            places.insert(folded(account_of(&role.arn), &role.role_name), place);
        }
        for mut profile in profiles {
            let account = account_of(&profile.arn);
            let role = profile.roles.first();
            let place = role.and_then(|role| places.get(&folded(account, &role.role_name)));
            match place.and_then(|place| self.role_detail_list.get_mut(*place)) {
                Some(role) => {
                    profile.roles = vec![ProfileRole {
                        path: role.path.clone(),
                        role_name: role.role_name.clone(),
                        role_id: Some(role.role_id.clone()),
                        arn: Some(role.arn.clone()),
                        create_date: role.create_date.clone(),
                        assume_role_policy_document: role.assume_role_policy_document.clone(),
                        ..ProfileRole::default()
                    }];
                    role.instance_profile_list.push(profile);
                }
                None => self.brevet.instance_profiles.push(profile),
            }
        }
    }
}

/// Lists the accounts that own declared resources without being declared themselves.
fn mentioned(accounts: &[Account], resources: &[Resource]) -> Vec<Account> {
    let declared: BTreeSet<&str> = accounts.iter().map(|a| a.account_id.as_str()).collect();
    let owners: BTreeSet<&str> = resources.iter().map(Resource::account).collect();
    let missing = owners.difference(&declared);
    let missing = missing.filter(|account| AccountId::parse(account).is_some());
    let accounts = missing.map(|account| Account {
        account_id: (*account).to_owned(),
        ..Account::default()
    });
    accounts.collect()
}

/// Turns every policy document into a JSON object, whether it is given as an object or as
/// (URL-encoded) text.
fn decode(resource: &mut Resource) -> Result<(), String> {
    let owner = resource.name().id;
    for document in resource.documents_mut().into_iter().flatten() {
        let text = document
            .text()
            .map_err(|rule| format!("{owner}: a policy document {rule}"))?;
        let text = Document::new(&text);
        *document =
            text.map_err(|e| format!("{owner}: a policy document is not valid JSON ({e})"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    /// A value of a shape in AWS's model, with all possible members.
    fn whole(model: &Value, shape: &str) -> Value {
        let shape = &model["shapes"][shape];
        let of = |reference: &Value| whole(model, reference.as_str().unwrap());
        match shape["type"].as_str().unwrap() {
            "structure" => {
                let members = shape["members"].as_object().unwrap();
                Value::Object(
                    members
                        .iter()
                        .map(|(name, reference)| (name.clone(), of(reference)))
                        .collect(),
                )
            }
            "list" => json!([of(&shape["member"])]),
            "map" => Value::Object(Map::from_iter([("key".to_owned(), of(&shape["value"]))])),
            "integer" | "long" => json!(1),
            "boolean" => json!(false),
            _ => json!("text"),
        }
    }

    fn model() -> Value {
        serde_json::from_str(include_str!("../query/iam_model.json")).unwrap()
    }

    #[test]
    fn every_field_that_aws_prints_is_taken_and_a_misspelt_one_is_not() {
        let mut export = whole(&model(), "GetAccountAuthorizationDetailsResponse");
        let parse = |export: &Value| serde_json::from_str::<Declaration>(&export.to_string());
        parse(&export).unwrap_or_else(|e| panic!("{e}: {export}"));
        // In AWS's model, the roles in instance profiles have fields that `RoleDetail` does not
        // have.
        let role = &export["RoleDetailList"][0]["InstanceProfileList"][0]["Roles"][0];
        for field in [
            "Description",
            "MaxSessionDuration",
            "Tags",
            "RoleLastUsed",
            "PermissionsBoundary",
            "SourceRoleTemplate",
        ] {
            assert!(role.get(field).is_some(), "the model's Role has {field}");
        }
        export["RoleDetailList"][0]["InstanceProfileList"][0]["Roles"][0]["Descriptoin"] =
            json!("x");
        assert!(
            parse(&export)
                .unwrap_err()
                .to_string()
                .contains("Descriptoin")
        );
    }

    #[test]
    fn providers_are_taken_as_aws_prints_them_with_their_arn() {
        let model = model();
        for (shape, list, arn) in [
            (
                "GetOpenIDConnectProviderResponse",
                "OpenIDConnectProviders",
                "arn:aws:iam::111122223333:oidc-provider/x.y",
            ),
            (
                "GetSAMLProviderResponse",
                "SAMLProviders",
                "arn:aws:iam::111122223333:saml-provider/X",
            ),
        ] {
            let mut provider = whole(&model, shape);
            provider["Arn"] = json!(arn);
            let file = json!({"Brevet": {list: [provider]}});
            serde_json::from_str::<Declaration>(&file.to_string())
                .unwrap_or_else(|e| panic!("{e}: {file}"));
        }
    }

    #[test]
    fn what_is_ignored_is_not_written() {
        let text = r#"{"RoleName":"R","RoleLastUsed":{"Region":"x"},"SourceRoleTemplate":[1],"MaxSigninSessionDuration":1}"#;
        let role: RoleDetail = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&role).unwrap()["RoleName"], "R");
        assert!(
            !serde_json::to_string(&role)
                .unwrap()
                .contains("RoleLastUsed")
        );
    }
}
