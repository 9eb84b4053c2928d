//! The API `sso`: the accounts and roles of a person, credentials of a role, and the end of a program's tokens.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::Full;
use serde_json::{Value, json};

use super::answer::{no_access, ok, portal_error};
use super::count_unproven;
use crate::base::arn::{AccountId, IamArn};
use crate::base::form::Parameters;
use crate::broker::Broker;
use crate::budgets::{Counted, CountedAs};
use crate::error::{Class, Error};
use crate::origin::Origin;
use crate::routes::Sso;
use crate::sign_in::record::{Draft, Event};
use crate::sign_in::roles::{self, MAX_CHOICES};
use crate::sign_in::tokens::{self, Bearer};
use crate::sign_in::{choose, settings};

/// The header in which clients send the access token.
const TOKEN: &str = "x-amz-sso_bearer_token";

/// Answers a request for one of the operations of AWS's API `sso`.
pub(super) async fn answer(
    broker: &Arc<Broker>,
    origin: Origin,
    action: Sso,
    headers: &HeaderMap,
    query: &str,
) -> Response<Full<Bytes>> {
    let event = match action {
        Sso::ListAccounts => Event::LIST_ACCOUNTS,
        Sso::ListAccountRoles => Event::LIST_ACCOUNT_ROLES,
        Sso::Logout => Event::PROGRAM_LOGOUT,
        _ => Event::GET_ROLE_CREDENTIALS,
    };
    let draft = match Draft::new(broker, event, &origin) {
        Ok(draft) => draft,
        Err(error) => return portal_error(&error, ""),
    };
    let request_id = draft.request_id().to_owned();
    let token = token(headers);
    if action == Sso::Logout {
        let ended = tokens::log_out(broker, token, &origin).await;
        return match ended {
            Ok(request_id) => ok(&request_id, &json!({})),
            Err(error) => refused(broker, &origin, &error, &request_id),
        };
    }
    let bearer = match tokens::bearer(broker, token).await {
        Ok(bearer) => bearer,
        Err(error) => {
            let error = counted(broker, &origin, error);
            // The refusal is what is recorded.
            let _: Result<(), Error> = draft.noted(broker, Err(error.clone())).await;
            return portal_error(&error, &request_id);
        }
    };
    let parameters = match Parameters::read(query.as_bytes()) {
        Ok(parameters) => parameters,
        Err(error) => return portal_error(&Error::from(error), &request_id),
    };
    if action == Sso::GetRoleCredentials {
        // The call of AssumeRole or the like that this becomes has a record of its own.
        return credentials(broker, origin, bearer, parameters, &request_id).await;
    }
    let listed = match count(broker, &bearer) {
        Err(error) => Err(error),
        Ok(()) if action == Sso::ListAccounts => {
            accounts(broker, &origin, &bearer, parameters).await
        }
        Ok(()) => account_roles(broker, &origin, &bearer, parameters).await,
    };
    match draft.by(&bearer.sign_in).noted(broker, listed).await {
        Ok(body) => ok(&request_id, &body),
        Err(error) => portal_error(&error, &request_id),
    }
}

/// Counts a call in the budgets of the person and of the person's account.
///
/// # Errors
/// [`Error::Throttling`] if one of them is used up.
fn count(broker: &Broker, bearer: &Bearer) -> Result<(), Error> {
    let account = bearer.sign_in.account();
    let counted = Counted {
        principal: bearer.sign_in.principal_id(),
        account: account.as_str(),
        signature: None,
        amount: 1,
        subjects: &[],
    };
    let now = broker.clock.monotonic();
    let counted = broker.budgets.call(CountedAs::Call, counted, now);
    counted.map_err(|exceeded| broker.throttled(exceeded.name()))
}

/// The access token in its header; empty if there is none, or more than one.
fn token(headers: &HeaderMap) -> &str {
    let mut tokens = headers.get_all(TOKEN).iter();
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => token.to_str().unwrap_or_default(),
        _ => "",
    }
}

fn counted(broker: &Broker, origin: &Origin, error: Error) -> Error {
    match error {
        Error::NotSignedIn => count_unproven(broker, origin).err().unwrap_or(error),
        error => error,
    }
}

fn refused(
    broker: &Broker,
    origin: &Origin,
    error: &Error,
    request_id: &str,
) -> Response<Full<Bytes>> {
    portal_error(&counted(broker, origin, error.clone()), request_id)
}

/// The number of items in an answer. By default it is as large as possible, because many clients never request the next
/// page.
fn max_results(parameters: &mut Parameters) -> Result<usize, Error> {
    match parameters.number("max_result").map_err(Error::from)? {
        None => Ok(MAX_CHOICES),
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|number| (1..=100).contains(number))
            .ok_or_else(|| Error::InvalidInput("max_result must be from 1 to 100.".to_owned())),
    }
}

async fn accounts(
    broker: &Broker,
    origin: &Origin,
    bearer: &Bearer,
    mut parameters: Parameters,
) -> Result<Value, Error> {
    let most = max_results(&mut parameters)?;
    let after = parameters.take("next_token");
    let all = roles::accounts(broker, &bearer.sign_in, origin).await?;
    let begin = match &after {
        None => 0,
        Some(after) => {
            let at = all
                .iter()
                .position(|(account, _)| account.as_str() == after);
            at.ok_or(Error::InvalidMarker)? + 1
        }
    };
    let page = all.get(begin..).unwrap_or_default();
    let host = settings(broker)?.public_url.clone();
    let host = host
        .split_once("://")
        .map_or(host.as_str(), |(_, host)| host);
    let host = host.split(':').next().unwrap_or_default();
    let listed: Vec<_> = page
        .iter()
        .take(most)
        .map(|(account, name)| {
            json!({
                "accountId": account.as_str(),
                "accountName": name,
                // Accounts have no address here, but clients demand one.
                "emailAddress": format!("{account}@{host}"),
            })
        })
        .collect();
    let mut body = json!({"accountList": listed});
    if page.len() > most
        && let (Some((last, _)), Some(fields)) = (page.get(most - 1), body.as_object_mut())
    {
        fields.insert("nextToken".to_owned(), last.as_str().into());
    }
    Ok(body)
}

async fn account_roles(
    broker: &Broker,
    origin: &Origin,
    bearer: &Bearer,
    mut parameters: Parameters,
) -> Result<Value, Error> {
    let account = account(&mut parameters)?;
    let most = max_results(&mut parameters)?;
    let next = parameters.take("next_token");
    let page = roles::page(
        broker,
        &bearer.sign_in,
        Some(account),
        next.as_deref(),
        most,
        |_| true,
        origin,
    )
    .await?;
    let listed: Vec<_> = page
        .choices
        .iter()
        .map(
            |choice| json!({"roleName": choice.role_name, "accountId": choice.account_id.as_str()}),
        )
        .collect();
    let mut body = json!({"roleList": listed});
    if let (Some(next), Some(fields)) = (page.next, body.as_object_mut()) {
        fields.insert("nextToken".to_owned(), next.into());
    }
    Ok(body)
}

fn account(parameters: &mut Parameters) -> Result<AccountId, Error> {
    let account = parameters.take("account_id").unwrap_or_default();
    AccountId::parse(&account)
        .ok_or_else(|| Error::InvalidInput("account_id must be twelve digits.".to_owned()))
}

async fn credentials(
    broker: &Arc<Broker>,
    origin: Origin,
    bearer: Bearer,
    mut parameters: Parameters,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let account = match account(&mut parameters) {
        Ok(account) => account,
        Err(error) => return portal_error(&error, request_id),
    };
    let name = parameters.take("role_name").unwrap_or_default();
    if !crate::base::names::is_iam_name(&name, 64) {
        let error = Error::InvalidInput("role_name must be the name of a role.".to_owned());
        return portal_error(&error, request_id);
    }
    let known = broker.directory.load().role_named(account, &name).cloned();
    let arn = known.map_or_else(
        || IamArn::text(account.as_str(), "role", "/", &name),
        |role| role.arn.to_string(),
    );
    let reply = choose::choose(broker, bearer.sign_in, &arn, origin).await;
    match reply.result {
        Ok(chosen) => ok(
            &reply.request_id,
            &json!({"roleCredentials": {
                "accessKeyId": chosen.credentials.access_key_id.as_str(),
                "secretAccessKey": chosen.credentials.secret_access_key.expose(),
                "sessionToken": chosen.credentials.session_token.expose(),
                "expiration": chosen.expires_at.millis(),
            }}),
        ),
        Err(error) if error.class() == Class::Forbidden => {
            no_access(&name, account.as_str(), &reply.request_id)
        }
        Err(error) => portal_error(&error, &reply.request_id),
    }
}
