//! [`decide`], the entry point for all requests to object stores. It parses the head of a request,
//! authenticates the caller, checks every permission, records the decision, and signs an allowed
//! request for the store. It does not depend on a proxy or a wire format.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::refused::{Refused, Unpermitted};
use super::seen::{Deleted, Seen};
use crate::authn;
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::budgets::{self, CountedAs};
use crate::caller::{Caller, Identity};
use crate::directory::Directory;
use crate::error::Error;
use crate::evaluator::{Outcome, Policy, Value};
use crate::ops::prove::Unproven;
use crate::origin::Origin;
use crate::proof::sigv4::S3Presented;
use crate::proof::sigv4::s3::{S3Request, SERVICE, UNSIGNED_PAYLOAD};
use crate::s3::actions::{self, Check};
use crate::s3::{
    Code, Head, Payload, Routed, S3Refusal, S3Store, SignedForStore, cors, route, sign,
};
use crate::trust::{self, Denied, Facts, OwnedBucket};

/// The decision on a request to an object store.
pub enum Decision {
    /// The proxy may send the request to the store with these changes.
    Allow {
        /// Headers that replace those of the client. They contain a valid signature for the store,
        /// so they must not be logged.
        set: Vec<(&'static str, Secret<String>)>,
        /// The names of the client's headers that the proxy must remove.
        remove_headers: Vec<String>,
        /// The names of the client's query parameters that the proxy must remove.
        remove_query: Vec<String>,
        /// The value of `Host` for the request to the store, which the new signature covers.
        host: String,
        /// Whether the host contains the bucket's name, so that the request must go to exactly this
        /// host.
        names_bucket: bool,
    },
    /// The headers of the answer to a CORS preflight request. The proxy answers it itself.
    Preflight(Vec<(&'static str, String)>),
    Refuse(S3Refusal),
}

/// Decides on a request by its head. The answer does not wait until the audit record is on stable
/// storage.
pub async fn decide(
    broker: &Arc<Broker>,
    store: &S3Store,
    head: Head<'_>,
    origin: Origin,
) -> Decision {
    if head.method == "OPTIONS" {
        return preflight(store, &head);
    }
    let started = Instant::now();
    let now = broker.clock.now();
    let mut seen = Seen::default();
    let judging = AssertUnwindSafe(|| judge(broker, store, &head, &origin, now, &mut seen));
    let judged = catch_unwind(judging).unwrap_or_else(|_| {
        tracing::error!(store = %store.name, "a decision about a request to an object store panicked, which is a bug in Brevet; the request was refused");
        Err(Error::InternalFailure.into())
    });
    let decision = seen.conclude(broker, store, &head, &origin, now, judged);
    let outcome = match &decision {
        Ok(_) => "ok",
        Err(refusal) => refusal.code.as_str(),
    };
    crate::ops::measure(broker, seen.operation(), outcome, started);
    match decision {
        Ok(signed) => Decision::Allow {
            set: signed.set,
            remove_headers: signed.remove_headers,
            remove_query: signed.remove_query,
            host: signed.host,
            names_bucket: signed.names_bucket,
        },
        Err(refusal) => Decision::Refuse(refusal),
    }
}

/// Answers a CORS preflight request according to the bucket's CORS rules.
fn preflight(store: &S3Store, head: &Head<'_>) -> Decision {
    // The path is read as that of the request to come.
    let read = route(
        &Head {
            method: "GET",
            headers: &[],
            path: head.target().0,
            ..*head
        },
        &store.rules,
    );
    let bucket = read
        .ok()
        .and_then(|routed| store.buckets.get(routed.bucket?));
    let rules = bucket.map(|bucket| bucket.cors.as_slice());
    match cors::preflight(head, rules.unwrap_or_default()) {
        Ok(headers) => Decision::Preflight(headers),
        Err(refusal) => Decision::Refuse(S3Refusal {
            resource: head.target().0.to_owned(),
            ..refusal
        }),
    }
}

/// Makes the decision, and notes the facts for the audit record in `seen` as they become known.
fn judge(
    broker: &Broker,
    store: &S3Store,
    head: &Head<'_>,
    origin: &Origin,
    now: Timestamp,
    seen: &mut Seen,
) -> Result<SignedForStore, Refused> {
    // Read before the snapshot, so that what an older snapshot decides does not count as newer.
    seen.sequence = broker.feed.sequence();
    let directory = broker.directory.load();
    broker.must_know_what_is_revoked()?;
    broker.must_know_the_time()?;
    let unproven = Unproven::new(broker, origin);
    // Whoever is not proven counts for the source address.
    let count = |refused: Refused| match unproven.refuse(Error::MissingAuthenticationToken) {
        Error::Throttling => Error::Throttling.into(),
        _ => refused,
    };
    let routed = route(head, &store.rules).map_err(|refusal| count(refusal.into()))?;
    seen.operation = Some(routed.operation.name);
    let request = S3Request {
        method: head.method,
        path: &routed.path,
        query: &routed.query,
        headers: head.headers,
        host: head.authority,
    };
    let presented = S3Presented::read(&request).map_err(|error| count(error.into()))?;
    let caller = match &presented {
        Some(presented) => {
            let claimed = presented.presented.unverified_access_key_id();
            seen.claimed = Some(claimed.to_owned());
            let caller = prove(broker, store, &directory, presented, now);
            let caller = caller.map_err(|refused| match refused {
                // An inconsistent directory is not the caller's fault.
                Refused::Broker(Error::Dangling(_)) => refused,
                other => count(other),
            })?;
            note_use(broker, origin, &caller, presented, now);
            let caller = Arc::new(caller);
            seen.caller = Some(caller.clone());
            unproven.count_signed(
                CountedAs::ObjectRequest,
                &caller,
                Some(&presented.presented),
                1,
                &[],
            )?;
            Some(caller)
        }
        None => {
            check_unsigned(head, &routed).map_err(|refusal| count(refusal.into()))?;
            None
        }
    };
    let declared = match &presented {
        Some(presented) => presented.payload,
        None => head
            .header("x-amz-content-sha256")
            .unwrap_or(UNSIGNED_PAYLOAD),
    };
    let payload = Payload::read(declared, head, &store.rules)?;
    let checks = actions::checks(head, &routed, payload, &store.rules)?;
    // How many decisions DeleteObjects needs is known only now.
    let further = budgets::calls_of_decisions(checks.len()) - 1;
    if further > 0 {
        match (&caller, &presented) {
            (Some(caller), Some(presented)) => {
                let signature = Some(&presented.presented);
                unproven.count_signed(CountedAs::ObjectRequest, caller, signature, further, &[])?;
            }
            // Nobody's request counts for the source address.
            _ => unproven.count_further(further)?,
        }
    }
    if routed.key.is_none() {
        seen.objects = checks.iter().filter_map(deleted).collect();
    }
    let asked = Asked {
        store,
        directory: &directory,
        head,
        caller: caller.as_deref(),
    };
    let facts = asked.facts(origin, presented.as_ref(), payload, now);
    let permitted = asked.permit(&checks, facts, &mut seen.owner);
    permitted.map_err(|refused| match caller {
        None => count(refused),
        Some(_) => refused,
    })?;
    Ok(sign(store, head, &routed, payload, now))
}

/// Returns the object for the audit record if the check is for one object of DeleteObjects.
fn deleted(check: &Check<'_>) -> Option<Deleted> {
    let (key, version) = check.deleted()?;
    Some(Deleted {
        key: key.to_owned(),
        version_id: version.map(str::to_owned),
    })
}

/// Verifies the signature of a request and returns its signer.
fn prove(
    broker: &Broker,
    store: &S3Store,
    directory: &Directory,
    presented: &S3Presented<'_>,
    now: Timestamp,
) -> Result<Caller, Refused> {
    presented.check_scope(now, &store.rules.region, broker.rules.skew)?;
    let is_temporary = presented.presented.unverified_session_token().is_some();
    let signer = authn::signed_for_store(broker, directory, now, &presented.presented);
    signer.map_err(|error| match error {
        Error::InvalidClientTokenId if !is_temporary => S3Refusal::new(
            Code::InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records.",
        )
        .into(),
        error => error.into(),
    })
}

/// Refuses requests without a signature that have a session token or override response headers.
fn check_unsigned(head: &Head<'_>, routed: &Routed<'_>) -> Result<(), S3Refusal> {
    let invalid = |message: &str| Err(S3Refusal::new(Code::InvalidRequest, message));
    if head.header("x-amz-security-token").is_some() {
        return invalid("The request has a security token but no signature.");
    }
    let overrides = |(name, _): &(&str, Cow<'_, str>)| name.starts_with("response-");
    if routed.query.iter().any(overrides) {
        return invalid(
            "Request specific response headers cannot be used for anonymous GET requests.",
        );
    }
    Ok(())
}

/// Records the use of a long-term access key. Unless the request is a presigned one, the connection is marked as one
/// with an authenticated caller.
fn note_use(
    broker: &Broker,
    origin: &Origin,
    caller: &Caller,
    presented: &S3Presented<'_>,
    now: Timestamp,
) {
    let signed = &presented.presented;
    if let Some(call) = origin.call.as_ref().filter(|_| !signed.is_presigned()) {
        call.prove(&caller.budget_key(), signed.digest());
    }
    if let Identity::User(_) = &caller.identity {
        let region = signed.unverified_region();
        broker
            .key_use
            .note(&caller.access_key_id, now, SERVICE, region);
    }
}

/// A request after authentication. `caller` is `None` if it has no signature.
struct Asked<'a> {
    store: &'a S3Store,
    directory: &'a Directory,
    head: &'a Head<'a>,
    caller: Option<&'a Caller>,
}

impl<'a> Asked<'a> {
    /// Returns the facts for condition keys that all permission checks of the request share.
    fn facts(
        &self,
        origin: &'a Origin,
        presented: Option<&S3Presented<'_>>,
        payload: Payload<'a>,
        now: Timestamp,
    ) -> Facts<'a> {
        let region = self.store.rules.region.as_str();
        let mut facts = match self.caller {
            Some(caller) => Facts::new(caller, self.directory, origin, region, now),
            None => Facts::of_nobody(origin, region, now),
        };
        let mut set = |name, value: Cow<'a, str>| facts.s3(name, Value::One(value));
        set("s3:x-amz-content-sha256", payload.declared().into());
        if let Some(presented) = presented {
            let kind = match presented.presented.is_presigned() {
                true => "REST-QUERY-STRING",
                false => "REST-HEADER",
            };
            set("s3:authtype", kind.into());
            set("s3:signatureversion", "AWS4-HMAC-SHA256".into());
            let age = presented.age(now).as_millis().to_string();
            set("s3:signatureage", age.into());
        }
        facts
    }

    /// Checks every permission that the request needs, and refuses it at the first that is missing.
    fn permit(
        &self,
        checks: &'a [Check<'a>],
        mut facts: Facts<'a>,
        seen: &mut Option<AccountId>,
    ) -> Result<(), Refused> {
        for check in checks {
            let owner = self.owner(check, &facts);
            let owner = owner.map_err(|denied| self.refused(denied, check))?;
            *seen = Some(owner);
            facts.of_bucket(owner, self.directory.member(owner));
            facts.unknown(check.unknown);
            for (name, value) in &check.keys {
                facts.s3(name.clone(), value.clone());
            }
            let bucket = OwnedBucket {
                owner,
                policy: check
                    .bucket
                    .and_then(|bucket| policy_of(self.directory, bucket, owner)),
            };
            let permitted = trust::permit_on_bucket(
                self.caller,
                self.directory,
                &facts,
                check.action,
                &check.resource,
                &bucket,
            );
            if let Err(mut denied) = permitted {
                if denied.decision.outcome == Outcome::ImplicitlyDenied {
                    denied.note = check.note.map(Cow::Borrowed);
                }
                return Err(self.refused(denied, check));
            }
            for (name, _) in &check.keys {
                facts.without(name);
            }
        }
        Ok(())
    }

    /// Returns the account that owns the bucket of a check. Refuses the request if the store has no such bucket, or if
    /// the header for the expected owner of the bucket names another account.
    fn owner(&self, check: &Check<'_>, facts: &Facts<'_>) -> Result<AccountId, Box<Denied>> {
        let refuse = |note: Cow<'static, str>| {
            Err(Box::new(Denied::because(
                check.action.to_owned(),
                facts,
                note,
            )))
        };
        let Some(name) = check.bucket else {
            // The list shows all buckets of the store.
            let owner = self.store.only_owner();
            return match (owner, self.caller) {
                (Some(owner), Some(caller)) if owner == caller.account() => Ok(owner),
                _ => refuse(
                    "ListBuckets shows all buckets of the object store, so only an account that owns all these \
                     buckets may call this action."
                        .into(),
                ),
            };
        };
        let Some(bucket) = self.store.buckets.get(name) else {
            return refuse(
                format!(
                    "The bucket {name} is not configured for this object store: add it to `buckets` of [[s3.stores]]."
                )
                .into(),
            );
        };
        let is_source =
            self.head.header("x-amz-copy-source").is_some() && check.action.starts_with("s3:Get");
        let header = match is_source {
            true => "x-amz-source-expected-bucket-owner",
            false => "x-amz-expected-bucket-owner",
        };
        match self.head.header(header) {
            Some(expected) if *expected != *bucket.account.as_str() => refuse(
                format!(
                    "The bucket {name} belongs to another account than the one in the header {header}."
                )
                .into(),
            ),
            _ => Ok(bucket.account),
        }
    }

    fn refused(&self, denied: Box<Denied>, check: &Check<'_>) -> Refused {
        let mut message = match self.caller {
            Some(caller) => format!(
                "User: {} is not authorized to perform: {} on resource: \"{}\".",
                caller.arn(),
                check.action,
                check.resource
            ),
            None => "Access Denied".to_owned(),
        };
        if let Some(note) = check.note {
            message.push(' ');
            message.push_str(note);
        }
        Refused::Denied(Box::new(Unpermitted {
            denied,
            resource: check.resource.clone(),
            message,
        }))
    }
}

/// Returns the policy of a bucket. A policy that another account set for the same name does not
/// count.
fn policy_of<'d>(directory: &'d Directory, bucket: &str, owner: AccountId) -> Option<&'d Policy> {
    let made = directory.bucket_policy(bucket)?;
    (made.account == owner).then_some(&made.policy)
}
