//! The global condition keys, from the IAM User Guide, "AWS global condition context keys".

use super::Presence::{Always, When};
use super::Source::Global;
use super::Type::{Arn, Bool, Date, IpAddress, Numeric, String};
use super::{ConditionKey, Presence, many, never, never_many, one};

const SIGNED: Presence =
    When("on every signed call; AssumeRoleWithSAML and AssumeRoleWithWebIdentity are not signed");
const SIGNED_OR_TO_STORE: Presence =
    When("on every signed call, and on unsigned requests to object stores");
const TEMPORARY: Presence = When("on temporary credentials, and for a user who signed in");
const MEMBER: Presence =
    When("on every signed call of a principal whose account is in the organization");
const OF_MEMBER: Presence =
    When("when the account of `aws:ResourceAccount` is in the organization");
const NO_SERVICE: &str = "no AWS service calls this broker";
const WORKLOAD: Presence =
    When("in the trust policy on AssumeRoleForWorkload, for an instance, a task or a pod");
const NO_VPC: &str = "no request comes through a VPC endpoint";
const NO_RUNTIME: &str = "no AWS service passes sessions of this broker to its workloads";
const NO_MCP: &str = "no AWS MCP server calls this broker";

/// The keys in the order of AWS's page.
pub(super) const KEYS: &[ConditionKey] = &[
    one(
        Global,
        "aws:PrincipalArn",
        Arn,
        SIGNED,
        "the user's ARN; on a role session, the role's ARN; for a federated user, its own ARN",
    ),
    one(
        Global,
        "aws:PrincipalAccount",
        String,
        SIGNED,
        "the principal's account",
    ),
    many(
        Global,
        "aws:PrincipalOrgPaths",
        String,
        MEMBER,
        "a list with one path, `o-…/r-…/ou-…/`, which leads to the parent of the principal's account",
    ),
    one(
        Global,
        "aws:PrincipalOrgID",
        String,
        MEMBER,
        "the organization's id, `o-…`",
    ),
    one(
        Global,
        "aws:PrincipalTag/",
        String,
        When("for each tag of the user, of the role and of the session"),
        "the tag's value; a session tag overrides the tag of the role with the same key",
    ),
    one(
        Global,
        "aws:PrincipalIsAWSService",
        Bool,
        SIGNED,
        "`true` in the trust policy on AssumeRoleForWorkload, for an instance, a task or a pod; otherwise `false`",
    ),
    one(
        Global,
        "aws:PrincipalServiceName",
        String,
        WORKLOAD,
        "`ec2.amazonaws.com`, `ecs-tasks.amazonaws.com` or `pods.eks.amazonaws.com`",
    ),
    many(
        Global,
        "aws:PrincipalServiceNamesList",
        String,
        WORKLOAD,
        "a list with the name in `aws:PrincipalServiceName`",
    ),
    one(
        Global,
        "aws:PrincipalType",
        String,
        SIGNED_OR_TO_STORE,
        "`User`, `AssumedRole` or `FederatedUser`; `Anonymous` if the request is unsigned",
    ),
    one(
        Global,
        "aws:userid",
        String,
        SIGNED_OR_TO_STORE,
        "`AIDA…` for a user, `AROA…:SESSION` for a role session, `ACCOUNT:NAME` for a federated user; `anonymous` if the \
         request is unsigned",
    ),
    one(
        Global,
        "aws:username",
        String,
        When(
            "on every call of a user, by a long-term credential, a sign-in or a session of GetSessionToken",
        ),
        "the user's name",
    ),
    never(Global, "aws:AssumedRoot", Bool, "Brevet has no AssumeRoot"),
    one(
        Global,
        "aws:FederatedProvider",
        String,
        When(
            "on AssumeRoleWithSAML, on AssumeRoleWithWebIdentity and on the session that they issued, but not on sessions assumed from that one",
        ),
        "the provider's ARN",
    ),
    one(
        Global,
        "aws:TokenIssueTime",
        Date,
        TEMPORARY,
        "when this session was issued, or when the user signed in",
    ),
    never(
        Global,
        "aws:SignInSessionArn",
        Arn,
        "sessions do not come from AWS Sign-In",
    ),
    one(
        Global,
        "aws:MultiFactorAuthAge",
        Numeric,
        When("when an MFA code was given with the call, or for the user's own session or sign-in"),
        "seconds since the MFA code was given",
    ),
    one(
        Global,
        "aws:MultiFactorAuthPresent",
        Bool,
        When(
            "on temporary credentials, for a user who signed in, and when an MFA code was given with the call",
        ),
        "`true` if an MFA code was given with the call, or for the user's own session or sign-in",
    ),
    never(Global, "aws:ChatbotSourceArn", Arn, NO_RUNTIME),
    never(Global, "aws:Ec2InstanceSourceVpc", String, NO_RUNTIME),
    never(
        Global,
        "aws:Ec2InstanceSourcePrivateIPv4",
        IpAddress,
        NO_RUNTIME,
    ),
    one(
        Global,
        "aws:SourceIdentity",
        String,
        When("on a session that has a source identity"),
        "the source identity",
    ),
    never(Global, "ec2:RoleDelivery", Numeric, NO_RUNTIME),
    never(Global, "ec2:SourceInstanceArn", Arn, NO_RUNTIME),
    never(Global, "glue:RoleAssumedBy", String, NO_RUNTIME),
    never(Global, "glue:CredentialIssuingService", String, NO_RUNTIME),
    never(Global, "codebuild:BuildArn", Arn, NO_RUNTIME),
    never(Global, "codebuild:ProjectArn", Arn, NO_RUNTIME),
    never(Global, "lambda:SourceFunctionArn", Arn, NO_RUNTIME),
    never(Global, "ssm:SourceInstanceArn", Arn, NO_RUNTIME),
    never(
        Global,
        "identitystore:UserId",
        String,
        "this broker has no users of IAM Identity Center",
    ),
    one(
        Global,
        "aws:SourceIp",
        IpAddress,
        Always,
        "the client's address",
    ),
    never(Global, "aws:SourceVpc", String, NO_VPC),
    never(Global, "aws:SourceVpcArn", Arn, NO_VPC),
    never(Global, "aws:SourceVpce", String, NO_VPC),
    never(Global, "aws:VpceAccount", String, NO_VPC),
    never(Global, "aws:VpceOrgID", String, NO_VPC),
    never_many(Global, "aws:VpceOrgPaths", String, NO_VPC),
    never(Global, "aws:VpcSourceIp", IpAddress, NO_VPC),
    one(
        Global,
        "aws:ResourceAccount",
        String,
        Always,
        "the account of the requested role or bucket; otherwise the caller's account",
    ),
    one(
        Global,
        "aws:ResourceOrgID",
        String,
        OF_MEMBER,
        "the organization's id, `o-…`",
    ),
    many(
        Global,
        "aws:ResourceOrgPaths",
        String,
        OF_MEMBER,
        "a list with one path, `o-…/r-…/ou-…/`, which leads to the parent of the account in `aws:ResourceAccount`",
    ),
    one(
        Global,
        "aws:ResourceTag/",
        String,
        When(
            "for each tag of the requested role, user, policy, instance profile, provider or device, even if it is being created",
        ),
        "the tag's value",
    ),
    never_many(Global, "aws:CalledVia", String, NO_SERVICE),
    never(Global, "aws:CalledViaFirst", String, NO_SERVICE),
    never(Global, "aws:CalledViaLast", String, NO_SERVICE),
    never(Global, "aws:CalledViaAWSMCP", String, NO_MCP),
    one(Global, "aws:ViaAWSService", Bool, Always, "`false`"),
    one(Global, "aws:ViaAWSMCPService", Bool, Always, "`false`"),
    one(Global, "aws:CurrentTime", Date, Always, "the broker's time"),
    one(
        Global,
        "aws:EpochTime",
        Date,
        Always,
        "the broker's time in seconds since 1970",
    ),
    one(
        Global,
        "aws:referer",
        String,
        When("when the client sends a `Referer` header"),
        "the header's first 512 characters",
    ),
    one(
        Global,
        "aws:RequestedRegion",
        String,
        Always,
        "the region of the signature; for an unsigned call, the broker's first region",
    ),
    one(
        Global,
        "aws:RequestTag/",
        String,
        When("for each tag that is passed"),
        "the tag's value",
    ),
    many(
        Global,
        "aws:TagKeys",
        String,
        When("when tags are passed or removed"),
        "the keys of these tags",
    ),
    one(
        Global,
        "aws:SecureTransport",
        Bool,
        Always,
        "`true` if the connection uses TLS",
    ),
    one(
        Global,
        "aws:SourceAccount",
        String,
        WORKLOAD,
        "the node's account",
    ),
    one(
        Global,
        "aws:SourceArn",
        Arn,
        WORKLOAD,
        "the ARN of the instance, of the task, or of the pod's cluster",
    ),
    one(
        Global,
        "aws:SourceOrgID",
        String,
        WORKLOAD,
        "the id of the organization, `o-…`, if the node's account belongs to it",
    ),
    many(
        Global,
        "aws:SourceOrgPaths",
        String,
        WORKLOAD,
        "a list with one path, `o-…/r-…/ou-…/`, which leads to the parent of the node's account",
    ),
    one(
        Global,
        "aws:UserAgent",
        String,
        Always,
        "the first 512 characters of the `User-Agent` header; empty if there is none",
    ),
    never(Global, "aws:IsMcpServiceAction", Bool, NO_MCP),
];
