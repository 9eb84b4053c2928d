//! `brevet assume-role`: credentials for a role, over gRPC.

use serde::Serialize;

use super::{AssumeRoleArguments, Failure, Format};
use crate::client::{AssumeRole, AssumedRole};

pub(super) fn run(arguments: AssumeRoleArguments) -> Result<(), Failure> {
    let tags = arguments.tags.iter().map(|tag| {
        let (key, value) = tag.split_once('=').ok_or_else(|| format!("--tag {tag}: must be KEY=VALUE"))?;
        Ok((key.to_owned(), value.to_owned()))
    });
    let request = AssumeRole {
        role_arn: arguments.role_arn.clone(),
        role_session_name: arguments.role_session_name.clone(),
        duration_seconds: arguments.duration_seconds,
        policy: arguments.policy.clone(),
        policy_arns: arguments.policy_arns.clone(),
        tags: tags.collect::<Result<_, String>>()?,
        transitive_tag_keys: arguments.transitive_tag_keys.clone(),
        external_id: arguments.external_id.clone(),
        source_identity: arguments.source_identity.clone(),
        mfa: arguments.serial_number.clone().zip(arguments.token_code.clone()),
    };
    let assumed = super::runtime()?
        .block_on(async { arguments.call.client()?.assume_role(&request).await.map_err(Failure::from) })?;
    print(&assumed, arguments.format)
}

/// As `aws sts assume-role` prints it, and as `credential_process` is read.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Printed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    session_token: &'a str,
    expiration: String,
}

fn print(assumed: &AssumedRole, format: Format) -> Result<(), Failure> {
    let credentials = &assumed.credentials;
    let token = credentials.session_token.as_ref().ok_or("the answer has no session token")?;
    let expiration = credentials.expires_at().ok_or("the answer has no expiration")?.to_string();
    let printed = Printed {
        version: (format == Format::CredentialProcess).then_some(1),
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.expose(),
        session_token: token.expose(),
        expiration,
    };
    match format {
        Format::CredentialProcess => println!("{}", serde_json::to_string(&printed)?),
        Format::Env => {
            // None of the values has a character that a shell reads.
            println!("export AWS_ACCESS_KEY_ID={}", printed.access_key_id);
            println!("export AWS_SECRET_ACCESS_KEY={}", printed.secret_access_key);
            println!("export AWS_SESSION_TOKEN={}", printed.session_token);
        }
        Format::Json => {
            let user = serde_json::json!({"AssumedRoleId": assumed.assumed_role_id, "Arn": assumed.arn});
            let mut answer = serde_json::json!({"Credentials": printed, "AssumedRoleUser": user, "PackedPolicySize": assumed.packed_policy_size});
            if let (false, Some(map)) = (assumed.source_identity.is_empty(), answer.as_object_mut()) {
                map.insert("SourceIdentity".to_owned(), assumed.source_identity.as_str().into());
            }
            println!("{answer:#}");
        }
    }
    Ok(())
}
