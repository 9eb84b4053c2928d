//! The credential report, a table of all users with their passwords, keys and MFA devices: IAM API
//! Reference, "GenerateCredentialReport" and "GetCredentialReport"; IAM User Guide, "Generate
//! credential reports".
//!
//! The broker computes the report when a caller reads it. The store only records that a report was
//! generated, so that all brokers know it.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permit};
use super::rows::{self, List};
use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::directory;
use crate::directory::declaration::{AccessKeyDetail, LoginProfileDetail, UserDetail};
use crate::directory::resource::ResourceKind;
use crate::error::Error;
use crate::ops::context::Context;
use crate::store::LastUse;

/// How long a generated report can be retrieved, in seconds.
const VALID_SECONDS: i64 = 4 * 3_600;
/// The maximum number of users in a report. A larger account gets LimitExceeded.
const MAX_USERS: usize = 20_000;
/// The number of users whose rows are read from the store at once.
const PORTION: usize = 500;
const COLUMNS: &str = "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,\
password_next_rotation,mfa_active,\
access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,access_key_1_last_used_region,access_key_1_last_used_service,\
access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date,access_key_2_last_used_region,access_key_2_last_used_service,\
cert_1_active,cert_1_last_rotated,cert_2_active,cert_2_last_rotated";
const NOT_APPLICABLE: &str = "N/A";

/// Records that a report was generated. GetCredentialReport computes its content.
#[derive(Deserialize)]
pub struct GenerateCredentialReport {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Generated {
    state: &'static str,
    description: &'static str,
}

impl Action for GenerateCredentialReport {
    const NAME: &'static str = "GenerateCredentialReport";
    const READ_ONLY: bool = true;
    type Output = Generated;

    async fn run(self, cx: &mut Context<'_>) -> Result<Generated, Error> {
        permit::<Self>(cx, &Resource::any())?;
        let generated = LastUse {
            at: cx.now,
            service: "iam".into(),
            region: NOT_APPLICABLE.into(),
        };
        let uses = [(report_id(cx.caller().account()), generated)];
        cx.wait(cx.broker.store.note_key_use(&uses)).await?;
        permit::<Self>(cx, &Resource::any())?;
        Ok(Generated {
            state: "COMPLETE",
            description: "The report can be read with GetCredentialReport.",
        })
    }
}

/// Computes the report, if one was generated within the last four hours.
#[derive(Deserialize)]
pub struct GetCredentialReport {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    content: String,
    report_format: &'static str,
    generated_time: String,
}

impl Action for GetCredentialReport {
    const NAME: &'static str = "GetCredentialReport";
    const READ_ONLY: bool = true;
    type Output = Report;

    async fn run(self, cx: &mut Context<'_>) -> Result<Report, Error> {
        permit::<Self>(cx, &Resource::any())?;
        let account = cx.caller().account();
        let generated = report_id(account);
        let generated = cx.wait(cx.broker.store.last_key_use(&generated)).await?;
        permit::<Self>(cx, &Resource::any())?;
        let generated = generated.ok_or(Error::ReportNotPresent)?.at;
        if cx.now.seconds() - generated.seconds() > VALID_SECONDS {
            return Err(Error::ReportExpired);
        }
        let text = report(cx, account).await?;
        permit::<Self>(cx, &Resource::any())?;
        Ok(Report {
            content: STANDARD.encode(text),
            report_format: "text/csv",
            generated_time: cx.now.to_string(),
        })
    }
}

/// The id under which the store records when an account's report was generated.
fn report_id(account: AccountId) -> String {
    format!("credential-report/{account}")
}

/// The facts about users' credentials that are not in the users' own rows.
#[derive(Default)]
struct Known {
    /// The sorted ids of each user's access keys, by the user's ARN.
    keys: HashMap<String, Vec<String>>,
    /// The ARNs of users with an MFA device.
    with_mfa: HashSet<String>,
    /// The age in days at which passwords expire; `None` if they do not.
    max_age_days: Option<u32>,
}

impl Known {
    fn of(cx: &Context<'_>, account: AccountId) -> Self {
        let mut known = Self::default();
        for key in cx.directory.access_keys() {
            let keys = known.keys.entry(key.user_arn.to_string()).or_default();
            keys.push(key.id.as_str().to_owned());
        }
        for keys in known.keys.values_mut() {
            keys.sort();
        }
        let devices = cx.directory.mfa_devices();
        let owners = devices.filter_map(|device| device.user_arn.as_deref());
        known.with_mfa = owners.map(str::to_owned).collect();
        let settings = cx.directory.account_settings(account);
        let policy = settings.and_then(|settings| settings.password_policy.as_ref());
        known.max_age_days = policy.and_then(|policy| policy.max_age_days);
        known
    }
}

async fn report(cx: &mut Context<'_>, account: AccountId) -> Result<String, Error> {
    let known = Known::of(cx, account);
    let mut text = format!("{COLUMNS}\n{}\n", root(account));
    let list = List::Of(ResourceKind::User, account.as_str());
    let mut after = String::new();
    let mut count = 0;
    loop {
        let (page, end) = rows::select(cx, &list, &after, PORTION, |_| true).await?;
        let users = page.into_iter().filter_map(|resource| match resource {
            directory::resource::Resource::User(user) => Some(user),
            _ => None,
        });
        let users: Vec<UserDetail> = users.collect();
        count += users.len();
        if count > MAX_USERS {
            return Err(Error::LimitExceeded(format!(
                "Cannot exceed quota for UsersPerCredentialReport: {MAX_USERS}"
            )));
        }
        after = users
            .last()
            .map(|user| user.user_name.to_ascii_lowercase())
            .unwrap_or_default();
        let lines = lines(cx, &known, &users).await?;
        text.push_str(&lines);
        if !end.is_truncated() {
            return Ok(text);
        }
    }
}

/// Returns one line of the report for each of these users.
async fn lines(cx: &mut Context<'_>, known: &Known, users: &[UserDetail]) -> Result<String, Error> {
    let key_ids: Vec<String> = users
        .iter()
        .filter_map(|user| known.keys.get(&user.arn))
        .flatten()
        .cloned()
        .collect();
    let mut used_ids = key_ids.clone();
    used_ids.extend(users.iter().map(|user| user.user_id.clone()));
    let mut used = cx.wait(cx.broker.store.last_key_uses(&used_ids)).await?;
    for id in used_ids {
        // What this broker has seen since it last wrote comes after what is written.
        if let Some(last) = cx.broker.key_use.last(&id) {
            used.insert(id, last);
        }
    }
    let keys = rows::by_id(cx, ResourceKind::AccessKey, key_ids).await?;
    let arns = users.iter().map(|user| user.arn.clone());
    let profiles = rows::by_id(cx, ResourceKind::LoginProfile, arns.collect()).await?;
    let mut text = String::new();
    for user in users {
        let profile = match profiles.get(&user.arn) {
            Some(directory::resource::Resource::LoginProfile(profile)) => Some(profile),
            _ => None,
        };
        let ids = known
            .keys
            .get(&user.arn)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let keys: Vec<(&AccessKeyDetail, Option<&LastUse>)> = ids
            .iter()
            .filter_map(|id| match keys.get(id) {
                Some(directory::resource::Resource::AccessKey(key)) => Some((key, used.get(id))),
                _ => None,
            })
            .collect();
        let password = password(profile, used.get(&user.user_id), known.max_age_days);
        let has_mfa = known.with_mfa.contains(&user.arn);
        text.push_str(&line(user, &password, has_mfa, &keys));
        text.push('\n');
    }
    Ok(text)
}

/// Returns the line of the root user. Brevet has no root user, but readers of the report expect the
/// line.
fn root(account: AccountId) -> String {
    let mut fields = vec![
        "<root_account>".to_owned(),
        format!("arn:aws:iam::{account}:root"),
        NOT_APPLICABLE.to_owned(),
        "not_supported".to_owned(),
        // What AWS says of a root user who never signed in. Readers take anything else for a date.
        "no_information".to_owned(),
        "not_supported".to_owned(),
        "not_supported".to_owned(),
        "false".to_owned(),
    ];
    for _ in 0..2 {
        fields.extend(no_key());
    }
    fields.extend(no_certificates());
    fields.join(",")
}

/// Returns the four fields about a user's password: enabled, last used, last changed and next
/// rotation.
fn password(
    profile: Option<&LoginProfileDetail>,
    used: Option<&LastUse>,
    max_age_days: Option<u32>,
) -> [String; 4] {
    let none = || NOT_APPLICABLE.to_owned();
    let Some(profile) = profile else {
        return ["false".to_owned(), none(), none(), none()];
    };
    let changed = profile.password_last_changed.as_ref();
    let changed = seconds(changed.or(profile.create_date.as_ref()));
    let next = changed.zip(max_age_days);
    let next = next.map(|(changed, days)| changed + i64::from(days) * 86_400);
    [
        "true".to_owned(),
        used.map_or_else(
            || "no_information".to_owned(),
            |used| time(used.at.seconds()),
        ),
        changed.map_or_else(none, time),
        next.map_or_else(none, time),
    ]
}

fn line(
    user: &UserDetail,
    password: &[String; 4],
    has_mfa: bool,
    keys: &[(&AccessKeyDetail, Option<&LastUse>)],
) -> String {
    let none = || NOT_APPLICABLE.to_owned();
    let created = seconds(user.create_date.as_ref()).map_or_else(none, time);
    let mut fields = vec![quoted(&user.user_name), quoted(&user.arn), created];
    fields.extend(password.iter().cloned());
    fields.push(has_mfa.to_string());
    for place in 0..2 {
        let Some((key, used)) = keys.get(place) else {
            fields.extend(no_key());
            continue;
        };
        let is_active = key.status.as_deref() != Some("Inactive");
        fields.push(is_active.to_string());
        fields.push(seconds(key.create_date.as_ref()).map_or_else(none, time));
        fields.push(used.map_or_else(none, |used| time(used.at.seconds())));
        fields.push(used.map_or_else(none, |used| quoted(&used.region)));
        fields.push(used.map_or_else(none, |used| quoted(&used.service)));
    }
    fields.extend(no_certificates());
    fields.join(",")
}

fn no_key() -> [String; 5] {
    let none = || NOT_APPLICABLE.to_owned();
    ["false".to_owned(), none(), none(), none(), none()]
}

fn no_certificates() -> [String; 4] {
    ["false", NOT_APPLICABLE, "false", NOT_APPLICABLE].map(str::to_owned)
}

/// Converts a date in a stored row to seconds since 1970; `None` if the row has no valid date.
fn seconds(date: Option<&String>) -> Option<i64> {
    let at: jiff::Timestamp = date?.parse().ok()?;
    Some(at.as_second())
}

/// Formats a time as clients of the report expect it: `2026-01-31T12:00:00+00:00`.
fn time(seconds: i64) -> String {
    let text = Timestamp::from_seconds(seconds).to_string();
    format!("{}+00:00", text.trim_end_matches('Z'))
}

/// Returns a field of the CSV, in quotes if RFC 4180 requires them: user names may contain a comma.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_field_for_each_column() {
        let account = AccountId::parse("111122223333").unwrap();
        let columns = COLUMNS.split(',').count();
        assert_eq!(columns, 22);
        assert_eq!(root(account).split(',').count(), columns);
        let user = UserDetail {
            user_name: "a,b".to_owned(),
            arn: "arn:aws:iam::111122223333:user/x/a,b".to_owned(),
            create_date: Some("2026-01-31T12:00:00Z".to_owned()),
            ..UserDetail::default()
        };
        let key = AccessKeyDetail {
            status: Some("Inactive".to_owned()),
            create_date: Some("2026-02-01T00:00:00Z".to_owned()),
            ..AccessKeyDetail::default()
        };
        let used = LastUse {
            at: Timestamp::from_seconds(1_769_860_800),
            service: "sts".into(),
            region: "us-east-1".into(),
        };
        let profile = LoginProfileDetail {
            password_last_changed: Some("2026-01-01T00:00:00Z".to_owned()),
            ..LoginProfileDetail::default()
        };
        let password = password(Some(&profile), None, Some(30));
        let line = line(&user, &password, true, &[(&key, Some(&used))]);
        assert_eq!(
            line,
            "\"a,b\",\"arn:aws:iam::111122223333:user/x/a,b\",2026-01-31T12:00:00+00:00,true,no_information,\
             2026-01-01T00:00:00+00:00,2026-01-31T00:00:00+00:00,true,\
             false,2026-02-01T00:00:00+00:00,2026-01-31T12:00:00+00:00,us-east-1,sts,\
             false,N/A,N/A,N/A,N/A,false,N/A,false,N/A"
        );
    }
}
