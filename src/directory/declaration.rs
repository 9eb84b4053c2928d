//! The directory file as it is written: what `aws iam get-account-authorization-details` prints,
//! and one section `Brevet`. Shapes only; what they mean is `directory.rs`'s business.

// The fields are AWS's own, named and documented there.
#![allow(missing_docs)]

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$attr])* #[serde(skip_serializing_if = "Absent::is_absent")] pub $field: $type,)*
        }

        impl Absent for $name {
            fn is_absent(&self) -> bool {
                $(self.$field.is_absent())&&*
            }
        }
    };
}

/// Absent and empty are written alike: not at all.
trait Absent {
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for bool {
    /// `false` is said.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A field of AWS's answers that says nothing here: taken whatever is in it, and not kept; whether it was
/// there is known ([`Declaration::unsupported`]). The names are those of botocore's model, so that a
/// misspelt field is still an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignored(pub bool);

impl Absent for Ignored {
    fn is_absent(&self) -> bool {
        true
    }
}

impl Serialize for Ignored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

shape! {
    /// The whole file.
    Declaration {
        user_detail_list: Vec<User>,
        group_detail_list: Vec<Group>,
        role_detail_list: Vec<Role>,
        policies: Vec<ManagedPolicy>,
        /// Of a paged answer: must not be true, since a part is not the whole.
        is_truncated: Option<bool>,
        marker: Option<String>,
        /// The AWS CLI's mark of a part.
        next_token: Option<String>,
        response_metadata: Ignored,
        brevet: Brevet,
    }
}

shape! {
    /// A user.
    User {
        path: Option<String>,
        user_name: String,
        user_id: String,
        arn: String,
        create_date: Option<String>,
        user_policy_list: Vec<InlinePolicy>,
        group_list: Vec<String>,
        attached_managed_policies: Vec<Attached>,
        permissions_boundary: Option<Boundary>,
        tags: Vec<Tag>,
    }
}

shape! {
    /// A group.
    Group {
        path: Option<String>,
        group_name: String,
        group_id: String,
        arn: String,
        create_date: Option<String>,
        group_policy_list: Vec<InlinePolicy>,
        attached_managed_policies: Vec<Attached>,
    }
}

shape! {
    /// A role.
    Role {
        path: Option<String>,
        role_name: String,
        role_id: String,
        arn: String,
        create_date: Option<String>,
        assume_role_policy_document: Option<Document>,
        description: Option<String>,
        instance_profile_list: Vec<InstanceProfile>,
        role_policy_list: Vec<InlinePolicy>,
        attached_managed_policies: Vec<Attached>,
        permissions_boundary: Option<Boundary>,
        tags: Vec<Tag>,
        role_last_used: Ignored,
        /// In seconds, 3,600 to 129,600.
        max_session_duration: Option<i64>,
        max_signin_session_duration: Ignored,
        source_role_template: Ignored,
    }
}

shape! {
    /// A managed policy with its versions.
    ManagedPolicy {
        policy_name: String,
        policy_id: Option<String>,
        arn: String,
        path: Option<String>,
        description: Option<String>,
        default_version_id: Option<String>,
        attachment_count: Option<i64>,
        permissions_boundary_usage_count: Option<i64>,
        is_attachable: Option<bool>,
        create_date: Option<String>,
        update_date: Option<String>,
        policy_version_list: Vec<PolicyVersion>,
        /// AWS's export does not say; none: as they are.
        tags: Option<Vec<Tag>>,
    }
}

shape! {
    /// One version of a managed policy.
    PolicyVersion {
        document: Option<Document>,
        version_id: String,
        is_default_version: bool,
        create_date: Option<String>,
    }
}

shape! {
    /// A policy embedded in a user, group or role.
    InlinePolicy {
        policy_name: String,
        policy_document: Option<Document>,
    }
}

shape! {
    /// A managed policy attached to something.
    Attached {
        policy_name: Option<String>,
        policy_arn: String,
    }
}

shape! {
    /// A permissions boundary.
    Boundary {
        permissions_boundary_type: Option<String>,
        permissions_boundary_arn: String,
    }
}

shape! {
    /// A tag.
    Tag {
        key: String,
        value: String,
    }
}

shape! {
    /// What AWS's export does not print.
    Brevet {
        accounts: Vec<Account>,
        /// Those that no role of the export carries in its own list.
        instance_profiles: Vec<InstanceProfile>,
        access_keys: Vec<AccessKey>,
        #[serde(rename = "MFADevices")]
        mfa_devices: Vec<MfaDevice>,
        #[serde(rename = "OpenIDConnectProviders")]
        open_id_connect_providers: Vec<OidcProvider>,
        #[serde(rename = "SAMLProviders")]
        saml_providers: Vec<SamlProvider>,
    }
}

impl Brevet {
    /// Whether a secret stands in it that is not sealed: the file must then be private.
    pub fn has_clear_secrets(&self) -> bool {
        self.access_keys
            .iter()
            .any(|k| k.secret_access_key.is_some())
            || self
                .mfa_devices
                .iter()
                .any(|d| d.base32_string_seed.is_some())
    }
}

shape! {
    /// An account.
    Account {
        account_id: String,
        account_alias: Option<String>,
    }
}

shape! {
    /// An instance profile; it holds one role at the most. In an account's export it stands inside
    /// its role, with the role inside it once more.
    InstanceProfile {
        path: Option<String>,
        instance_profile_name: String,
        instance_profile_id: String,
        arn: String,
        create_date: Option<String>,
        roles: Vec<ProfileRole>,
        /// AWS's export does not say; none: as they are.
        tags: Option<Vec<Tag>>,
    }
}

shape! {
    /// The role in an instance profile: its name alone counts.
    ProfileRole {
        path: Option<String>,
        role_name: String,
        role_id: Option<String>,
        arn: Option<String>,
        create_date: Option<String>,
        assume_role_policy_document: Option<Document>,
        description: Ignored,
        max_session_duration: Ignored,
        max_signin_session_duration: Ignored,
        permissions_boundary: Ignored,
        role_last_used: Ignored,
        source_role_template: Ignored,
        tags: Ignored,
    }
}

shape! {
    /// A long-term access key. Its secret in clear (for import) or sealed under the master key.
    AccessKey {
        user_arn: String,
        access_key_id: String,
        secret_access_key: Option<Zeroizing<String>>,
        sealed_secret_access_key: Option<String>,
        /// `Active` (the default) or `Inactive`.
        status: Option<String>,
        create_date: Option<String>,
    }
}

shape! {
    /// A TOTP device; without `UserArn` it is nobody's yet. Its seed in clear (for import) or sealed under the master key.
    MfaDevice {
        serial_number: String,
        user_arn: String,
        #[serde(rename = "Base32StringSeed")]
        base32_string_seed: Option<Zeroizing<String>>,
        #[serde(rename = "SealedBase32StringSeed")]
        sealed_base32_string_seed: Option<String>,
        /// `SHA1` (the default), `SHA256` or `SHA512`.
        algorithm: Option<String>,
        /// 6 (the default), 7 or 8.
        digits: Option<i64>,
        create_date: Option<String>,
        enable_date: Option<String>,
        tags: Vec<Tag>,
    }
}

shape! {
    /// As `aws iam get-open-id-connect-provider` prints it, with `Arn`; and what Brevet adds.
    OidcProvider {
        arn: String,
        url: String,
        #[serde(rename = "ClientIDList")]
        client_id_list: Vec<String>,
        /// Kept, not used: the connection's certificate must be good for the public roots, or for the CA.
        thumbprint_list: Vec<String>,
        /// PEM of the CA that signed the certificate of the provider's endpoints.
        certificate_authority: Option<String>,
        /// The keys themselves (RFC 7517), for a broker that cannot go and ask.
        json_web_key_set: Option<Box<RawValue>>,
        /// Whether each token is good once, by its `jti`.
        one_time: Option<bool>,
        create_date: Option<String>,
        tags: Vec<Tag>,
        context_provider: Ignored,
        identity_center_instance_arn: Ignored,
        identity_store_arn: Ignored,
    }
}

shape! {
    /// As `aws iam get-saml-provider` prints it, with `Arn`.
    SamlProvider {
        arn: String,
        #[serde(rename = "SAMLProviderUUID")]
        saml_provider_uuid: Option<String>,
        #[serde(rename = "SAMLMetadataDocument")]
        saml_metadata_document: String,
        create_date: Option<String>,
        valid_until: Option<String>,
        assertion_encryption_mode: Option<String>,
        private_key_list: Option<Box<RawValue>>,
        tags: Vec<Tag>,
        context_provider: Ignored,
        identity_center_instance_arn: Ignored,
        identity_store_arn: Ignored,
        #[serde(rename = "SAMLKeyHashes")]
        saml_key_hashes: Ignored,
    }
}

/// A policy document: a JSON object, or a string that holds one, URL-encoded (as the IAM API
/// sends it) or plain.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(Box<RawValue>);

impl Document {
    /// From a document's text.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn new(text: &str) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.to_owned()).map(Self)
    }

    /// The document's text.
    ///
    /// # Errors
    /// When a string is not URL-encoded UTF-8.
    pub fn text(&self) -> Result<Cow<'_, str>, &'static str> {
        let raw = self.0.get();
        if !raw.starts_with('"') {
            return Ok(Cow::Borrowed(raw));
        }
        let text: String = serde_json::from_str(raw).map_err(|_| "not a JSON string")?;
        if text.trim_start().starts_with('{') {
            return Ok(Cow::Owned(text));
        }
        let decoded = percent_decode_str(&text)
            .decode_utf8()
            .map_err(|_| "not URL-encoded UTF-8")?;
        Ok(Cow::Owned(decoded.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    /// A value of a shape of AWS's model, with every member that it can have.
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
        // The model's roles in instance profiles have fields that the details of roles have not.
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
        let role: Role = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&role).unwrap()["RoleName"], "R");
        assert!(
            !serde_json::to_string(&role)
                .unwrap()
                .contains("RoleLastUsed")
        );
    }
}
