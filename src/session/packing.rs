//! Packs the session policies and tags of a session: they are compressed and share one size limit.
//! STS API Reference: `PackedPolicySize`, and the error `PackedPolicyTooLarge`.

use prost::Message;

/// The maximum size in bytes of packed session policies and tags together. With the rest of the
/// claims and the encoding it keeps a session token below
/// [`crate::session::token::MAX_CHARACTERS`].
pub const ALLOTMENT: usize = 4_096;
/// The maximum size in bytes of session policies and tags together before packing. It limits the memory of opened
/// tokens and session records, which hold them unpacked: repetitive text packs to a fraction of its size.
pub const MAX_UNPACKED: usize = 16_384;
/// The maximum number of scope-down policies of a session: STS API Reference, "GetScopedCredentials".
pub const MAX_SCOPE_DOWN: usize = 3;
/// The maximum size in bytes to which a token is unpacked. It exceeds [`MAX_UNPACKED`] because tokens of earlier
/// versions, which are valid for up to 36 hours, can be larger.
const MAX_UNFOLDED: usize = 131_072;
/// Common parts of policies and tags, so that even short ones pack well. A change of the dictionary
/// requires a new form of the session token.
const DICTIONARY: &[u8] = br#"CostCenter Department Environment Project Team Owner production staging development team project department email userName {"Version":"2012-10-17","Statement":[{"Sid":"","Effect":"Deny","NotAction":["iam:*","sts:*"],"Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalTag/":"","aws:RequestedRegion":["us-east-1","eu-west-1","eu-central-1"]},"Bool":{"aws:SecureTransport":"false"}}},{"Effect":"Allow","Action":["ec2:Describe*","dynamodb:GetItem","dynamodb:PutItem","dynamodb:Query","sqs:SendMessage","kms:Decrypt","logs:PutLogEvents","sts:AssumeRole","s3:ListBucket","s3:GetObject","s3:PutObject"],"Resource":["arn:aws:dynamodb:us-east-1::table/","arn:aws:iam::aws:policy/","arn:aws:iam:::role/","arn:aws:s3:::","arn:aws:s3:::/*"]}]}"#;

/// The session policies and tags that limit a session.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Limits {
    #[prost(message, repeated, tag = "1")]
    pub tags: Vec<TagClaim>,
    /// The inline session policy without insignificant white space; empty if none was passed.
    #[prost(string, tag = "2")]
    pub policy: String,
    /// The ARNs of managed session policies; empty if none were passed.
    #[prost(string, repeated, tag = "3")]
    pub policy_arns: Vec<String>,
    /// The scope-down policies by which the session was narrowed, the oldest first; at most
    /// [`MAX_SCOPE_DOWN`].
    #[prost(message, repeated, tag = "4")]
    pub scope_down: Vec<ScopeDown>,
}

/// A scope-down policy. The session may do only what this policy and all of its other limits allow.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ScopeDown {
    /// The policy without insignificant white space.
    #[prost(string, tag = "1")]
    pub policy: String,
    /// The purpose of the narrowed session in the caller's words; empty if the caller gave none.
    #[prost(string, tag = "2")]
    pub description: String,
}

/// A session tag with the flag that makes it transitive.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TagClaim {
    /// The tag key, which is compared without regard to case.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The tag value, of at most 256 characters.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Whether sessions that are assumed from this one inherit the tag.
    #[prost(bool, tag = "3")]
    pub transitive: bool,
}

/// Packed limits, as a token carries them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// The compressed bytes; empty if there are no session policies and no tags.
    pub bytes: Vec<u8>,
    /// The used part of the allotment in percent, rounded up, from 0 to 100.
    pub percent: u64,
}

/// Session policies and tags exceed the allotment; the error lists the share of each part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Packed size of session {what} consumes {percent}% of allotted space: {bill}.")]
pub struct TooLarge {
    what: &'static str,
    percent: u64,
    bill: String,
}

/// Packs session policies and tags. Insignificant white space in the policy is removed first,
/// because a caller could otherwise make a session arbitrarily large with it.
///
/// # Errors
/// [`TooLarge`] if the allotment is exceeded.
pub fn pack(limits: &mut Limits) -> Result<Packed, Box<TooLarge>> {
    if *limits == Limits::default() {
        return Ok(Packed::default());
    }
    remove_white_space(&mut limits.policy);
    for scope_down in &mut limits.scope_down {
        remove_white_space(&mut scope_down.policy);
    }
    let (bytes, percent) = weighed(limits);
    if percent > 100 {
        return Err(Box::new(too_large(limits, percent)));
    }
    Ok(Packed { bytes, percent })
}

/// Unpacks bytes that [`pack`] has returned. `None` if the bytes do not have this form, or would be too large when
/// unpacked.
pub fn unpack(bytes: &[u8]) -> Option<Limits> {
    if bytes.is_empty() {
        return Some(Limits::default());
    }
    let (size, rest) = lz4_flex::block::uncompressed_size(bytes).ok()?;
    if size > MAX_UNFOLDED {
        return None;
    }
    Limits::decode(&*lz4_flex::block::decompress_with_dict(rest, size, DICTIONARY).ok()?).ok()
}

/// The packed bytes, and the percentage of the limits that is used: the packed size against [`ALLOTMENT`], or the
/// unpacked size against [`MAX_UNPACKED`], whichever percentage is higher.
fn weighed(limits: &Limits) -> (Vec<u8>, u64) {
    let plain = limits.encode_to_vec();
    let packed = lz4_flex::block::compress_prepend_size_with_dict(&plain, DICTIONARY);
    let percent =
        |bytes: usize, of: usize| u64::try_from((bytes * 100).div_ceil(of)).unwrap_or(u64::MAX);
    let consumed = percent(packed.len(), ALLOTMENT).max(percent(plain.len(), MAX_UNPACKED));
    (packed, consumed)
}

/// Removes the white space outside strings from a JSON text (RFC 8259 section 2).
fn remove_white_space(text: &mut String) {
    let (mut in_string, mut escaped) = (false, false);
    text.retain(|c| {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            return true;
        }
        in_string = c == '"';
        !matches!(c, ' ' | '\t' | '\n' | '\r')
    });
}

/// The error that says how large each part would be if it were packed alone. Of the tags, only the ten largest are
/// named.
fn too_large(limits: &Limits, total: u64) -> TooLarge {
    let alone = |limits: &Limits| weighed(limits).1;
    let mut bill = Vec::new();
    if !limits.policy.is_empty() {
        let share = alone(&Limits {
            policy: limits.policy.clone(),
            ..Limits::default()
        });
        bill.push(format!("{share}% from Policy"));
    }
    if !limits.policy_arns.is_empty() {
        let share = alone(&Limits {
            policy_arns: limits.policy_arns.clone(),
            ..Limits::default()
        });
        bill.push(format!("{share}% from PolicyArns"));
    }
    for (at, scope_down) in limits.scope_down.iter().enumerate() {
        let share = alone(&Limits {
            scope_down: vec![scope_down.clone()],
            ..Limits::default()
        });
        bill.push(format!("{share}% from scope-down policy {}", at + 1));
    }
    let mut tags: Vec<(u64, &str)> = limits
        .tags
        .iter()
        .map(|tag| {
            (
                alone(&Limits {
                    tags: vec![tag.clone()],
                    ..Limits::default()
                }),
                tag.key.as_str(),
            )
        })
        .collect();
    tags.sort_by(|one, two| two.cmp(one));
    bill.extend(
        tags.iter()
            .take(10)
            .map(|(share, key)| format!("{share}% from tag {key}")),
    );
    if tags.len() > 10 {
        bill.push(format!("and the rest from {} more tags", tags.len() - 10));
    }
    let policies = !limits.policy.is_empty()
        || !limits.policy_arns.is_empty()
        || !limits.scope_down.is_empty();
    let what = match (policies, tags.is_empty()) {
        (true, true) => "policies",
        (true, false) => "policies and tags",
        (false, _) => "tags",
    };
    TooLarge {
        what,
        percent: total,
        bill: bill.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> TagClaim {
        TagClaim {
            key: key.into(),
            value: value.into(),
            transitive: false,
        }
    }

    #[test]
    fn the_size_is_true_and_the_bill_names_everybody() {
        assert_eq!(pack(&mut Limits::default()).unwrap(), Packed::default());
        let mut small = Limits {
            tags: vec![tag("Team", "blue")],
            ..Limits::default()
        };
        let packed = pack(&mut small).unwrap();
        assert_eq!((packed.percent, unpack(&packed.bytes).unwrap()), (1, small));

        let noise = |n: u32| {
            (0..n)
                .map(|i| char::from(b'!' + (i.wrapping_mul(2_654_435_761) >> 25) as u8 % 90))
                .collect::<String>()
        };
        let mut large = Limits {
            policy: noise(2_048),
            ..Limits::default()
        };
        large.tags = (0..30)
            .map(|i| tag(&format!("key{i:02}"), &noise(200 + i)))
            .collect();
        let refused = pack(&mut large).map(|p| p.percent);
        // Repetitive text packs well; other text uses the allotment.
        assert!(refused.is_ok_and(|p| p < 100));
        for (i, tag) in large.tags.iter_mut().enumerate() {
            tag.value =
                crate::base::digest::hex(&crate::base::digest::sha256(&[i as u8])).repeat(4);
        }
        let words: String = (0..60u8)
            .map(|i| crate::base::digest::hex(&crate::base::digest::sha256(&[i, 1])))
            .collect();
        large.policy = words.chars().take(2_048).collect();
        large
            .tags
            .iter_mut()
            .for_each(|t| t.value = words.chars().rev().skip(t.value.len()).take(250).collect());
        large.tags.iter_mut().enumerate().for_each(|(i, t)| {
            t.value = (0..4u8)
                .map(|j| crate::base::digest::hex(&crate::base::digest::sha256(&[i as u8, j, 2])))
                .collect()
        });
        let text = pack(&mut large).unwrap_err().to_string();
        assert!(
            text.starts_with("Packed size of session policies and tags consumes "),
            "{text}"
        );
        assert!(
            text.contains("% from Policy, ")
                && text.contains("% from tag key")
                && text.contains("20 more tags"),
            "{text}"
        );
        let tags = pack(&mut Limits {
            policy: String::new(),
            ..large
        })
        .unwrap_err()
        .to_string();
        assert!(
            tags.starts_with("Packed size of session tags consumes "),
            "{tags}"
        );
    }

    #[test]
    fn a_token_unfolds_to_a_bounded_size() {
        let bomb = [&200_000u32.to_le_bytes()[..], &[0xff; 64]].concat();
        assert!(unpack(&bomb).is_none() && unpack(&[1]).is_none());
    }

    #[test]
    fn what_packs_well_is_bounded_all_the_same() {
        // Fifty of the longest tags in four-byte characters pack to a seventh of the allotment.
        let tags = |n: usize| {
            (0..n)
                .map(|i| tag(&format!("{i:03}{}", "𝔸".repeat(125)), &"𝔸".repeat(256)))
                .collect()
        };
        let mut ten = Limits {
            tags: tags(10),
            ..Limits::default()
        };
        assert!(pack(&mut ten).is_ok_and(|p| p.percent > 90 && p.bytes.len() < 1_024));
        let refused = pack(&mut Limits {
            tags: tags(50),
            ..Limits::default()
        })
        .unwrap_err()
        .to_string();
        assert!(
            refused.starts_with("Packed size of session tags consumes 46"),
            "{refused}"
        );
    }

    #[test]
    fn white_space_means_nothing_outside_strings_and_something_inside() {
        for (given, kept) in [
            (" { \"a b\" :\t[ 1 ,\r\n 2 ] } ", "{\"a b\":[1,2]}"),
            (
                r#"{ "a \" b" : " c\\" , "d" : "\\\"  " }"#,
                r#"{"a \" b":" c\\","d":"\\\"  "}"#,
            ),
            (
                "{\"\u{a0}\" : \"\u{2003} x\"}",
                "{\"\u{a0}\":\"\u{2003} x\"}",
            ),
            ("", ""),
        ] {
            let mut text = given.to_owned();
            remove_white_space(&mut text);
            assert_eq!(text, kept);
        }
        let policy = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}"#;
        let mut padded = Limits {
            policy: format!("{policy}{}", " ".repeat(130_900)),
            ..Limits::default()
        };
        let packed = pack(&mut padded).unwrap();
        assert_eq!(unpack(&packed.bytes).unwrap(), padded);
        assert_eq!(padded.policy, policy.replace(": ", ":").replace(", ", ","));
    }

    proptest::proptest! {
        #[test]
        fn json_without_its_white_space_is_the_same_json(
            keys in proptest::collection::vec("[ a\"\\\\\t]{0,6}", 0..6),
        ) {
            let value = serde_json::json!({"keys": keys, "nested": {"list": [keys.clone(), 1, null]}});
            let mut text = serde_json::to_string_pretty(&value).unwrap();
            remove_white_space(&mut text);
            proptest::prop_assert_eq!(&text, &value.to_string());
        }

        #[test]
        fn whatever_is_packed_unpacks(policy in ".{0,400}", keys in proptest::collection::vec(".{1,40}", 0..10)) {
            let tags = keys.iter().map(|k| tag(k, &policy)).collect();
            let scope_down = keys.iter().take(MAX_SCOPE_DOWN).map(|key| ScopeDown {
                policy: policy.clone(),
                description: key.clone(),
            });
            let mut limits = Limits {
                tags,
                policy: policy.clone(),
                policy_arns: keys.clone(),
                scope_down: scope_down.collect(),
            };
            if let Ok(packed) = pack(&mut limits) {
                proptest::prop_assert_eq!(unpack(&packed.bytes), Some(limits));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = unpack(&bytes);
        }
    }
}
