//! The page with the credentials of a role to copy, and the guide for getting them with the AWS
//! CLI.

use askama::Template;

use super::answer::Answer;
use super::form::Form;
use super::frame::{Frame, Moment, span};
use super::problem::Problem;
use super::texts::Texts;
use super::visit::{Visit, encoded};
use crate::base::arn::{AccountId, IamArn, account_of, name_of};
use crate::mint::Credentials;
use crate::sign_in::{choose, roles};

/// The start URL for `aws configure sso`. AWS's tools require this form, but send no request to it.
const START_URL: &str = "https://brevet.awsapps.com/start";

#[derive(Template)]
#[template(path = "credentials.html", config = "src/portal/askama.toml")]
struct Page<'a> {
    frame: Frame<'a>,
    role: &'a str,
    role_arn: &'a str,
    account_id: &'a str,
    account_name: &'a str,
    session_arn: &'a str,
    expires: Moment,
    lasts: Option<String>,
    formats: [Format; 3],
    guide: String,
}

/// The credentials in the syntax of one shell or file.
struct Format {
    name: &'static str,
    hint: &'static str,
    text: String,
}

#[derive(Template)]
#[template(path = "guide.html", config = "src/portal/askama.toml")]
struct Guide<'a> {
    frame: Frame<'a>,
    /// The name of the AWS CLI profile in the guide.
    name: &'a str,
    profile: String,
    login: String,
    brevet: String,
}

/// Issues credentials of the chosen role, and shows them. Reloading the page issues others.
pub(super) async fn hand_out(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    let role_arn = form.take("role");
    let Some(signed_in) = visit.signed_in.clone() else {
        return Err(Problem::ended());
    };
    let sign_in = signed_in.sign_in;
    let reply = choose::choose(
        visit.broker,
        sign_in.clone(),
        &role_arn,
        visit.origin.clone(),
    )
    .await;
    let chosen = match reply.result {
        Ok(chosen) => chosen,
        Err(error) => return Err(no_access(&error, reply.request_id, &role_arn)),
    };
    visit.request_id = reply.request_id;
    let (account_id, role) = (account_of(&role_arn), name_of(&role_arn));
    let directory = visit.broker.directory.load();
    let account_name = AccountId::parse(account_id).map(|id| roles::account_name(&directory, id));
    let account_name = account_name.unwrap_or_default();
    let seconds = chosen.expires_at.since(visit.broker.clock.now()).as_secs();
    Ok(Answer::page(&Page {
        role,
        role_arn: &role_arn,
        account_id,
        account_name: &account_name,
        session_arn: &chosen.arn,
        expires: Moment::at(chosen.expires_at),
        lasts: i64::try_from(seconds).ok().map(span),
        formats: formats(
            visit.t,
            &visit.settings.public_url,
            &chosen.credentials,
            &profile_name(account_id, role),
        ),
        guide: format!("/portal/guide?role={}", encoded(&role_arn)),
        frame: visit.frame(),
    })?)
}

/// Returns the error page for a refused role, with the role's name, so that the person can ask an
/// administrator for access.
fn no_access(error: &crate::error::Error, request_id: String, role_arn: &str) -> Problem {
    let problem = Problem::refused(error, Some(request_id));
    let (account, role) = (account_of(role_arn), name_of(role_arn));
    match problem.is_forbidden() && !account.is_empty() {
        true => problem.saying(format!(
            "You have no access to the role {role} in the account {account}."
        )),
        false => problem,
    }
}

/// Returns the name of a CLI profile for a role, in the form that AWS's portal uses. Characters
/// that would need quotes become `-`.
fn profile_name(account: &str, role: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    let role: String = role
        .chars()
        .map(|c| if legal(c) { c } else { '-' })
        .collect();
    format!("{account}_{role}")
}

/// Returns the credentials with the broker's URL in all three forms. In a file, `endpoint_url` of a profile is for all
/// services: a section for the one service would have to be in another file than the credentials.
fn formats(t: &Texts, url: &str, credentials: &Credentials, profile: &str) -> [Format; 3] {
    let (id, secret) = (&credentials.access_key_id, &credentials.secret_access_key);
    let (id, secret) = (id.as_str(), secret.expose());
    let token = credentials.session_token.expose();
    let variables = [
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_SESSION_TOKEN", token),
        ("AWS_ENDPOINT_URL_STS", url),
    ];
    // None of these values has a quote or another character that means something to a shell.
    let lines = |begin: &str, quote: &str| {
        let all = variables.iter();
        let lines: Vec<String> = all
            .map(|(name, value)| format!("{begin}{name}={quote}{value}{quote}"))
            .collect();
        lines.join("\n")
    };
    [
        Format {
            name: t.bash,
            hint: t.bash_hint,
            text: lines("export ", "\""),
        },
        Format {
            name: t.powershell,
            hint: t.powershell_hint,
            text: lines("$Env:", "\""),
        },
        Format {
            name: t.file,
            hint: t.file_hint,
            text: format!(
                "[{profile}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\naws_session_token = {token}\n\
                 endpoint_url = {url}"
            ),
        },
    ]
}

/// Shows how to configure the AWS CLI and the SDKs so that they get credentials of a role by
/// themselves.
pub(super) fn guide(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    if let Err(answer) = visit.must_be_signed_in() {
        return Ok(*answer);
    }
    let role_arn = visit.parameter("role")?.unwrap_or_default();
    let is_role = IamArn::parse(&role_arn).is_some_and(|arn| arn.kind == "role");
    let (account, role) = match is_role {
        true => (account_of(&role_arn), name_of(&role_arn)),
        false => ("111122223333", "ROLE"),
    };
    let name = profile_name(account, role);
    let (url, region) = (&visit.settings.public_url, &visit.broker.region);
    let services: Vec<String> = ["sso", "sso_oidc", "sts"]
        .iter()
        .map(|service| format!("{service} =\n  endpoint_url = {url}"))
        .collect();
    Ok(Answer::page(&Guide {
        profile: format!(
            "[profile {name}]\nsso_session = brevet\nsso_account_id = {account}\nsso_role_name = {role}\n\
             region = {region}\nservices = brevet\n\n\
             [sso-session brevet]\nsso_start_url = {START_URL}\nsso_region = {region}\n\
             sso_registration_scopes = sso:account:access\n\n\
             [services brevet]\n{}",
            services.join("\n")
        ),
        login: format!("aws sso login --profile {name}"),
        brevet: format!(
            "brevet configure sso --new-profile {name} --endpoint {url} --account-id {account} --role-name {role}\n\
             brevet login --profile {name}"
        ),
        name: &name,
        frame: visit.frame(),
    })?)
}
