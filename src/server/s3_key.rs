//! Reads the file with the access key of an object store. The file has the format of the AWS CLI's credentials file: a
//! section `[default]` with `aws_access_key_id` and `aws_secret_access_key`. It is refused if anybody but its owner may
//! read it.

use std::path::Path;

use crate::base::secret::Secret;
use crate::files::{self, Audience};
use crate::proof::sigv4::SigningSecret;
use crate::s3::StoreKey;

const MAX_BYTES: u64 = 4_096;

/// Reads the key of a store.
///
/// # Errors
/// A sentence that names the file and the rule that it breaks, and quotes none of its content.
pub(super) fn read(path: &Path) -> Result<StoreKey, String> {
    let bytes = files::read(path, Audience::Owner, MAX_BYTES).map_err(|e| e.to_string())?;
    let named = |rule: &str| format!("key_file: {} {rule}", path.display());
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| named("must be UTF-8"))?;
    parse(text).map_err(named)
}

fn parse(text: &str) -> Result<StoreKey, &'static str> {
    const FORM: &str = "must have the lines `[default]`, `aws_access_key_id = …` and `aws_secret_access_key = …`, and nothing else; a value must be visible ASCII characters without commas";
    let (mut section, mut id, mut secret) = (false, None, None);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let slot = match line
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
        {
            None if line == "[default]" && !section => {
                section = true;
                continue;
            }
            Some(("aws_access_key_id", value)) if section => (&mut id, value),
            Some(("aws_secret_access_key", value)) if section => (&mut secret, value),
            _ => return Err(FORM),
        };
        let (slot, value) = slot;
        let legal = value.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        if value.is_empty() || !legal || slot.replace(value).is_some() {
            return Err(FORM);
        }
    }
    let (Some(id), Some(secret)) = (id, secret) else {
        return Err(FORM);
    };
    if id.contains('/') || id.contains('=') {
        return Err("has an access key id with `/` or `=`, which a signature cannot contain");
    }
    Ok(StoreKey {
        access_key_id: id.to_owned(),
        secret: SigningSecret::new(Secret::new(secret.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_the_cli_writes_it() {
        let text = "# of the store\n[default]\naws_access_key_id=AK\n aws_secret_access_key = s/e+c=ret \n";
        assert_eq!(parse(text).unwrap().access_key_id, "AK");
        for wrong in [
            "",
            "[default]",
            "aws_access_key_id = a\naws_secret_access_key = b",
            "[other]\naws_access_key_id = a\naws_secret_access_key = b",
            "[default]\naws_access_key_id = a\naws_secret_access_key =",
            "[default]\naws_access_key_id = a\naws_access_key_id = b\naws_secret_access_key = c",
            "[default]\naws_access_key_id = a/b\naws_secret_access_key = c",
            "[default]\naws_access_key_id = a\naws_secret_access_key = b\nregion = x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
