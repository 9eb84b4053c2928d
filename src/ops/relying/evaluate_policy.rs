//! EvaluatePolicy: tells a gateway to an object store what the policies of an access key's holder say about actions on
//! resources. The gateway decides with these answers and with its own policies on buckets.
//!
//! The decisions are those of Authorize, and need the same permission: `brevet:Authorize` on every resource. Unlike a
//! caller of Authorize, a gateway also sets the condition keys of its client's connection.

use serde::Serialize;
use serde_json::value::RawValue;

use super::authorize::Code;
use super::keys;
use super::subject::{NOBODY, Subject, Unknown};
use crate::audit;
use crate::base::field::FieldError;
use crate::budgets::{self, CountedAs};
use crate::error::Error;
use crate::ops::CALL_TIMEOUT;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation, View};
use crate::ops::service::Service;
use crate::trust::{self, Elsewhere, Judged, RequestElsewhere, Verdict};

const ACTION: &str = "brevet:Authorize";
/// The maximum number of decisions in one call, enough for a thousand objects that are deleted together, with four
/// actions for each.
const MAX_DECISIONS: usize = 4_000;
/// The maximum length in bytes of a resource's ARN. The key of an object may have 1,024 bytes.
const MAX_RESOURCE: usize = 2_048;
/// How many requests are decided before other calls have their turn.
const AT_ONCE: usize = 8;
/// The prefix of the ARNs of buckets and objects, which name no account.
const BUCKETS: &str = "arn:aws:s3:::";
/// The actions of Amazon S3 about which gateways ask; all others are refused.
const ACTIONS: &str = "AbortMultipartUpload BypassGovernanceRetention CreateBucket DeleteBucket DeleteBucketPolicy \
    DeleteBucketWebsite DeleteObject DeleteObjectTagging DeleteObjectVersion DeleteObjectVersionTagging \
    GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAcl GetBucketCORS GetBucketLocation \
    GetBucketLogging GetBucketNotification GetBucketObjectLockConfiguration GetBucketOwnershipControls \
    GetBucketPolicy GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging \
    GetBucketVersioning GetBucketWebsite GetEncryptionConfiguration GetIntelligentTieringConfiguration \
    GetInventoryConfiguration GetLifecycleConfiguration GetMetricsConfiguration GetObject GetObjectAcl \
    GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectVersion \
    GetObjectVersionAcl GetObjectVersionAttributes GetObjectVersionTagging GetReplicationConfiguration \
    ListAllMyBuckets ListBucket ListBucketMultipartUploads ListBucketVersions ListMultipartUploadParts \
    PutAccelerateConfiguration PutAnalyticsConfiguration PutBucketAcl PutBucketCORS PutBucketLogging \
    PutBucketNotification PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy \
    PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning PutBucketWebsite \
    PutEncryptionConfiguration PutIntelligentTieringConfiguration PutInventoryConfiguration \
    PutLifecycleConfiguration PutMetricsConfiguration PutObject PutObjectAcl PutObjectLegalHold \
    PutObjectRetention PutObjectTagging PutObjectVersionAcl PutObjectVersionTagging PutReplicationConfiguration \
    RestoreObject";

/// A call of EvaluatePolicy whose parameters have been checked.
pub struct EvaluatePolicy {
    subject: Result<Subject, Unknown>,
    access_key_id: String,
    actions: Vec<String>,
    resources: Vec<String>,
    keys: Vec<(String, Vec<String>)>,
}

/// The verdicts on all actions on all resources.
pub struct Evaluated {
    /// The ARN of the user or the session.
    pub principal_arn: String,
    /// The verdicts of all policies: for each resource in order, one for each action in order.
    pub all: Vec<Vec<Verdict>>,
    /// The verdicts of the session policies by themselves; `None` if the principal has none.
    pub session: Option<Vec<Vec<Verdict>>>,
}

impl EvaluatePolicy {
    /// Checks the actions, the resources and the condition keys of the gateway's client. `region` is the region of
    /// the gateway, if it is known.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(
        access_key_id: &str,
        session_token: Option<String>,
        actions: Vec<String>,
        resources: Vec<String>,
        condition: Vec<(String, Vec<String>)>,
        region: Option<&str>,
    ) -> Result<Self, Error> {
        let count = actions.len().saturating_mul(resources.len());
        if !(1..=MAX_DECISIONS).contains(&count) {
            let rule = format!(
                "must have a number of items that, times the number of Resources, is from 1 to {MAX_DECISIONS}"
            );
            return Err(FieldError::new("Actions", rule).into());
        }
        let is_known = |action: &String| {
            let name = action.strip_prefix("s3:");
            name.is_some_and(|name| ACTIONS.split_whitespace().any(|known| known == name))
        };
        if !actions.iter().all(is_known) {
            let rule = "must be actions of Amazon S3 about which gateways ask, without wildcards";
            return Err(FieldError::new("Actions", rule).into());
        }
        let is_stored = |arn: &String| {
            let name = arn.strip_prefix(BUCKETS);
            name.is_some_and(|name| !name.is_empty()) && arn.len() <= MAX_RESOURCE
        };
        if !resources.iter().all(is_stored) {
            let rule = "must be ARNs of buckets or objects (arn:aws:s3:::…) of at most 2048 bytes";
            return Err(FieldError::new("Resources", rule).into());
        }
        // Gateways write this character for bytes that are no text, so that it stands for many names.
        let is_exact = |text: &String| !text.contains(char::REPLACEMENT_CHARACTER);
        let mut values = condition.iter().flat_map(|(_, values)| values);
        let rule = "must not contain U+FFFD, which stands for bytes that are not UTF-8";
        if !resources.iter().all(is_exact) {
            return Err(FieldError::new("Resources", rule).into());
        }
        if !values.all(is_exact) {
            return Err(FieldError::new("Condition", rule).into());
        }
        // The broker's own clock decides.
        let is_time = |name: &str| {
            let own = ["aws:currenttime", "aws:epochtime"];
            own.iter().any(|own| own.eq_ignore_ascii_case(name))
        };
        let mut keys = condition;
        keys.retain(|(name, _)| !is_time(name));
        keys::check_of_gateway(&keys).map_err(|rule| FieldError::new("Condition", rule))?;
        if let Some(region) = region {
            let requested = "aws:RequestedRegion".to_owned();
            keys.push((requested, vec![region.to_owned()]));
        }
        Ok(Self {
            subject: Subject::holder(access_key_id, session_token),
            access_key_id: audit::clip(access_key_id),
            actions,
            resources,
            keys,
        })
    }
}

impl Operation for EvaluatePolicy {
    const NAME: &'static str = "EvaluatePolicy";
    const SERVICE: Service = Service::BrevetForGateways;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const COUNTED_AS: CountedAs = CountedAs::Read;
    const HANDS_OUT: bool = false;
    type Output = Result<Evaluated, Unknown>;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            access_key_id: &self.access_key_id,
            actions: self.actions.len(),
            resources: self.resources.len(),
            action: self.actions.first(),
            resource: self.resources.first().map(|arn| audit::clip(arn)),
        })
        .ok()
    }

    fn amount(&self) -> u64 {
        budgets::calls_of_decisions(self.actions.len().saturating_mul(self.resources.len()))
    }

    fn subjects(&self, view: &View<'_>) -> Vec<(String, u64)> {
        let key = match &self.subject {
            Ok(subject) => subject.budget_key(view),
            Err(_) => NOBODY.to_owned(),
        };
        vec![(key, self.amount())]
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<Self::Output, Error> {
        let begun = cx.broker.clock.monotonic();
        self.permit(cx).await?;
        let account = cx.caller().account();
        let found = match &self.subject {
            Ok(subject) => subject.find(cx)?,
            Err(unknown) => Err(*unknown),
        };
        let caller = match found {
            Ok(Judged::Caller(caller)) => caller,
            Ok(Judged::Role(_)) => return Err(Error::InternalFailure),
            Err(unknown) => {
                let refused = Code::from(unknown).as_str();
                cx.answered(&Refused { refused }, account);
                return Ok(Err(unknown));
            }
        };
        let (directory, now) = (cx.directory.clone(), cx.now);
        let elsewhere = Elsewhere::through_gateway(&caller, &directory, now);
        let mut all = Vec::with_capacity(self.resources.len());
        let mut session = Vec::new();
        let mut decided: usize = 0;
        for resource in &self.resources {
            let (mut row, mut of_session) = (Vec::new(), Vec::new());
            for action in &self.actions {
                let keys = &self.keys;
                let (of_all, limits) = elsewhere.verdicts(&RequestElsewhere {
                    action,
                    resource,
                    keys,
                });
                row.push(of_all);
                of_session.extend(limits);
                decided += 1;
                if decided.is_multiple_of(AT_ONCE) {
                    tokio::task::yield_now().await;
                    if cx.broker.clock.monotonic().saturating_sub(begun) > CALL_TIMEOUT {
                        let text = format!(
                            "The broker could not make the decisions about {} resources and {} actions within {} \
                             seconds; ask for fewer resources or actions in one call.",
                            self.resources.len(),
                            self.actions.len(),
                            CALL_TIMEOUT.as_secs()
                        );
                        return Err(Error::Overloaded(text.into()));
                    }
                }
            }
            all.push(row);
            session.push(of_session);
        }
        let count = |verdict: Verdict| all.iter().flatten().filter(|v| **v == verdict).count();
        let answered = Answered {
            arn: caller.arn(),
            allowed: count(Verdict::Allow),
            denied: count(Verdict::Deny),
            not_matched: count(Verdict::NoMatch),
        };
        cx.answered(&answered, account);
        // All rows have as many as there are actions, or none.
        let is_limited = session.iter().flatten().next().is_some();
        Ok(Ok(Evaluated {
            principal_arn: caller.arn().to_owned(),
            all,
            session: is_limited.then_some(session),
        }))
    }
}

impl EvaluatePolicy {
    /// Checks that the caller may ask about every resource.
    async fn permit(&self, cx: &mut Context<'_>) -> Result<(), Error> {
        for some in self.resources.chunks(AT_ONCE) {
            let denied = {
                let facts = cx.facts();
                some.iter().find_map(|arn| {
                    let permitted = trust::permit(cx.caller(), &cx.directory, &facts, ACTION, arn);
                    permitted.err().map(|denied| (denied, arn))
                })
            };
            if let Some((denied, arn)) = denied {
                return Err(cx.refuse(&denied, arn));
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    access_key_id: &'a str,
    actions: usize,
    resources: usize,
    /// The first action of the call; `resource` is the first resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    arn: &'a str,
    allowed: usize,
    denied: usize,
    not_matched: usize,
}

#[derive(Serialize)]
struct Refused {
    refused: &'static str,
}
