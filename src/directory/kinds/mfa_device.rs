//! TOTP devices for multi-factor authentication.

use zeroize::Zeroizing;

use crate::base::arn::{IamArn, account_of};
use crate::base::entropy::NoEntropy;
use crate::base::names::{self, SerialNumber};
use crate::base::secret::Secret;
use crate::directory::compile::tags;
use crate::directory::declared::{Declared, Defaults, Insertion, keep};
use crate::directory::limits::Limits;
use crate::directory::name::{Name, ResourceKind};
use crate::directory::secret_field::{SecretField, SecretText, sealing_name};
use crate::directory::shape::{Tag, shape};
use crate::directory::table::Keyed;
use crate::directory::{Directory, DirectoryError, fault};

shape! {
    /// A TOTP device, which is unassigned without a `UserArn`. Its seed is in clear (for import) or
    /// sealed under the master key.
    MfaDeviceDetail {
        serial_number: String,
        user_arn: String,
        #[serde(rename = "Base32StringSeed")]
        base32_string_seed: Option<Zeroizing<String>>,
        #[serde(rename = "SealedBase32StringSeed")]
        sealed_base32_string_seed: Option<String>,
        /// The hash function of the codes: `SHA1` (the default), `SHA256` or `SHA512`.
        algorithm: Option<String>,
        /// The number of digits of a code: 6 (the default), 7 or 8.
        digits: Option<i64>,
        create_date: Option<String>,
        enable_date: Option<String>,
        tags: Vec<Tag>,
    }
}

/// A TOTP device in a snapshot, with its seed unsealed.
#[derive(Debug)]
pub struct MfaDevice {
    /// The ARN `arn:aws:iam::ACCOUNT:mfa/NAME`, or the serial number of a hardware device.
    pub serial_number: SerialNumber,
    /// The ARN of the user to whom the device is assigned, if any.
    pub user_arn: Option<Box<str>>,
    /// The seed in Base32, without padding and in upper case.
    pub seed: Secret<String>,
    /// The number of digits of its codes: 6 to 8.
    pub digits: u8,
    /// The hash function of the HMAC.
    algorithm: totp_rs::Algorithm,
    /// When the device was created, in seconds since 1970; 0 if that is not known.
    pub made_at: i64,
    /// When the device was assigned to its user; `None` if that is not known or the device is not assigned.
    pub enable_date: Option<Box<str>>,
    pub tags: Box<[names::Tag]>,
}

impl MfaDevice {
    /// Returns the generator of the device's codes, which change every 30 seconds. `None` if the seed is unusable,
    /// which a snapshot does not accept.
    pub fn totp(&self) -> Option<totp_rs::Totp> {
        let secret = totp_rs::Secret::try_from_base32(self.seed.expose()).ok()?;
        let builder = totp_rs::Builder::new()
            .with_algorithm(self.algorithm)
            .with_digits(self.digits)
            .with_skew(0);
        builder.with_secret(secret).build().ok()
    }
}

impl Keyed for MfaDevice {
    fn key(&self) -> &str {
        self.serial_number.as_str()
    }
}

impl Declared for MfaDeviceDetail {
    const HAS_SECRET: bool = true;

    fn id(&self) -> &str {
        &self.serial_number
    }

    /// The account of the ARN. The serial number of a hardware device has none, so the account is
    /// that of its user.
    fn account(&self) -> &str {
        if self.user_arn.is_empty() {
            account_of(&self.serial_number)
        } else {
            account_of(&self.user_arn)
        }
    }

    fn links(&self) -> Vec<Name> {
        let user = Some(self.user_arn.as_str()).filter(|arn| !arn.is_empty());
        user.map(|arn| Name::new(ResourceKind::User, arn))
            .into_iter()
            .collect()
    }

    fn tags_mut(&mut self) -> Option<&mut Vec<Tag>> {
        Some(&mut self.tags)
    }

    fn secret(&self) -> Option<SecretField<'_>> {
        Some(SecretField {
            name: "Base32StringSeed",
            bound_to: sealing_name("mfa device", &self.serial_number, &self.user_arn),
            clear: self.base32_string_seed.as_ref().map(|s| s.as_str()),
            sealed: self.sealed_base32_string_seed.as_deref(),
            normal: normal_seed,
        })
    }

    fn set_secret(&mut self, text: SecretText) {
        (self.base32_string_seed, self.sealed_base32_string_seed) = text.into_fields();
    }

    fn fill(&mut self, defaults: &Defaults<'_>) -> Result<(), NoEntropy> {
        defaults.date(&mut self.create_date);
        Ok(())
    }

    /// Keeps the old values, unless the device is now assigned to another user and so counts as
    /// new.
    fn keep_what_is_left_out(&mut self, old: &Self) {
        if self.user_arn == old.user_arn {
            keep(&mut self.create_date, &old.create_date);
            keep(&mut self.enable_date, &old.enable_date);
        }
    }

    fn check(&self, limits: &mut Limits<'_>) {
        let arn = IamArn::parse(&self.serial_number);
        if self.user_arn.is_empty() && arn.is_none_or(|arn| arn.kind != "mfa") {
            limits.invalid(
                "SerialNumber must be `arn:aws:iam::ACCOUNT:mfa/NAME` as long as the device is not assigned to a user",
            );
        }
        limits.tags("TagsPerMFADevice", &self.tags);
    }

    fn insert(&self, directory: &mut Directory, how: &Insertion<'_>) -> Result<(), DirectoryError> {
        let place = how.place;
        let serial_number = SerialNumber::parse("SerialNumber", &self.serial_number)
            .map_err(|e| fault(place, format!("SerialNumber {}", e.rule)))?;
        let seed = directory.open_secret(self.secret(), how)?;
        let digits = u8::try_from(self.digits.unwrap_or(6)).ok();
        let Some(digits) = digits.filter(|d| [6, 7, 8].contains(d)) else {
            return Err(fault(format!("{place}: Digits"), "must be 6, 7 or 8"));
        };
        let algorithm = match self.algorithm.as_deref() {
            None | Some("SHA1") => totp_rs::Algorithm::SHA1,
            Some("SHA256") => totp_rs::Algorithm::SHA256,
            Some("SHA512") => totp_rs::Algorithm::SHA512,
            Some(_) => {
                return Err(fault(
                    format!("{place}: Algorithm"),
                    "must be `SHA1`, `SHA256` or `SHA512`",
                ));
            }
        };
        let made_at = self.create_date.as_deref().and_then(|d| d.parse().ok());
        let user = Some(self.user_arn.as_str()).filter(|arn| !arn.is_empty());
        let compiled = MfaDevice {
            serial_number,
            user_arn: user.map(Into::into),
            seed,
            digits,
            algorithm,
            made_at: made_at.map_or(0, jiff::Timestamp::as_second),
            enable_date: self.enable_date.as_deref().map(Into::into),
            tags: tags(place, &self.tags)?,
        };
        if compiled.totp().is_none() {
            return Err(fault(
                format!("{place}: Base32StringSeed"),
                "no MFA code can be generated from this seed; use another seed",
            ));
        }
        directory.mfa_devices.put(compiled);
        Ok(())
    }

    fn remove(directory: &mut Directory, id: &str) {
        directory.mfa_devices.remove(id);
    }
}

/// Normalizes a TOTP seed to plain Base32 in upper case. Devices and sites show seeds as Base32
/// (RFC 4648 section 6) in either case, in groups, with hyphens, and with or without padding.
///
/// # Errors
/// A text with the rule that is broken. It contains nothing of the seed, which is a secret.
pub fn normal_seed(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let text = text.trim_ascii_end().trim_end_matches('=');
    let mut seed = Zeroizing::new(String::with_capacity(text.len()));
    for c in text
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != '-')
    {
        match c.to_ascii_uppercase() {
            c @ ('A'..='Z' | '2'..='7') => seed.push(c),
            _ => {
                return Err(
                    "must be Base32: the letters A to Z and the digits 2 to 7 (no 0, 1, 8 or 9)",
                );
            }
        }
    }
    match seed.len() {
        // RFC 4226 section 4, R6: at least 128 bits.
        0..26 => Err("must have at least 16 bytes, which are 26 characters of Base32"),
        513.. => Err("must have at most 512 characters"),
        length if [1, 3, 6].contains(&(length % 8)) => {
            Err("is incomplete: Base32 text never has this number of characters")
        }
        _ => Ok(seed),
    }
}
