//! Secrets of resources: sealed before a row is written, and sealed anew under another master key or
//! for another owner.

use super::change::Detail;
use super::{Actor, CommandContext, CommandError, read, record};
use crate::base::secret::is_same_secret;
use crate::directory::resource::{Kind, Name, Resource};
use crate::directory::{normal_seed, sealing_name};
use crate::master_key::MasterKey;
use crate::store::StoreError;

/// Secrets in clear become sealed ones. One that is what was there stays as it was sealed.
pub(super) fn seal(
    resource: &mut Resource,
    old: Option<&Resource>,
    cx: CommandContext<'_>,
) -> Result<(), CommandError> {
    if let Resource::MfaDevice(device) = resource
        && let Some(seed) = &device.base32_string_seed
    {
        let place = format!("mfa-device {}: Base32StringSeed", device.serial_number);
        let seed = normal_seed(seed)
            .map_err(|rule| CommandError::Validation(format!("{place}: {rule}")))?;
        device.base32_string_seed = Some(seed);
    }
    let (belongs, clear, sealed, before) = match resource {
        Resource::AccessKey(k) => (
            sealing_name("access key", &k.access_key_id, &k.user_arn),
            &mut k.secret_access_key,
            &mut k.sealed_secret_access_key,
            match old {
                Some(Resource::AccessKey(old)) => old.sealed_secret_access_key.clone(),
                _ => None,
            },
        ),
        Resource::MfaDevice(d) => (
            sealing_name("mfa device", &d.serial_number, &d.user_arn),
            &mut d.base32_string_seed,
            &mut d.sealed_base32_string_seed,
            match old {
                Some(Resource::MfaDevice(old)) => old.sealed_base32_string_seed.clone(),
                _ => None,
            },
        ),
        _ => return Ok(()),
    };
    let Some(secret) = clear.take() else {
        return Ok(());
    };
    if sealed.is_some() {
        return Err(CommandError::Validation(format!(
            "{}: a secret stands there in clear and sealed",
            resource.name()
        )));
    }
    let same = before.filter(|old| {
        cx.master_key
            .open(&belongs, old)
            .is_ok_and(|old| is_same_secret(old.expose().as_bytes(), secret.as_bytes()))
    });
    *sealed = Some(match same {
        Some(old) => old,
        None => cx
            .master_key
            .seal(&belongs, secret.as_bytes(), cx.entropy)?,
    });
    Ok(())
}

/// A sealed secret is bound to its owner: under another one it is sealed anew.
pub(super) fn unseal(resource: &mut Resource, cx: CommandContext<'_>) -> Result<(), CommandError> {
    let (belongs, clear, sealed) = match resource {
        Resource::AccessKey(k) => (
            sealing_name("access key", &k.access_key_id, &k.user_arn),
            &mut k.secret_access_key,
            &mut k.sealed_secret_access_key,
        ),
        Resource::MfaDevice(d) => (
            sealing_name("mfa device", &d.serial_number, &d.user_arn),
            &mut d.base32_string_seed,
            &mut d.sealed_base32_string_seed,
        ),
        _ => return Ok(()),
    };
    if let Some(text) = sealed.take() {
        *clear = Some(zeroize::Zeroizing::new(
            cx.master_key.open(&belongs, &text)?.expose().clone(),
        ));
    }
    Ok(())
}

/// Seals every secret of the store anew under the key that seals now. How many there were.
///
/// # Errors
/// When one of them does not open; nothing was changed.
pub async fn reseal(cx: CommandContext<'_>, actor: &Actor) -> Result<usize, CommandError> {
    let mut names = Vec::new();
    let secrets = [Kind::AccessKey, Kind::MfaDevice];
    cx.store
        .scan::<StoreError>(|kind, id, _, _| {
            if secrets.contains(&kind) {
                names.push(Name::new(kind, id));
            }
            Ok(())
        })
        .await?;
    let mut resealed = 0;
    // In portions: other changes are not held up for long, and a portion is all or nothing.
    for portion in names.chunks(256) {
        let mut writer = cx.store.write_much().await?;
        for name in portion {
            let Some(stored) = writer.get(name).await? else {
                continue;
            };
            let mut thing = read(name, &stored.body)?;
            let (belongs, sealed) = match &mut thing {
                Resource::AccessKey(k) => (
                    sealing_name("access key", &k.access_key_id, &k.user_arn),
                    &mut k.sealed_secret_access_key,
                ),
                Resource::MfaDevice(d) => (
                    sealing_name("mfa device", &d.serial_number, &d.user_arn),
                    &mut d.sealed_base32_string_seed,
                ),
                _ => continue,
            };
            let Some(old) = sealed.as_deref() else {
                continue;
            };
            if MasterKey::sealed_by(old) == Some(cx.master_key.id()) {
                continue;
            }
            let secret = cx.master_key.open(&belongs, old)?;
            *sealed = Some(
                cx.master_key
                    .seal(&belongs, secret.expose().as_bytes(), cx.entropy)?,
            );
            record(
                cx,
                &mut writer,
                actor,
                "ResealSecret",
                name,
                Detail::default(),
                None,
            )
            .await?;
            writer.put(&thing).await?;
            resealed += 1;
        }
        writer.commit().await?;
    }
    Ok(resealed)
}
