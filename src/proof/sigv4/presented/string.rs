//! Signatures of which the broker knows only the string to sign. A server has received the request,
//! has computed the string, and asks who signed it.

use super::read::{Scope, lower_hex};
use super::{Presented, Sent};
use crate::base::clock::Timestamp;
use crate::proof::sigv4::{ALGORITHM, MAX_TOKEN_BYTES, SigError, incomplete, mismatch};

impl Presented {
    /// Reads a string to sign ("Create a string to sign") and the signature. The caller must know that the
    /// server computed the string itself.
    ///
    /// # Errors
    /// [`SigError`] if one of them is malformed.
    pub fn of_string_to_sign(
        access_key_id: &str,
        session_token: Option<&str>,
        string_to_sign: &str,
        signature: &str,
    ) -> Result<Self, SigError> {
        let malformed =
            || incomplete("the string to sign does not have the form of AWS Signature Version 4");
        let mut lines = string_to_sign.split('\n');
        let (Some(ALGORITHM), Some(amz_date), Some(scope), Some(digest), None) = (
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
        ) else {
            return Err(malformed());
        };
        let signed_at = Timestamp::from_amz(amz_date).ok_or_else(malformed)?;
        let credential = format!("{access_key_id}/{scope}");
        let scope = Scope::read(&credential)?;
        if amz_date.get(..8) != Some(scope.day) {
            return Err(mismatch(
                "the day in the credential scope must be the day of the date in the string to \
                sign",
            ));
        }
        if session_token.is_some_and(|t| t.is_empty() || t.len() > MAX_TOKEN_BYTES) {
            return Err(incomplete("the security token must have 1 to 16384 bytes"));
        }
        Ok(Self::new(
            &Sent {
                access_key_id: scope.access_key_id,
                session_token,
                region: scope.region,
                service: scope.service,
                amz_date,
                host: "",
                signed_headers: "",
            },
            signed_at,
            false,
            lower_hex(digest).ok_or_else(malformed)?,
            lower_hex(signature).ok_or_else(malformed)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of "Create a signed AWS API request": the secret, the string to sign and the signature
    /// are AWS's.
    const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const STRING: &str = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\nf536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
    const SIGNATURE: &str = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

    #[test]
    fn sv_07_a_string_to_sign_is_good_for_its_scope_and_its_secret() {
        let read = |string: &str, signature: &str| {
            Presented::of_string_to_sign("AKIDEXAMPLE", None, string, signature)
        };
        read(STRING, SIGNATURE).unwrap().verify(SECRET).unwrap();
        assert!(read(STRING, SIGNATURE).unwrap().verify(b"another").is_err());
        for (from, to) in [
            ("us-east-1", "us-east-2"),
            ("/iam/", "/sts/"),
            ("1236", "1237"),
        ] {
            let altered = read(&STRING.replacen(from, to, 1), SIGNATURE).unwrap();
            assert!(altered.verify(SECRET).is_err(), "{from}");
        }
        for wrong in [
            STRING.replace("SHA256", "SHA1"),
            STRING.replace("20150830/", "20150831/"),
            STRING.replace("/aws4_request", ""),
            format!("{STRING}\n"),
            STRING.replace('f', "g"),
            String::new(),
            "GET\n\n\nThu, 17 Nov 2005 18:49:58 GMT\n/bucket/key".to_owned(),
        ] {
            assert!(read(&wrong, SIGNATURE).is_err(), "{wrong}");
        }
        assert!(read(STRING, &SIGNATURE.to_uppercase()).is_err());
        assert!(read(STRING, "").is_err());
    }
}
