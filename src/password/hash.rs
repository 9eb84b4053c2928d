//! Password hashes: Argon2id (RFC 9106) in the PHC string format.
//!
//! A user has one text with the hashes of its current password and of earlier ones, which it may
//! not use again. The hashes are separated by spaces, the current one first. The store keeps the
//! text sealed under the master key, so that nobody can guess passwords with a copy of the database
//! alone.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::base::digest::sha256;
use crate::base::secret::is_same_secret;

/// The maximum number of hashes that are kept for a user, including the current one: the highest
/// `PasswordReusePrevention` of a password policy.
pub const MAX_HASHES: usize = 24;
/// The length of a salt in bytes: RFC 9106 section 3.1.
pub const SALT_BYTES: usize = 16;
/// The length of a new hash's output in bytes.
pub const OUTPUT_BYTES: usize = 32;
/// The maximum memory in KiB of an imported hash.
const MAX_MEMORY_KIB: u32 = 131_072;
/// The maximum product of the memory and the passes of an imported hash, which is somewhat more than three times that
/// of [`Cost::DEFAULT`]. Every check of the password takes the work of its hash.
const MAX_WORK: u32 = 2 * MAX_MEMORY_KIB;
/// The maximum number of lanes of an imported hash.
const MAX_LANES: u32 = 4;
/// The minimum memory in KiB of an imported hash. All minimum configurations of OWASP's Password Storage Cheat Sheet
/// satisfy this limit and [`MIN_WORK`].
const MIN_MEMORY_KIB: u32 = 7_168;
/// The minimum product of the memory and the passes of an imported hash.
const MIN_WORK: u32 = 5 * MIN_MEMORY_KIB;

/// The prefix of the salt in a hash that was recomputed at another cost. The password's mark
/// follows it and makes the salt unique. A random salt practically never has this prefix.
const MADE_ANEW: &[u8] = b"made anew";
/// The length of a mark in bytes.
const MARK_BYTES: usize = 16;

/// A digest that identifies a user's current password: it changes when the password changes, and
/// stays the same when the hash is recomputed at another cost.
pub type Mark = [u8; MARK_BYTES];

/// The parameters of Argon2id, which determine how expensive a hash is to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// The memory in KiB (`m` in the PHC string).
    pub memory_kib: u32,
    /// The number of passes over the memory (`t` in the PHC string).
    pub passes: u32,
    /// The number of lanes (`p` in the PHC string). They are computed one after the other.
    pub lanes: u32,
}

impl Cost {
    /// The cost of new hashes unless the configuration sets another: twice the memory of OWASP's
    /// first recommendation for Argon2id.
    pub const DEFAULT: Self = Self {
        memory_kib: 38_912,
        passes: 2,
        lanes: 1,
    };

    /// Reads the cost from a hash.
    ///
    /// # Errors
    /// [`HashError::Malformed`] if the text is not a hash.
    pub fn of(hash: &str) -> Result<Self, HashError> {
        let params = parse(hash).map_err(|_| HashError::Malformed)?.params;
        Ok(Self {
            memory_kib: params.m_cost(),
            passes: params.t_cost(),
            lanes: params.p_cost(),
        })
    }

    fn params(self, output: usize) -> Result<Params, HashError> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(output))
            .map_err(|_| HashError::Malformed)
    }
}

/// Why a hash could not be computed or parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// There is not enough memory for the computation.
    #[error("there is not enough memory to compute the hash of a password")]
    Memory,
    /// The text is not a hash of this module, or Argon2 does not allow the parameters. Texts that [`normal`] has
    /// accepted never cause this error.
    #[error("the text is not an Argon2id hash")]
    Malformed,
}

/// Computes the hash of a password.
///
/// # Errors
/// [`HashError::Memory`] if the memory cannot be allocated, and [`HashError::Malformed`] if Argon2 does not allow the
/// cost or the salt.
pub fn hash(password: &str, salt: &[u8], cost: Cost) -> Result<Zeroizing<String>, HashError> {
    let params = cost.params(OUTPUT_BYTES)?;
    let mut output = Zeroizing::new([0; OUTPUT_BYTES]);
    compute(password, salt, &params, output.as_mut())?;
    text(salt, &output, cost)
}

/// Formats a hash in the PHC string format.
///
/// # Errors
/// [`HashError::Malformed`] if Argon2 does not allow the cost or the salt.
pub fn text(
    salt: &[u8],
    output: &[u8; OUTPUT_BYTES],
    cost: Cost,
) -> Result<Zeroizing<String>, HashError> {
    let params = cost.params(OUTPUT_BYTES)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(|_| HashError::Malformed)?,
        salt: Some(Salt::new(salt).map_err(|_| HashError::Malformed)?),
        hash: Some(Output::new(output).map_err(|_| HashError::Malformed)?),
    };
    Ok(Zeroizing::new(hash.to_string()))
}

/// Returns whether `hash` is the hash of this password. The check takes as long as computing a
/// hash.
///
/// # Errors
/// [`HashError`] if the hash is malformed, or if there is no memory to compute it.
pub fn matches(password: &str, hash: &str) -> Result<bool, HashError> {
    let Parts {
        params,
        salt,
        output,
    } = parse(hash).map_err(|_| HashError::Malformed)?;
    let mut computed = Zeroizing::new(vec![0; output.as_bytes().len()]);
    compute(password, &salt, &params, &mut computed)?;
    Ok(is_same_secret(&computed, output.as_bytes()))
}

/// Returns the mark of the password that the hash was computed from.
///
/// # Errors
/// [`HashError::Malformed`] if the text is not a hash.
pub fn mark(hash: &str) -> Result<Mark, HashError> {
    let salt = parse(hash).map_err(|_| HashError::Malformed)?.salt;
    let carried = salt.strip_prefix(MADE_ANEW);
    if let Some(mark) = carried.and_then(|mark| mark.try_into().ok()) {
        return Ok(mark);
    }
    let digest = sha256(hash.as_bytes());
    let mark = digest.first_chunk::<MARK_BYTES>();
    mark.copied().ok_or(HashError::Malformed)
}

/// Computes a hash of a password at a new cost. `old` is a hash of the same password, and both have
/// the same mark.
///
/// # Errors
/// [`HashError`] if the old hash is malformed, or if there is no memory.
pub fn anew(password: &str, old: &str, cost: Cost) -> Result<Zeroizing<String>, HashError> {
    let salt = Zeroizing::new([MADE_ANEW, &mark(old)?].concat());
    hash(password, &salt, cost)
}

/// Splits a user's text into its hashes, the current one first.
pub fn each(hashes: &str) -> impl Iterator<Item = &str> {
    hashes.split(' ')
}

/// Replaces the current hash in a user's text by one of the same password at a new cost.
pub fn with_anew(new: &str, hashes: &str) -> Zeroizing<String> {
    let earlier = hashes.split_once(' ').map(|(_, earlier)| earlier);
    Zeroizing::new(match earlier {
        Some(earlier) => [new, " ", earlier].concat(),
        None => new.to_owned(),
    })
}

/// Puts the hash of a new password in front of a user's text, and keeps at most [`MAX_HASHES`].
pub fn with_new(new: &str, hashes: &str) -> Zeroizing<String> {
    let mut all = Zeroizing::new(String::with_capacity(new.len() + 1 + hashes.len()));
    all.push_str(new);
    for old in each(hashes).take(MAX_HASHES - 1) {
        all.push(' ');
        all.push_str(old);
    }
    all
}

/// Checks a user's text of hashes, which may be imported.
///
/// # Errors
/// The rule that the text breaks. The message does not contain any part of the text.
pub fn normal(hashes: &str) -> Result<Zeroizing<String>, &'static str> {
    if each(hashes).take(MAX_HASHES + 1).count() > MAX_HASHES {
        return Err("must have at most 24 hashes, separated by spaces");
    }
    for hash in each(hashes) {
        parse(hash)?;
    }
    Ok(Zeroizing::new(hashes.to_owned()))
}

/// The parsed parts of a hash in the PHC string format.
struct Parts {
    params: Params,
    salt: Salt,
    output: Output,
}

fn parse(text: &str) -> Result<Parts, &'static str> {
    const FORM: &str = "must be the Argon2id hash of a password in PHC format, `$argon2id$v=19$m=…,t=…,p=…$SALT$HASH`; earlier hashes may follow, separated by spaces";
    if text.len() > 256 {
        return Err(FORM);
    }
    let hash = PasswordHash::new(text).map_err(|_| FORM)?;
    let params = Params::try_from(&hash).map_err(|_| FORM)?;
    let (Some(salt), Some(output)) = (hash.salt, hash.hash) else {
        return Err(FORM);
    };
    let is_argon2id = hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version == Some(Version::V0x13.into())
        && params.keyid().is_empty()
        && params.data().is_empty();
    if !is_argon2id {
        return Err(FORM);
    }
    let (memory, passes) = (params.m_cost(), params.t_cost());
    if memory < MIN_MEMORY_KIB || memory.saturating_mul(passes) < MIN_WORK {
        return Err(
            "is too cheap to compute, so passwords could be guessed quickly: the memory `m` must be at least 7168 \
             KiB, and `m` times `t` at least 35840",
        );
    }
    if memory > MAX_MEMORY_KIB
        || memory.saturating_mul(passes) > MAX_WORK
        || params.p_cost() > MAX_LANES
    {
        return Err(
            "is too expensive: the memory `m` must be at most 131072 KiB, `m` times `t` at most 262144, and `p` at most 4",
        );
    }
    if salt.len() < SALT_BYTES || output.as_bytes().len() < OUTPUT_BYTES {
        return Err("must have a salt of at least 16 bytes and a hash of at least 32 bytes");
    }
    Ok(Parts {
        params,
        salt,
        output,
    })
}

fn compute(
    password: &str,
    salt: &[u8],
    params: &Params,
    output: &mut [u8],
) -> Result<(), HashError> {
    let count = params.block_count();
    let mut memory = Zeroizing::new(Vec::new());
    memory
        .try_reserve_exact(count)
        .map_err(|_| HashError::Memory)?;
    memory.resize(count, Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    argon2
        .hash_password_into_with_memory(password.as_bytes(), salt, output, memory.as_mut_slice())
        .map_err(|_| HashError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 7_168,
        passes: 5,
        lanes: 1,
    };

    #[test]
    fn only_the_password_itself_matches_its_hash() {
        let hash = hash("correct horse", &[7; 16], CHEAP).unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"),
            "{}",
            *hash
        );
        assert_eq!(matches("correct horse", &hash), Ok(true));
        for other in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert_eq!(matches(other, &hash), Ok(false), "{other}");
        }
    }

    #[test]
    fn hashes_of_the_reference_implementation_match() {
        for (password, hash) in [
            (
                "correct horse",
                "$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlIHNsdA$G/bFSWjBTx+oD5UAxzUD+cpH7AFcbWp48NzvOCVG3rM",
            ),
            (
                "pässwörd",
                "$argon2id$v=19$m=47104,t=1,p=2$c2l4dGVlbiBieXRlIHNsdA$D0iOzsTyB5IDB8UWqN14QCkfGPJd6EnRquLd2DqUUHU",
            ),
        ] {
            assert_eq!(*normal(hash).unwrap(), hash);
            assert_eq!(matches(password, hash), Ok(true), "{password}");
            assert_eq!(matches("passwörd", hash), Ok(false));
        }
        let cost = Cost {
            memory_kib: 19_456,
            passes: 2,
            lanes: 1,
        };
        let made = hash("correct horse", b"sixteen byte slt", cost).unwrap();
        assert!(made.ends_with("$G/bFSWjBTx+oD5UAxzUD+cpH7AFcbWp48NzvOCVG3rM"));
    }

    #[test]
    fn the_default_cost_is_not_below_that_of_owasp() {
        const { assert!(Cost::DEFAULT.memory_kib >= 19_456 && Cost::DEFAULT.passes >= 2) };
    }

    #[test]
    fn hashes_of_another_kind_and_of_a_useless_cost_are_refused() {
        let good = |params: &str| {
            format!(
                "$argon2id$v=19${params}$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            )
        };
        // The minimum configurations of OWASP.
        for params in [
            "m=47104,t=1,p=1",
            "m=19456,t=2,p=1",
            "m=12288,t=3,p=1",
            "m=9216,t=4,p=1",
            "m=7168,t=5,p=1",
            // The defaults of libsodium, Authelia, PHP and Django.
            "m=65536,t=2,p=1",
            "m=65536,t=3,p=4",
            "m=65536,t=4,p=1",
            "m=102400,t=2,p=4",
            "m=131072,t=2,p=1",
        ] {
            assert!(normal(&good(params)).is_ok(), "{params}");
        }
        for params in [
            "m=19456,t=1,p=1",
            "m=4096,t=16,p=1",
            "m=131073,t=1,p=1",
            "m=131072,t=3,p=1",
            "m=4294967295,t=4294967295,p=1",
            "m=65536,t=5,p=1",
            "m=65536,t=3,p=5",
            "m=65536,t=3,p=1,keyid=AAAA",
            "m=65536,t=3,p=1,x=1",
            "",
        ] {
            assert!(normal(&good(params)).is_err(), "{params}");
        }
        let hash = good("m=19456,t=2,p=1");
        for other in [
            hash.replace("argon2id", "argon2i"),
            hash.replace("v=19", "v=16"),
            hash.replace("$v=19", ""),
            hash.replace("AAAAAAAAAAAAAAAAAAAAAA$", "AAAAAAAAAAA$"),
            format!("{hash} "),
            format!("{hash}  {hash}"),
            format!("{hash}\n{hash}"),
            "hunter2".to_owned(),
            String::new(),
            vec![hash.as_str(); 25].join(" "),
        ] {
            assert!(normal(&other).is_err(), "{other}");
        }
        assert!(normal(&vec![hash.as_str(); 24].join(" ")).is_ok());
    }

    #[test]
    fn a_hash_that_is_made_anew_has_the_mark_of_its_password() {
        let old = "$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlIHNsdA$G/bFSWjBTx+oD5UAxzUD+cpH7AFcbWp48NzvOCVG3rM";
        let new = anew("correct horse", old, CHEAP).unwrap();
        assert_eq!(Cost::of(&new), Ok(CHEAP));
        assert_eq!(matches("correct horse", &new), Ok(true));
        assert_eq!(matches("correct hors", &new), Ok(false));
        assert_eq!(mark(&new), mark(old));
        // It stays the same once more, and it is that of no other password with the same salt.
        let again = anew("correct horse", &new, Cost::of(old).unwrap()).unwrap();
        assert_eq!(mark(&again), mark(old));
        assert_ne!(again.as_str(), old);
        let other = hash("other", b"sixteen byte slt", Cost::of(old).unwrap()).unwrap();
        assert_ne!(mark(&other), mark(old));
        assert_eq!(
            *with_anew(&new, &format!("{old} b c")),
            format!("{} b c", *new)
        );
        assert_eq!(*with_anew(&new, old), *new);
        assert_eq!(*normal(&with_anew(&new, old)).unwrap(), *new);
    }

    #[test]
    fn the_last_24_passwords_are_kept() {
        let mut all = Zeroizing::new("0".to_owned());
        for n in 1..40 {
            all = with_new(&n.to_string(), &all);
        }
        let kept: Vec<&str> = each(&all).collect();
        assert_eq!((kept.len(), kept[0], kept[23]), (24, "39", "16"));
    }
}
