//! `brevet saml`: shows a response of an identity provider with the rules that it breaks, and updates the
//! metadata of providers.

mod put_provider;

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::print::{self, TextOutputArgument};
use super::{Failure, directory_file, input, store, values};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::commands;
use crate::config::Config;
use crate::directory::resource::{Name, ResourceKind};
use crate::federation::saml::ServiceProvider;
use crate::proof::saml::{
    self, Assertion, AwsClaims, AwsCode, DecryptionKey, Envelope, MAX_CHARACTERS, Metadata,
    Refusal, Rules,
};
use put_provider::PutProviderArguments;

const MAX_METADATA_BYTES: u64 = 1_000_000;
const MAX_KEY_BYTES: u64 = 20_000;
/// The maximum size in bytes of a file with a response, which may be XML, or base64 with line breaks.
/// `proof::saml` limits the response itself.
const MAX_RESPONSE_BYTES: u64 = 2 * MAX_CHARACTERS as u64;

/// A warning is printed if the metadata expires within this time.
pub(super) const NEAR: Duration = Duration::from_secs(30 * 86_400);

const EXAMPLES: &str = "\
Examples:
  brevet saml inspect --metadata idp.xml --audience urn:sp --recipient https://sp/acs response
  brevet saml put-provider --config brevet.toml --arn \"$IDP\" --metadata idp.xml
      Creates the provider, or renews its metadata. IDP is its ARN:
      arn:aws:iam::111122223333:saml-provider/corp";

const INSPECT_EXAMPLES: &str = "\
Examples:
  brevet saml inspect --metadata idp.xml --audience urn:sp --recipient https://sp/acs response
  brevet saml inspect --metadata idp.xml --at 2026-01-02T03:04:05Z --output json -
      Reads standard input, and checks the response as of the time when it was sent.
  brevet saml inspect --config brevet.toml --provider-arn \"$IDP\" --role-arn \"$ROLE\" response
      Checks the response as the broker does: with its directory and its [saml] section.
      IDP is the ARN of the SAML provider, ROLE that of the role.";

/// Inspect SAML responses, and renew the metadata of SAML providers
///
/// These commands check a response with the same code as the broker.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum SamlCommand {
    Inspect(InspectArguments),
    PutProvider(PutProviderArguments),
}

/// Show the content of a SAML response, every rule that it breaks, and what to change
///
/// Prints the assertion if it is signed by a key of the metadata, and for each broken rule what to change at the
/// identity provider or here. A response without a valid signature is not printed. Exits with 1 if any rule is broken.
#[derive(Debug, Args)]
#[command(after_long_help = INSPECT_EXAMPLES)]
pub(super) struct InspectArguments {
    /// A file with the form field SAMLResponse (base64) or its XML; `-` for standard input
    response: PathBuf,
    /// The identity provider's metadata document [default, with --config: the document of the provider
    /// that --provider-arn names, from the broker's directory]
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    metadata: Option<PathBuf>,
    /// The broker's configuration file: the metadata comes from its directory, and the accepted audiences and
    /// recipients from its `[saml]` section
    #[arg(long, value_name = "FILE", requires = "provider_arn")]
    config: Option<PathBuf>,
    /// A private key for decrypting assertions: PEM in PKCS #8. The keys in the broker's directory are
    /// sealed, and are not used here
    #[arg(long, value_name = "FILE")]
    private_key: Vec<PathBuf>,
    /// An audience that assertions may be made for: the entity ID of the service provider
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
    /// A URL that assertions may be sent to: an assertion consumer URL of the service provider
    #[arg(long, value_name = "URL")]
    recipient: Vec<String>,
    /// The role that the response must name, together with --provider-arn
    #[arg(long, value_name = "ARN", requires = "provider_arn")]
    role_arn: Option<String>,
    /// The SAML provider: with --role-arn, the one that the response must name; with --config and without --metadata,
    /// the one whose metadata document is used
    #[arg(long, value_name = "ARN", required_unless_present_any = ["metadata"])]
    provider_arn: Option<String>,
    /// The time at which to check the response [default: now]
    #[arg(long, value_name = "TIME", value_parser = values::instant)]
    at: Option<jiff::Timestamp>,
    #[command(flatten)]
    output: TextOutputArgument,
}

pub(super) fn run(command: SamlCommand) -> Result<(), Failure> {
    match command {
        SamlCommand::Inspect(arguments) => inspect(&arguments),
        SamlCommand::PutProvider(arguments) => put_provider::run(&arguments),
    }
}

fn inspect(arguments: &InspectArguments) -> Result<(), Failure> {
    let config = arguments.config.as_deref().map(Config::load).transpose()?;
    let idp = identity_provider(arguments, config.as_ref())?;
    let here = service_provider(arguments, config.as_ref());
    let text = input::read_text(&arguments.response, MAX_RESPONSE_BYTES)?;
    let text = text.trim();
    let encoded = match text.trim_start_matches('\u{feff}').starts_with('<') {
        true => STANDARD.encode(text),
        false => text.to_owned(),
    };
    let keys: Result<Vec<_>, Failure> =
        arguments.private_key.iter().map(|path| key(path)).collect();
    let keys = keys?;
    let at = arguments
        .at
        .map(|at| Timestamp::from_millis(at.as_millisecond()));
    let now = at.unwrap_or_else(|| SystemClock.now());
    super::warn(&metadata_warnings(&idp, now));
    let rules = Rules {
        now,
        leeway: here.leeway,
        issuer: idp.entity_id(),
        audiences: &here.audiences,
        recipients: &here.recipients,
        in_response_to: None,
    };
    let (said, broken) = match saml::verify(&encoded, &idp, &keys, now) {
        Err(refusal) => (None, vec![refusal]),
        Ok(verified) => {
            let mut broken = verified.violations(&rules);
            let assertion = verified.unchecked_assertion();
            broken.extend(claims_broken(assertion, arguments));
            broken.extend(assertion.attribute_keys().err());
            (
                Some((
                    verified.envelope().clone(),
                    verified.unchecked_assertion().clone(),
                )),
                broken,
            )
        }
    };
    if arguments.output.is_json() {
        print::json(&json!({
            "Accepted": broken.is_empty(),
            "At": now.to_string(),
            "Response": said.as_ref().map(|(envelope, _)| envelope_json(envelope)),
            "Assertion": said.as_ref().map(|(_, assertion)| assertion_json(assertion)),
            "Refusals": broken.iter().map(refusal_json).collect::<Vec<_>>(),
        }))?;
    } else {
        if let Some((envelope, assertion)) = &said {
            print::block(shown(envelope, assertion))?;
        }
        for refusal in &broken {
            print::line(format_args!("refused ({}): {refusal}", code(refusal)))?;
            print::line(format_args!("  {}", refusal.remedy()))?;
        }
        if broken.is_empty() {
            print::line("accepted")?;
        }
    }
    match broken.len() {
        0 => Ok(()),
        1 => Err("the response breaks one rule".into()),
        many => Err(format!("the response breaks {many} rules").into()),
    }
}

fn key(path: &Path) -> Result<DecryptionKey, Failure> {
    let parsed = DecryptionKey::parse(&input::read(path, MAX_KEY_BYTES)?);
    parsed.map_err(|error| format!("{}: the private key {error}", path.display()).into())
}

/// Reads the metadata of the identity provider from the file, or from the broker's directory.
fn identity_provider(
    arguments: &InspectArguments,
    config: Option<&Config>,
) -> Result<Metadata, Failure> {
    if let Some(path) = &arguments.metadata {
        let document = input::read(path, MAX_METADATA_BYTES)?;
        let parsed = Metadata::parse(&document);
        return parsed.map_err(|error| format!("{}: {error}", path.display()).into());
    }
    let (Some(config), Some(arn)) = (config, &arguments.provider_arn) else {
        return Err("either --metadata, or --config with --provider-arn, is required".into());
    };
    let document = declared(config, arn)?.ok_or_else(|| {
        format!("--provider-arn {arn}: the broker's directory has no SAML provider with this ARN")
    })?;
    Metadata::parse(document.as_bytes()).map_err(|error| format!("{arn}: {error}").into())
}

/// Reads the metadata document of a provider from the directory file or the store.
fn declared(config: &Config, arn: &str) -> Result<Option<String>, Failure> {
    let declaration = match &config.directory {
        Some(path) => directory_file::read(path)?,
        None => {
            let (runtime, store) = store::opened_to_read(config)?;
            let name = Name::new(ResourceKind::SamlProvider, arn);
            let exported = runtime.block_on(commands::export_of(&store, |n| *n == name));
            runtime.block_on(store.close());
            exported?
        }
    };
    let mut providers = declaration.brevet.saml_providers.into_iter();
    let found = providers.find(|provider| provider.arn == arn);
    Ok(found.map(|provider| provider.saml_metadata_document))
}

/// The service provider for which assertions must be made. Its audiences and its recipients are those of the arguments,
/// or else those of the broker's configuration.
fn service_provider(arguments: &InspectArguments, config: Option<&Config>) -> ServiceProvider {
    let mut here = config.map_or_else(ServiceProvider::default, |c| c.service_provider.clone());
    if !arguments.audience.is_empty() {
        here.audiences.clone_from(&arguments.audience);
    }
    if !arguments.recipient.is_empty() {
        here.recipients.clone_from(&arguments.recipient);
    }
    here
}

/// Lists warnings about metadata: keys that cannot be used, certificates that are not valid now, and an
/// expiry that is near.
pub(super) fn metadata_warnings(idp: &Metadata, now: Timestamp) -> Vec<String> {
    let mut warnings = idp.unusable_keys().to_vec();
    for key in idp.signing_keys().iter().filter(|key| !key.is_valid(now)) {
        warnings.push(format!(
            "the signing certificate with the SHA-256 digest {} is not valid now, but from {} to {}: responses signed \
             with its key are refused. If it has expired, import the identity provider's current metadata",
            key.fingerprint(),
            key.not_before(),
            key.not_after()
        ));
    }
    if let Some(end) = idp.usable_until().filter(|end| *end <= now.plus(NEAR)) {
        warnings.push(match end <= now {
            true => format!(
                "the metadata or the last of its signing certificates expired at {end}: import the identity \
                 provider's current metadata"
            ),
            false => format!(
                "the metadata or the last of its signing certificates expires at {end}: import the identity \
                 provider's newer metadata before then"
            ),
        });
    }
    warnings
}

/// Finds the first rule that is broken by the attributes that AWS defines.
fn claims_broken(assertion: &Assertion, arguments: &InspectArguments) -> Option<Refusal> {
    let claims = match AwsClaims::read(assertion) {
        Ok(claims) => claims,
        Err(refusal) => return Some(refusal),
    };
    let (role, provider) = (
        arguments.role_arn.as_ref()?,
        arguments.provider_arn.as_ref()?,
    );
    claims.check_role(role, provider).err()
}

fn code(refusal: &Refusal) -> &'static str {
    match refusal.code() {
        AwsCode::InvalidIdentityToken => "InvalidIdentityToken",
        AwsCode::ExpiredTokenException => "ExpiredTokenException",
        AwsCode::IdpRejectedClaim => "IDPRejectedClaim",
        AwsCode::AccessDenied => "AccessDenied",
    }
}

fn refusal_json(refusal: &Refusal) -> Value {
    json!({
        "Code": code(refusal),
        "Reason": refusal.to_string(),
        "Remedy": refusal.remedy(),
    })
}

fn envelope_json(envelope: &Envelope) -> Value {
    json!({
        "Id": envelope.id,
        "IsSigned": envelope.is_signed,
        "Destination": envelope.destination,
        "InResponseTo": envelope.in_response_to,
    })
}

fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

fn assertion_json(assertion: &Assertion) -> Value {
    let subject = &assertion.subject;
    let confirmations = assertion.confirmations.iter().map(|confirmation| {
        json!({
            "IsBearer": confirmation.is_bearer,
            "Recipient": confirmation.recipient,
            "InResponseTo": confirmation.in_response_to,
            "NotBefore": time(confirmation.not_before),
            "NotOnOrAfter": time(confirmation.not_on_or_after),
        })
    });
    let authentications = assertion.authn_statements.iter().map(|statement| {
        json!({
            "AuthnInstant": statement.authn_instant.to_string(),
            "SessionNotOnOrAfter": time(statement.session_not_on_or_after),
            "SessionIndex": statement.session_index,
            "AuthnContextClassRef": statement.context_class,
        })
    });
    let attributes = assertion
        .attributes
        .iter()
        .map(|attribute| json!({ "Name": attribute.name, "Values": attribute.values }));
    json!({
        "Id": assertion.id,
        "Issuer": assertion.issuer,
        "Subject": subject.value,
        "SubjectType": subject.subject_type(),
        "NameQualifier": subject.name_qualifier,
        "SPNameQualifier": subject.sp_name_qualifier,
        "SubjectConfirmations": confirmations.collect::<Vec<_>>(),
        "NotBefore": time(assertion.conditions.not_before),
        "NotOnOrAfter": time(assertion.conditions.not_on_or_after),
        "AudienceRestrictions": assertion.conditions.audience_restrictions,
        "AuthnStatements": authentications.collect::<Vec<_>>(),
        "Attributes": attributes.collect::<Vec<_>>(),
    })
}

/// Formats an assertion for people, one line for each value.
fn shown(envelope: &Envelope, assertion: &Assertion) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    rows.push(("response", envelope.id.clone()));
    let signed = if envelope.is_signed {
        "the response"
    } else {
        "the assertion"
    };
    rows.push(("signed", signed.to_owned()));
    rows.extend(envelope.destination.clone().map(|url| ("destination", url)));
    rows.extend(
        envelope
            .in_response_to
            .clone()
            .map(|id| ("in response to", id)),
    );
    rows.push(("assertion", assertion.id.clone()));
    rows.push(("issuer", assertion.issuer.clone()));
    let subject = &assertion.subject;
    rows.push((
        "subject",
        format!("{} ({})", subject.value, subject.subject_type()),
    ));
    for confirmation in &assertion.confirmations {
        rows.extend(confirmation.recipient.clone().map(|url| ("recipient", url)));
        rows.extend(time(confirmation.not_on_or_after).map(|at| ("presented before", at)));
    }
    rows.extend(time(assertion.conditions.not_before).map(|at| ("valid from", at)));
    rows.extend(time(assertion.conditions.not_on_or_after).map(|at| ("valid before", at)));
    for audiences in &assertion.conditions.audience_restrictions {
        rows.push(("audience", audiences.join(", ")));
    }
    for statement in &assertion.authn_statements {
        rows.push(("authenticated", statement.authn_instant.to_string()));
        rows.extend(time(statement.session_not_on_or_after).map(|at| ("session before", at)));
    }
    for attribute in &assertion.attributes {
        for value in &attribute.values {
            let value = value.as_deref().unwrap_or("(elements)");
            rows.push(("attribute", format!("{} = {value}", attribute.name)));
        }
    }
    let rows: Vec<(&str, &str)> = rows
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    print::fields(&rows)
}
