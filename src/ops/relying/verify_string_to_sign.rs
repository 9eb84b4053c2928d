//! VerifyStringToSign: finds out who made the signature of a string to sign. It is for object
//! stores that verify signatures with an OpenStack Keystone: they send the access key id, but no
//! session token.
//!
//! Such a store applies no policy of Brevet to the request, so the principal must be allowed to use the store
//! as a whole: `brevet:UseObjectStore` on the ARN of the store's own user or role.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::authn;
use crate::base::clock::Timestamp;
use crate::base::field::{self, FieldError};
use crate::base::names::AccessKeyId;
use crate::budgets::CountedAs;
use crate::caller::Caller;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::proof::sigv4::{ANY_REGION, MAX_SKEW, Presented, Rules};
use crate::trust::{self, Elsewhere, Judged, RequestElsewhere};

const ACTION: &str = "brevet:VerifyRequest";
const USE: &str = "brevet:UseObjectStore";
/// The name of Amazon S3 in the scope of a signature, which the string to sign must contain.
const SERVICE: &str = "s3";

/// A call of VerifyStringToSign whose parameters have been checked.
pub struct VerifyStringToSign {
    access_key_id: AccessKeyId,
    string_to_sign: String,
    signature: String,
}

/// The principal that made the signature, with everything that the object store learns about it.
pub struct StoreUser {
    pub arn: String,
    pub account: String,
    pub user_id: String,
    /// When the session expires; `None` for a long-term key.
    pub expires_at: Option<Timestamp>,
    pub now: Timestamp,
}

impl VerifyStringToSign {
    /// Checks the form of the access key id, the string to sign and the signature.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(
        access_key_id: &str,
        string_to_sign: String,
        signature: String,
    ) -> Result<Self, Error> {
        let access_key_id = AccessKeyId::parse("AccessKeyId", access_key_id)?;
        field::length("StringToSign", &string_to_sign, 1, 512)?;
        if signature.len() != 64 {
            return Err(FieldError::new("Signature", "must have 64 hexadecimal digits").into());
        }
        Ok(Self {
            access_key_id,
            string_to_sign,
            signature,
        })
    }
}

impl Operation for VerifyStringToSign {
    const NAME: &'static str = "VerifyStringToSign";
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const COUNTED_AS: CountedAs = CountedAs::Read;
    const HANDS_OUT: bool = false;
    type Output = StoreUser;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            access_key_id: self.access_key_id.as_str(),
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<StoreUser, Error> {
        let own = cx.caller().own_arn().to_owned();
        let permitted = trust::permit(cx.caller(), &cx.directory, &cx.facts(), ACTION, &own);
        permitted.map_err(|denied| cx.refuse(&denied, &own))?;
        let key = self.access_key_id.as_str();
        let token = match self.access_key_id.is_temporary() {
            false => None,
            true => {
                let keyring = cx.broker.tokens.keyring();
                let token = cx.broker.sessions.token_of(&keyring, key).await?;
                drop(keyring);
                // The call may have waited.
                cx.renew()?;
                // Without a record there is no access.
                Some(token.ok_or(Error::InvalidClientTokenId)?)
            }
        };
        let token = token.as_ref().map(|token| token.expose().as_str());
        let presented =
            Presented::of_string_to_sign(key, token, &self.string_to_sign, &self.signature)?;
        let rules = Rules {
            regions: vec![ANY_REGION.to_owned()],
            skew: cx.broker.rules.skew.min(MAX_SKEW),
            presigned_actions: Vec::new(),
        };
        presented.check_scope(cx.now, &rules, SERVICE)?;
        let user = authn::holder(cx.broker, &cx.directory, cx.now, &presented)?;
        // Of another account, the store learns no more than of an unknown key.
        if user.account() != cx.caller().account() {
            return Err(Error::InvalidClientTokenId);
        }
        let expires_at = user
            .session()
            .map(|s| Timestamp::from_seconds(s.claims.expires_at));
        let store_user = StoreUser {
            arn: user.arn().to_owned(),
            account: user.account().to_string(),
            user_id: user.user_id().to_owned(),
            expires_at,
            now: cx.now,
        };
        may_use(cx, user, &own)?;
        let account = cx.caller().account();
        cx.answered(
            &Answered {
                arn: &store_user.arn,
            },
            account,
        );
        Ok(store_user)
    }
}

/// Checks that the principal has the permission to use the object store. No other policy of Brevet
/// applies to its requests there.
fn may_use(cx: &mut Context<'_>, user: Caller, store: &str) -> Result<(), Error> {
    let arn = user.arn().to_owned();
    let judged = Judged::Caller(user);
    let asked = RequestElsewhere {
        action: USE,
        resource: store,
        keys: &[],
    };
    let decided = Elsewhere::new(&judged, &cx.directory, cx.now).decide(&asked)?;
    let Err(denied) = decided else { return Ok(()) };
    let encoded_message = match &judged {
        Judged::Caller(user) => cx.sealed(user, &denied, store),
        Judged::Role(_) => String::new(),
    };
    Err(Error::AccessDenied {
        principal: arn,
        action: USE.to_owned(),
        resource: store.to_owned(),
        encoded_message,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    access_key_id: &'a str,
}

#[derive(Serialize)]
struct Answered<'a> {
    arn: &'a str,
}
