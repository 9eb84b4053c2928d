//! Seals the secrets of resources before a row is written, and reseals them under another master
//! key or for another owner.

use zeroize::Zeroizing;

use super::change::Detail;
use super::{Actor, CommandContext, CommandError, read, record};
use crate::base::secret::is_same_secret;
use crate::directory::SecretText;
use crate::directory::resource::{Name, Resource};
use crate::master_key::MasterKey;
use crate::store::StoreError;

/// Seals a secret that was given in clear. A secret that has not changed keeps its sealed form.
pub(super) fn seal(
    resource: &mut Resource,
    old: Option<&Resource>,
    cx: CommandContext<'_>,
) -> Result<(), CommandError> {
    let Some(field) = resource.secret() else {
        return Ok(());
    };
    let Some(clear) = field.clear else {
        return Ok(());
    };
    let name = resource.name();
    let secret = (field.normal)(clear)
        .map_err(|rule| CommandError::Validation(format!("{name}: {}: {rule}", field.name)))?;
    if field.sealed.is_some() {
        return Err(CommandError::Validation(format!(
            "{name}: {} is given both in clear and sealed; keep only one of the two",
            field.name
        )));
    }
    let before = old.and_then(Resource::secret).and_then(|old| old.sealed);
    let same = before.filter(|old| {
        let old = cx.master_key.open(&field.bound_to, old);
        old.is_ok_and(|old| is_same_secret(old.expose().as_bytes(), secret.as_bytes()))
    });
    let sealed = match same {
        Some(old) => old.to_owned(),
        None => cx
            .master_key
            .seal(&field.bound_to, secret.as_bytes(), cx.entropy)?,
    };
    resource.set_secret(SecretText::Sealed(sealed));
    Ok(())
}

/// Opens a sealed secret. The sealed form is bound to the owner of the resource, so a secret must be unsealed and
/// sealed again when the owner changes.
pub(super) fn unseal(resource: &mut Resource, cx: CommandContext<'_>) -> Result<(), CommandError> {
    let Some(field) = resource.secret() else {
        return Ok(());
    };
    if let Some(sealed) = field.sealed {
        let secret = cx.master_key.open(&field.bound_to, sealed)?;
        let clear = Zeroizing::new(secret.expose().clone());
        resource.set_secret(SecretText::Clear(clear));
    }
    Ok(())
}

/// Reseals every secret of the store under the current master key. Returns how many secrets were sealed under another
/// key before.
///
/// # Errors
/// [`CommandError`] if a secret cannot be opened, or the store does not answer. The batch of rows in which that happens
/// is not changed; earlier batches are.
pub async fn reseal(cx: CommandContext<'_>, actor: &Actor) -> Result<usize, CommandError> {
    let mut names = Vec::new();
    cx.store
        .scan::<StoreError>(|kind, id, _, _| {
            if kind.has_secret() {
                names.push(Name::new(kind, id));
            }
            Ok(())
        })
        .await?;
    let mut resealed = 0;
    // The work is done in portions, so that other changes do not wait long. Each portion is written
    // completely or not at all.
    for portion in names.chunks(256) {
        let mut writer = cx.store.write_much().await?;
        for name in portion {
            let Some(stored) = writer.get(name).await? else {
                continue;
            };
            let mut resource = read(name, &stored.body)?;
            if !seal_anew(&mut resource, cx)? {
                continue;
            }
            let detail = Detail::default();
            record(cx, &mut writer, actor, "ResealSecret", name, detail, None).await?;
            writer.put(&resource).await?;
            resealed += 1;
        }
        writer.commit().await?;
    }
    Ok(resealed)
}

/// Reseals the resource's secret if another key sealed it, and returns whether it did.
fn seal_anew(resource: &mut Resource, cx: CommandContext<'_>) -> Result<bool, CommandError> {
    let Some(field) = resource.secret() else {
        return Ok(false);
    };
    let other = |sealed: &&str| MasterKey::sealed_by(sealed) != Some(cx.master_key.id());
    let Some(sealed) = field.sealed.filter(other) else {
        return Ok(false);
    };
    let secret = cx.master_key.open(&field.bound_to, sealed)?;
    let sealed = cx
        .master_key
        .seal(&field.bound_to, secret.expose().as_bytes(), cx.entropy)?;
    resource.set_secret(SecretText::Sealed(sealed));
    Ok(true)
}
