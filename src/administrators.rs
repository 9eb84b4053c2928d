//! Finds out who may administer: a user or role that could undo any change of the directory by the IAM API.
//!
//! There is no root user. If nobody may administer, only somebody on the broker's host can change
//! the directory, so `commands` refuses a change that would lead to that state.

use std::borrow::Cow;

use crate::base::arn::AccountId;
use crate::base::clock::Timestamp;
use crate::base::names::Tag;
use crate::directory::{Administrator, Directory, Effective, Levels, Member, Role, User};
use crate::evaluator::{self, Policies, Policy, Principal, Request, RequestContext, strangers};

/// The permissions of an administrator: actions, each with the kind of resource that it changes. Whoever may
/// do all of this can also give themselves whatever is missing.
const ADMINISTRATION: [(&str, &str); 7] = [
    ("iam:CreateUser", "user"),
    ("iam:CreateAccessKey", "user"),
    ("iam:PutUserPolicy", "user"),
    ("iam:AttachUserPolicy", "user"),
    ("iam:PutRolePolicy", "role"),
    ("iam:UpdateAssumeRolePolicy", "role"),
    ("iam:CreatePolicyVersion", "policy"),
];
/// A resource name that nobody has. It stands for every resource of its kind, since a policy that
/// names particular resources does not cover it.
const ANY: &str = "brevet-any-resource";
/// A time after every date that a policy is likely to name: the beginning of the year 9999.
const LATER: Timestamp = Timestamp::from_seconds(253_370_764_800);
/// The region of IAM's global endpoint, in which every IAM call is evaluated.
const REGION: &str = "us-east-1";

/// Lists the administrators of a directory: first users, then roles. A role is listed once for each identity provider
/// and each user through which it can be used.
pub fn administrators(
    directory: &Directory,
    now: Timestamp,
) -> impl Iterator<Item = Administrator> {
    let users = users_with_keys(directory);
    let themselves = users.into_iter().filter_map(move |user| {
        let administers = user_administers(directory, user, now);
        administers.then(|| Administrator::User(user.arn.to_string()))
    });
    let roles = directory
        .roles()
        .filter(move |role| role_administers(directory, role, now));
    themselves.chain(roles.flat_map(move |role| by_role(directory, role, now)))
}

/// Checks whether `who` is an administrator. The directory may be incomplete, but must contain every entry that the
/// answer depends on.
pub fn is_administrator(directory: &Directory, who: &Administrator, now: Timestamp) -> bool {
    match who {
        Administrator::User(user) => {
            with_key(directory, user).is_some_and(|user| user_administers(directory, user, now))
        }
        Administrator::RoleOfUser(role, user) => {
            let (Some(role), Some(user)) = (directory.role(role), with_key(directory, user)) else {
                return false;
            };
            role_administers(directory, role, now) && assumes(directory, user, role, now)
        }
        Administrator::RoleOfProvider(role, provider) => {
            let is_there = directory.oidc_provider(provider).is_some()
                || directory
                    .saml_provider(provider)
                    .is_some_and(|provider| provider.metadata.is_ok());
            directory.role(role).is_some_and(|role| {
                is_there
                    && strangers::federated_providers(&role.trust).contains(&provider.as_str())
                    && role_administers(directory, role, now)
            })
        }
    }
}

/// Lists the users and the identity providers through which a role that may administer can be used.
fn by_role<'d>(
    directory: &'d Directory,
    role: &'d Role,
    now: Timestamp,
) -> impl Iterator<Item = Administrator> + 'd {
    let providers = strangers::federated_providers(&role.trust);
    let providers = providers
        .into_iter()
        .map(|provider| Administrator::RoleOfProvider(role.arn.to_string(), provider.to_owned()));
    let providers = providers.filter(move |who| is_administrator(directory, who, now));
    let users = users_with_keys(directory).into_iter();
    let users = users.filter(move |user| assumes(directory, user, role, now));
    providers.chain(
        users.map(|user| Administrator::RoleOfUser(role.arn.to_string(), user.arn.to_string())),
    )
}

fn users_with_keys(directory: &Directory) -> Vec<&User> {
    let active = directory.access_keys().filter(|key| key.active);
    let users = active.filter_map(|key| directory.user(&key.user_arn));
    let mut users: Vec<&User> = users.map(|user| &**user).collect();
    users.sort_unstable_by(|a, b| a.arn.cmp(&b.arn));
    users.dedup_by(|a, b| a.arn == b.arn);
    users
}

/// The user with this ARN, if it has an active access key.
fn with_key<'d>(directory: &'d Directory, arn: &str) -> Option<&'d User> {
    let mut keys = directory.access_keys();
    let has_key = keys.any(|key| key.active && *key.user_arn == *arn);
    directory.user(arn).map(|user| &**user).filter(|_| has_key)
}

/// Whether a user has an MFA device, or may enroll one for itself without a code.
fn has_codes(directory: &Directory, user: &User, now: Timestamp) -> bool {
    let mut devices = directory.mfa_devices();
    let device = format!("arn:aws:iam::{}:mfa/{}", user.account, user.name);
    let may = |action, resource| {
        user_may(
            directory,
            user,
            false,
            (action, resource, user.account),
            None,
            now,
        )
    };
    devices.any(|device| device.user_arn.as_deref() == Some(&*user.arn))
        || (may("iam:CreateVirtualMFADevice", &*device) && may("iam:EnableMFADevice", &*user.arn))
}

fn any(account: AccountId, kind: &str) -> String {
    format!("arn:aws:iam::{account}:{kind}/{ANY}")
}

/// Whether a user may administer its own account, with a code if it has an MFA device or may enroll one.
fn user_administers(directory: &Directory, user: &User, now: Timestamp) -> bool {
    let may = |code| {
        ADMINISTRATION.iter().all(|(action, kind)| {
            let resource = any(user.account, kind);
            let asked = (*action, resource.as_str(), user.account);
            user_may(directory, user, code, asked, None, now)
        })
    };
    may(false) || (may(true) && has_codes(directory, user, now))
}

/// Whether a user may assume a role, with a code if the user has an MFA device or may enroll one.
fn assumes(directory: &Directory, user: &User, role: &Role, now: Timestamp) -> bool {
    let may = |code| {
        let asked = ("sts:AssumeRole", &*role.arn, role.account);
        user_may(directory, user, code, asked, Some(&role.trust), now)
    };
    may(false) || (may(true) && has_codes(directory, user, now))
}

/// Whether the sessions of a role may administer the account of the role.
fn role_administers(directory: &Directory, role: &Role, now: Timestamp) -> bool {
    let Ok(effective) = directory.effective_of_role(role) else {
        return false;
    };
    let name = "administrator";
    let arn = format!(
        "arn:aws:sts::{}:assumed-role/{}/{name}",
        role.account, role.name
    );
    let mut context = context(directory, role.account, &role.arn, &role.tags, now);
    context.set("aws:principaltype", "AssumedRole");
    context.set("aws:userid", format!("{}:{name}", role.id));
    context.set("aws:multifactorauthpresent", "false");
    let principal = Principal::RoleSession {
        account: role.account.as_str(),
        role: &role.name,
        role_arn: Some(&role.arn),
        arn: &arn,
        id: Some(&role.id),
    };
    ADMINISTRATION.iter().all(|(action, kind)| {
        let resource = any(role.account, kind);
        let asked = (*action, resource.as_str(), role.account);
        is_allowed(
            directory,
            (principal, role.account),
            &effective,
            asked,
            None,
            &context,
        )
    })
}

/// Whether a user with an access key may call the action `asked` on its resource in an account. `code` says whether the
/// call carries a code of an MFA device. `trust` is the trust policy of the resource; only a role has one.
fn user_may(
    directory: &Directory,
    user: &User,
    code: bool,
    asked: (&str, &str, AccountId),
    trust: Option<&Policy>,
    now: Timestamp,
) -> bool {
    let Ok(effective) = directory.effective_of_user(user) else {
        return false;
    };
    let mut context = context(directory, user.account, &user.arn, &user.tags, now);
    context.set("aws:principaltype", "User");
    context.set("aws:username", &*user.name);
    context.set("aws:userid", &*user.id);
    context.set("aws:resourceaccount", asked.2.to_string());
    if code {
        context.set("aws:multifactorauthpresent", "true");
        context.set("aws:multifactorauthage", "0");
    }
    let principal = Principal::User {
        account: user.account.as_str(),
        arn: &user.arn,
        id: Some(&user.id),
    };
    is_allowed(
        directory,
        (principal, user.account),
        &effective,
        asked,
        trust,
        &context,
    )
}

/// The request context of a call, with only those condition keys that do not depend on where the call comes
/// from.
fn context<'a>(
    directory: &'a Directory,
    account: AccountId,
    arn: &'a str,
    tags: &'a [Tag],
    now: Timestamp,
) -> RequestContext<'a> {
    let mut context = RequestContext::new();
    set_time(&mut context, now);
    context.set("aws:securetransport", "true");
    context.set("aws:requestedregion", REGION);
    context.set("aws:viaawsservice", "false");
    context.set("aws:principalisawsservice", "false");
    context.set("aws:principalarn", arn);
    context.set("aws:principalaccount", account.to_string());
    context.set("aws:resourceaccount", account.to_string());
    if let Some(member) = directory.member(account) {
        for name in ["aws:principalorgid", "aws:resourceorgid"] {
            context.set(name, &*member.organization);
        }
        for name in ["aws:principalorgpaths", "aws:resourceorgpaths"] {
            context.set_many(name, vec![Cow::from(&*member.path)]);
        }
    }
    for tag in tags {
        context.set(format!("aws:principaltag/{}", tag.key), tag.value.as_str());
    }
    context
}

fn set_time(context: &mut RequestContext<'_>, at: Timestamp) {
    context.set("aws:currenttime", at.to_string());
    context.set("aws:epochtime", at.seconds().to_string());
}

/// Whether a request is allowed both now and in the year 9999. A permission that ends on a date is lost without a
/// change that could be refused, so it does not count.
fn is_allowed(
    directory: &Directory,
    (principal, account): (Principal<'_>, AccountId),
    effective: &Effective,
    (action, resource, owner): (&str, &str, AccountId),
    trust: Option<&Policy>,
    context: &RequestContext<'_>,
) -> bool {
    let identity: Vec<&Policy> = effective.identity.iter().map(|policy| &**policy).collect();
    let service = directory.member(account).and_then(Member::service_control);
    let of_resource = directory.member(owner).filter(|_| trust.is_some());
    let of_resource = of_resource.and_then(Member::resource_control);
    let (service, of_resource) = (slices(service.as_ref()), slices(of_resource.as_ref()));
    let policies = Policies {
        identity: &identity,
        resource: trust,
        resource_is_trust: trust.is_some(),
        boundary: effective.boundary.as_deref(),
        service_control: service.as_deref(),
        resource_control: of_resource.as_deref(),
        ..Policies::default()
    };
    let allowed = |context: &RequestContext<'_>| {
        let request = Request {
            principal,
            action,
            resource,
            resource_account: owner.as_str(),
            context,
        };
        evaluator::evaluate(&request, &policies).is_allowed()
    };
    let mut later = context.clone();
    set_time(&mut later, LATER);
    allowed(context) && allowed(&later)
}

fn slices<'l, 'a>(levels: Option<&'l Levels<'a>>) -> Option<Vec<&'l [&'a Policy]>> {
    levels.map(|levels| levels.iter().map(Vec::as_slice).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn arn(what: &str) -> String {
        format!("arn:aws:iam::111122223333:{what}")
    }

    fn document(statement: Value) -> Value {
        json!({"Version": "2012-10-17", "Statement": [statement]})
    }

    fn everything(condition: Value) -> Value {
        document(json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}))
    }

    fn user(name: &str, policy: Value) -> Value {
        json!({"UserName": name, "Arn": arn(&format!("user/{name}")), "UserId": format!("AIDA{:0>16}", name.to_ascii_uppercase()),
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": policy}]})
    }

    fn key(name: &str, status: &str) -> Value {
        json!({"UserArn": arn(&format!("user/{name}")), "AccessKeyId": format!("AKIA{:0>16}", name.to_ascii_uppercase()),
            "SecretAccessKey": "a-secret-that-is-long-enough-0123456789", "Status": status})
    }

    fn role(name: &str, principal: Value) -> Value {
        let trust = document(json!({"Effect": "Allow", "Principal": principal,
            "Action": ["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"]}));
        json!({"RoleName": name, "Arn": arn(&format!("role/{name}")), "RoleId": format!("AROA{:0>16}", name.to_ascii_uppercase()),
            "AssumeRolePolicyDocument": trust,
            "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": everything(json!({}))}]})
    }

    fn found(file: &Value) -> Vec<Administrator> {
        let directory = Directory::compile(file.to_string().as_bytes(), None).unwrap();
        let found: Vec<Administrator> = administrators(&directory, NOW).collect();
        for who in &found {
            assert!(is_administrator(&directory, who, NOW), "{who:?}");
        }
        found
    }

    #[test]
    fn who_may_change_everything_and_can_call_administers() {
        let code = json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}});
        let office = json!({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}});
        let until = json!({"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}});
        let from = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"NumericGreaterThan": {"aws:EpochTime": "1900000000"}}}]});
        let past = json!({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}});
        let users_only =
            document(json!({"Effect": "Allow", "Action": "iam:*", "Resource": arn("user/*")}));
        let enrolls = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": code},
            {"Effect": "Allow", "Action": ["iam:CreateVirtualMFADevice", "iam:EnableMFADevice"], "Resource": "*"}]});
        let all = || everything(json!({}));
        let provider = arn("oidc-provider/idp.example.com");
        let file = json!({
            "UserDetailList": [user("all", all()), user("keyless", all()), user("inactive", all()), user("less", users_only),
                user("office", everything(office)), user("codeless", everything(code.clone())), user("device", everything(code)),
                user("enrolls", enrolls), user("until", everything(until)), user("from", from), user("past", everything(past))],
            "RoleDetailList": [role("Ofless", json!({"AWS": arn("user/less")})), role("Ofkeyless", json!({"AWS": arn("user/keyless")})),
                role("Ofidp", json!({"Federated": provider})), role("Ofnoidp", json!({"Federated": arn("oidc-provider/none")})),
                role("Ofothers", json!({"AWS": "444455556666"}))],
            "Brevet": {
                "AccessKeys": [key("all", "Active"), key("inactive", "Inactive"), key("less", "Active"), key("office", "Active"),
                    key("codeless", "Active"), key("device", "Active"), key("enrolls", "Active"),
                    key("until", "Active"), key("from", "Active"), key("past", "Active")],
                "MFADevices": [{"SerialNumber": arn("mfa/device"), "UserArn": arn("user/device"),
                    "Base32StringSeed": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}],
                "OpenIDConnectProviders": [{"Arn": provider, "Url": "https://idp.example.com", "ClientIDList": ["c"]}],
            },
        });
        let user = |name: &str| Administrator::User(arn(&format!("user/{name}")));
        let mut found = found(&file);
        found.sort_by_key(|who| format!("{who:?}"));
        assert_eq!(
            found,
            [
                Administrator::RoleOfProvider(arn("role/Ofidp"), provider),
                Administrator::RoleOfUser(arn("role/Ofless"), arn("user/less")),
                user("all"),
                user("device"),
                user("enrolls"),
                user("past"),
            ]
        );
    }

    #[test]
    fn the_organization_can_take_it_away() {
        let deny =
            document(json!({"Effect": "Deny", "Action": "iam:PutRolePolicy", "Resource": "*"}));
        let file = |management: &str| {
            let targets =
                ["r-exam", "111122223333", "999988887777"].map(|id| json!({"TargetId": id}));
            json!({"UserDetailList": [user("all", everything(json!({})))], "Brevet": {"AccessKeys": [key("all", "Active")],
                "Organization": {"Id": "o-exampleorgid", "MasterAccountId": management, "Roots": [{"Id": "r-exam"}],
                    "Accounts": [{"Id": "111122223333", "ParentId": "r-exam"}, {"Id": "999988887777", "ParentId": "r-exam"}],
                    "Policies": [{"PolicySummary": {"Id": "p-FullAWSAccess", "Type": "SERVICE_CONTROL_POLICY"}, "Targets": targets},
                        {"PolicySummary": {"Id": "p-noiamhere", "Type": "SERVICE_CONTROL_POLICY"}, "Content": deny,
                            "Targets": [{"TargetId": "r-exam"}]}]}}})
        };
        assert_eq!(found(&file("999988887777")), []);
        assert_eq!(found(&file("111122223333")).len(), 1);
    }
}
