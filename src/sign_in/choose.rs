//! A person who signed in chooses a role, and gets credentials for it. This is a call of AssumeRole,
//! AssumeRoleWithWebIdentity or AssumeRoleWithSAML, with the sign-in in place of a signature, token or assertion: the
//! same decision, budgets and audit record.

use std::sync::Arc;

use crate::authn::{Evidence, Shown};
use crate::base::arn::{RoleArn, SamlProviderArn};
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::error::Error;
use crate::mint::Credentials;
use crate::ops::sts::assume_role::{AssumeRole, AssumeRoleInput};
use crate::ops::sts::assume_role_with_saml::AssumeRoleWithSaml;
use crate::ops::sts::assume_role_with_web_identity::AssumeRoleWithWebIdentity;
use crate::ops::{self, Reply};
use crate::origin::Origin;
use crate::signed_in::{SignIn, Who};

/// The credentials of a role that a person chose.
pub struct Chosen {
    pub credentials: Credentials,
    /// The ARN of the session: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub arn: String,
    pub expires_at: Timestamp,
}

/// Makes the sign-in the evidence for a call about the person itself, such as a change of the person's password.
pub fn evidence(sign_in: &SignIn) -> Evidence {
    Evidence::Shown(Shown::SignIn {
        account: sign_in.account(),
        sign_in: Arc::new(sign_in.clone()),
    })
}

/// Issues a session of a role to a person who signed in.
pub async fn choose(
    broker: &Arc<Broker>,
    sign_in: SignIn,
    role_arn: &str,
    origin: Origin,
) -> Reply<Chosen> {
    let wanted = RoleArn::parse("RoleArn", role_arn).map_err(Error::from);
    let name = sign_in.role_session_name();
    let who = sign_in.who.clone();
    let proof = match &wanted {
        _ if sign_in.must_change_password => Err(Error::NotSignedIn),
        Ok(role) => Ok(Evidence::Shown(Shown::SignIn {
            account: role.account(),
            sign_in: Arc::new(sign_in),
        })),
        Err(_) => Ok(evidence(&sign_in)),
    };
    match who {
        Who::User { .. } => {
            let input = name.and_then(|name| {
                AssumeRole::parse(AssumeRoleInput {
                    role_arn: Some(role_arn.to_owned()),
                    role_session_name: Some(name.as_str().to_owned()),
                    ..AssumeRoleInput::default()
                })
            });
            let reply = ops::serve(broker, proof, input, origin).await;
            chosen(reply, |output| (output.credentials, output.arn))
        }
        Who::Federated(kept) if kept.is_saml() => {
            let input = wanted.and_then(|role| {
                let provider = SamlProviderArn::parse("PrincipalArn", &kept.provider_arn)?;
                Ok(AssumeRoleWithSaml::by_sign_in(role, provider))
            });
            let reply = ops::serve(broker, proof, input, origin).await;
            chosen(reply, |output| (output.credentials, output.arn))
        }
        Who::Federated(_) => {
            let input = wanted.and_then(|role| {
                let name = name?;
                Ok(AssumeRoleWithWebIdentity::by_sign_in(role, name))
            });
            let reply = ops::serve(broker, proof, input, origin).await;
            chosen(reply, |output| (output.credentials, output.arn))
        }
    }
}

fn chosen<T>(reply: Reply<T>, parts: impl FnOnce(T) -> (Credentials, String)) -> Reply<Chosen> {
    Reply {
        request_id: reply.request_id,
        result: reply.result.map(|output| {
            let (credentials, arn) = parts(output);
            Chosen {
                expires_at: credentials.expires_at,
                credentials,
                arn,
            }
        }),
        change: reply.change,
    }
}
