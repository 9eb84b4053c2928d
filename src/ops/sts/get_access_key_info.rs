//! GetAccessKeyInfo: returns the account that an access key id belongs to. The answer says nothing
//! about the key's state.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::arn::IamArn;
use crate::base::field::FieldError;
use crate::base::names::AccessKeyId;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::Operation;
use crate::trust;

/// A call of GetAccessKeyInfo whose parameters have been checked.
pub struct GetAccessKeyInfo {
    access_key_id: AccessKeyId,
}

pub struct GetAccessKeyInfoOutput {
    pub account: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    access_key_id: &'a str,
}

impl GetAccessKeyInfo {
    /// Checks the form of the access key id.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(access_key_id: Option<&str>) -> Result<Self, Error> {
        let id = access_key_id.ok_or_else(|| FieldError::new("AccessKeyId", "must not be null"))?;
        Ok(Self {
            access_key_id: AccessKeyId::parse("AccessKeyId", id)?,
        })
    }
}

impl Operation for GetAccessKeyInfo {
    const NAME: &'static str = "GetAccessKeyInfo";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = false;
    type Output = GetAccessKeyInfoOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            access_key_id: self.access_key_id.as_str(),
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<GetAccessKeyInfoOutput, Error> {
        let permitted = trust::permit(
            cx.caller(),
            &cx.directory,
            &cx.facts(),
            "sts:GetAccessKeyInfo",
            "*",
        );
        permitted.map_err(|denied| cx.refuse(&denied, "*"))?;
        // An imported key may be older than the form of ids that contains the account.
        let known = cx
            .directory
            .access_key(self.access_key_id.as_str())
            .and_then(|k| IamArn::parse(&k.user_arn))
            .map(|a| a.account);
        let account = known.or_else(|| self.access_key_id.account());
        let account = account.ok_or_else(|| {
            FieldError::new(
                "AccessKeyId",
                "must be an access key id that encodes its account, or the id of an access key in this broker's \
                 directory",
            )
        })?;
        Ok(GetAccessKeyInfoOutput {
            account: account.to_string(),
        })
    }
}
