//! DecodeAuthorizationMessage: explains why a call was refused. STS API Reference,
//! "DecodeAuthorizationMessage".

use serde_json::value::RawValue;

use crate::authorization_message::{Disclosure, Message};
use crate::base::arn::{AccountId, IamArn};
use crate::base::field;
use crate::base::field::FieldError;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::Operation;
use crate::session::packing;
use crate::session::policies::Compiled;
use crate::trust::{self, Asked};

/// A call of DecodeAuthorizationMessage whose parameters have been checked.
pub struct DecodeAuthorizationMessage {
    encoded_message: String,
}

pub struct DecodeAuthorizationMessageOutput {
    /// AWS's JSON document about the refusal. Brevet adds the member `explanation`, a sentence for
    /// people.
    pub decoded_message: String,
}

impl DecodeAuthorizationMessage {
    /// Checks that the parameter is present and has a valid length.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(encoded_message: Option<String>) -> Result<Self, Error> {
        let text =
            encoded_message.ok_or_else(|| FieldError::new("EncodedMessage", "must not be null"))?;
        field::length("EncodedMessage", &text, 1, 10_240)?;
        Ok(Self {
            encoded_message: text,
        })
    }
}

impl Operation for DecodeAuthorizationMessage {
    const NAME: &'static str = "DecodeAuthorizationMessage";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = false;
    type Output = DecodeAuthorizationMessageOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        None
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<DecodeAuthorizationMessageOutput, Error> {
        let action = "sts:DecodeAuthorizationMessage";
        let permitted = trust::permit(cx.caller(), &cx.directory, &cx.facts(), action, "*");
        permitted.map_err(|denied| cx.refuse(&denied, "*"))?;
        let keyring = cx.broker.tokens.keyring();
        let message = Message::open(&self.encoded_message, &keyring)?;
        let reader = cx.caller().account();
        let (of_principal, of_resource) = message.accounts();
        let of_principal = of_principal == reader.as_str();
        let of_resource = of_resource.map_or(of_principal, |account| account == reader.as_str());
        if !of_principal && !of_resource {
            return Err(Error::InvalidAuthorizationMessage);
        }
        let limits = packing::unpack(&message.limits).ok_or(Error::InvalidAuthorizationMessage)?;
        let policies = Compiled::new(&limits).map_err(|_| Error::InvalidAuthorizationMessage)?;
        let asked = Asked {
            session: message.session(),
            principal_arn: message.principal_arn(),
            arn: message.arn(),
            policies: &policies,
            keys: message.keys(),
            action: message.action(),
            resource: message.resource(),
            bucket_owner: message.bucket_owner().and_then(AccountId::parse),
            look_at_resource: of_resource,
        };
        let disclosure = Disclosure {
            explained: trust::explain(&asked, &cx.directory)?,
            of_principal,
            of_resource,
            is_bucket: message.bucket_owner().is_some(),
            missing: if of_resource {
                missing(cx, &message)
            } else {
                None
            },
            changed: cx.issued_under != message.sequence(),
        };
        Ok(DecodeAuthorizationMessageOutput {
            decoded_message: message.decoded(&disclosure).to_string(),
        })
    }
}

/// Returns a sentence if the requested role does not exist, with the role whose ARN differs only in
/// case or path, if there is one.
fn missing(cx: &Context<'_>, message: &Message) -> Option<String> {
    let role = IamArn::parse(message.resource()).filter(|arn| arn.kind == "role");
    let arn = role.filter(|_| cx.directory.role(message.resource()).is_none())?;
    let mut text = format!("There is no role {}.", message.resource());
    if let Some(found) = cx.directory.role_named(arn.account, arn.name) {
        text.push_str(&format!(
            " There is {}, which differs from this ARN only in case or path.",
            found.arn
        ));
    }
    Some(text)
}
