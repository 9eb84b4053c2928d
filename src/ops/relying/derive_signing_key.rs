//! DeriveSigningKey: the signing key of one day, region and service of an access key, for a gateway to an object
//! store that checks signatures itself and never gets the secret.
//!
//! Whoever has such a key can sign requests of its scope as the owner of the access key. It is therefore given only
//! for Amazon S3, for the regions that the operator names, and for two days.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::authorize::Code;
use super::subject::{Subject, Unknown};
use crate::audit;
use crate::base::clock::Timestamp;
use crate::base::field::FieldError;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::proof::sigv4::s3::SERVICE;
use crate::trust::{self, Judged};

const ACTION: &str = "brevet:DeriveSigningKey";
const DAY: Duration = Duration::from_secs(86_400);

/// The scope of a signature, as a request names it.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The day, as `YYYYMMDD`.
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

/// A call of DeriveSigningKey whose parameters have been checked.
pub struct DeriveSigningKey {
    subject: Result<Subject, Unknown>,
    access_key_id: String,
    date: String,
    region: String,
}

impl DeriveSigningKey {
    /// Checks the scope, whose region must be one of `regions`.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(
        access_key_id: &str,
        session_token: Option<String>,
        scope: Scope<'_>,
        regions: &[String],
    ) -> Result<Self, Error> {
        if scope.service != SERVICE {
            return Err(FieldError::new("Service", "must be s3").into());
        }
        if !regions.iter().any(|region| region == scope.region) {
            let rule = "must be one of [s3] gateway_regions in the broker's configuration";
            return Err(FieldError::new("Region", rule).into());
        }
        if scope.date.len() != 8 {
            return Err(wrong_date());
        }
        Ok(Self {
            subject: Subject::holder(access_key_id, session_token),
            access_key_id: audit::clip(access_key_id),
            date: scope.date.to_owned(),
            region: scope.region.to_owned(),
        })
    }
}

fn wrong_date() -> Error {
    FieldError::new("Date", "must be today or yesterday in UTC, as YYYYMMDD").into()
}

impl Operation for DeriveSigningKey {
    const NAME: &'static str = "DeriveSigningKey";
    const SERVICE: Service = Service::BrevetForGateways;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const COUNTED_AS: CountedAs = CountedAs::Read;
    const HANDS_OUT: bool = true;
    const MAY_REPEAT: bool = true;
    type Output = Result<Zeroizing<[u8; 32]>, Unknown>;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            access_key_id: &self.access_key_id,
            date: &self.date,
            region: &self.region,
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<Self::Output, Error> {
        // What it tells is about everybody in the account, so a permission on the caller itself is not enough.
        let permitted = trust::permit(cx.caller(), &cx.directory, &cx.facts(), ACTION, "*");
        permitted.map_err(|denied| cx.refuse(&denied, "*"))?;
        let is_day = |at: Timestamp| at.to_amz().starts_with(&self.date);
        if !is_day(cx.now) && !is_day(cx.now.minus(DAY)) {
            return Err(wrong_date());
        }
        let found = match &self.subject {
            Ok(subject) => subject.find(cx)?,
            Err(unknown) => Err(*unknown),
        };
        let account = cx.caller().account();
        let caller = match found {
            Ok(Judged::Caller(caller)) => caller,
            Ok(Judged::Role(_)) => return Err(Error::InternalFailure),
            Err(unknown) => {
                let refused = Some(Code::from(unknown).as_str());
                cx.answered(&Answered { arn: None, refused }, account);
                return Ok(Err(unknown));
            }
        };
        let key = match caller.session() {
            Some(session) => session
                .secret
                .signing_key(&self.date, &self.region, SERVICE),
            None => {
                let own = cx.directory.access_key(&caller.access_key_id);
                let own = own.ok_or(Error::InternalFailure)?;
                own.secret.signing_key(&self.date, &self.region, SERVICE)
            }
        };
        let answered = Answered {
            arn: Some(caller.arn()),
            refused: None,
        };
        cx.answered(&answered, account);
        Ok(Ok(key))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
}

#[derive(Serialize)]
struct Answered<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}
