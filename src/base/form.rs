//! URL-encoded forms (`application/x-www-form-urlencoded`), parsed strictly: whatever could be
//! understood in two ways is refused.

use std::collections::{BTreeMap, HashSet};

use super::field::FieldError;

/// The media type of a form without parameters, for comparison with a `Content-Type` header.
pub const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// The maximum number of parameters in a form, unless the caller of the parser allows more.
pub const MAX_PARAMETERS: usize = 512;

/// Why a form was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// There are more parameters than this.
    #[error("more than {0} parameters")]
    TooMany(usize),
    /// A name or value has an invalid escape, an unescaped control character or character beyond ASCII, or bytes that
    /// are not UTF-8.
    #[error("a parameter is not URL-encoded UTF-8")]
    Encoding,
    /// Two names are the same or differ only in case.
    #[error("duplicate parameter")]
    Duplicate,
}

/// The names and values of a form in order.
///
/// # Errors
/// [`FormError`] if there are more than [`MAX_PARAMETERS`], or one is not URL-encoded UTF-8.
pub fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, FormError> {
    pairs_up_to(text, MAX_PARAMETERS)
}

fn pairs_up_to(text: &[u8], most: usize) -> Result<Vec<(String, String)>, FormError> {
    let mut pairs = Vec::new();
    for pair in split(text) {
        if pairs.len() == most {
            return Err(FormError::TooMany(most));
        }
        let at = pair.iter().position(|b| *b == b'=');
        let (name, value) = at.map_or((pair, &[][..]), |at| {
            (
                pair.get(..at).unwrap_or_default(),
                pair.get(at + 1..).unwrap_or_default(),
            )
        });
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

/// The number of parameters in a form, without decoding them.
pub fn count_parameters(text: &[u8]) -> usize {
    split(text).count()
}

fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'&').filter(|p| !p.is_empty())
}

/// Decodes a name or value. It makes only one copy, since the text may be long.
fn decode(text: &[u8]) -> Result<String, FormError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(), digit());
                let byte = high.zip(low).map(|(high, low)| high * 16 + low);
                byte.and_then(|byte| u8::try_from(byte).ok())
                    .ok_or(FormError::Encoding)?
            }
            b'+' => b' ',
            byte if !byte.is_ascii() || byte.is_ascii_control() => {
                return Err(FormError::Encoding);
            }
            byte => byte,
        });
    }
    decoded.shrink_to_fit();
    String::from_utf8(decoded).map_err(|_| FormError::Encoding)
}

/// The parameters of a form by name. Each can be taken once. A parameter that has not been taken
/// when the request was read is unknown, and makes the request invalid.
#[derive(Default)]
pub struct Parameters {
    by_name: BTreeMap<String, String>,
    /// The names in lower case, to detect names that differ only in case, once there are more than
    /// [`FEW`].
    folded: HashSet<String>,
}

/// Up to this many names are compared one by one, which is faster than keeping a set of them in
/// lower case.
const FEW: usize = 16;

impl Parameters {
    /// Parses the parameters of a form.
    ///
    /// # Errors
    /// [`FormError`] if the form is invalid or ambiguous.
    pub fn read(form: &[u8]) -> Result<Self, FormError> {
        let mut parameters = Self::default();
        parameters.read_more(form)?;
        Ok(parameters)
    }

    /// Adds the parameters of another form.
    ///
    /// # Errors
    /// [`FormError`] if the form is invalid or ambiguous, or repeats a name.
    pub fn read_more(&mut self, form: &[u8]) -> Result<(), FormError> {
        self.read_up_to(form, MAX_PARAMETERS)
    }

    /// Adds the parameters of another form, which may have at most `most`.
    ///
    /// # Errors
    /// The same as for [`Self::read_more`].
    pub fn read_up_to(&mut self, form: &[u8], most: usize) -> Result<(), FormError> {
        for (name, value) in pairs_up_to(form, most)? {
            self.put(name, value)?;
        }
        Ok(())
    }

    /// Adds one parameter.
    ///
    /// # Errors
    /// [`FormError::Duplicate`] if there is one with the same name, in any case.
    pub fn put(&mut self, name: String, value: String) -> Result<(), FormError> {
        let mut known = self.by_name.keys();
        if self.by_name.len() <= FEW {
            if known.any(|known| known.eq_ignore_ascii_case(&name)) {
                return Err(FormError::Duplicate);
            }
        } else {
            if self.folded.is_empty() {
                self.folded = known.map(|known| known.to_ascii_lowercase()).collect();
            }
            if !self.folded.insert(name.to_ascii_lowercase()) {
                return Err(FormError::Duplicate);
            }
        }
        self.by_name.insert(name, value);
        Ok(())
    }

    /// The number of parameters that have not been taken.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether all parameters have been taken.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Takes the value of the parameter with this name.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.by_name.remove(name)
    }

    /// The value of the parameter with this name, which can still be taken later.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    /// Whether there is a parameter whose name begins with `PREFIX.`.
    pub fn has_under(&self, prefix: &str) -> bool {
        let dotted = format!("{prefix}.");
        self.by_name
            .range(dotted.clone()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&dotted))
    }

    /// Takes a parameter `Name=` without a value, which stands for an empty list or map. Returns
    /// whether there was one.
    pub fn take_empty(&mut self, name: &str) -> bool {
        let empty = self.by_name.get(name).is_some_and(String::is_empty);
        if empty {
            self.take(name);
        }
        empty
    }

    /// Takes a parameter that is an integer.
    ///
    /// # Errors
    /// [`FieldError`] if the value is not an integer of at most 64 bits in decimal digits.
    pub fn number(&mut self, name: &str) -> Result<Option<i64>, FieldError> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let number = text
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        number.map(Some).ok_or_else(|| {
            FieldError::new(
                name.to_owned(),
                "must be an integer of at most 64 bits in decimal digits",
            )
        })
    }

    /// Takes the parameters `Name.member.1` and so on, up to the first that is missing. `item` takes the item with the
    /// given prefix, and returns `None` if it is missing. A single `Name=` is the empty list.
    pub fn list<T>(
        &mut self,
        name: &str,
        mut item: impl FnMut(&mut Self, &str) -> Option<T>,
    ) -> Vec<T> {
        let mut items = Vec::new();
        if self.is_empty() {
            return items;
        }
        self.take_empty(name);
        while let Some(next) = item(self, &format!("{name}.member.{}", items.len() + 1)) {
            items.push(next);
        }
        items
    }

    /// Checks that all parameters were taken, so that there is no unknown name and no gap in a
    /// list.
    ///
    /// # Errors
    /// [`FieldError`] for the first parameter that nobody took.
    pub fn none_left(&self) -> Result<(), FieldError> {
        match self.by_name.keys().next() {
            None => Ok(()),
            Some(name) => {
                let rule = if name.contains(".member.") {
                    "must be a parameter of this action, with the members of the list numbered from 1 without gaps"
                } else {
                    "must be a parameter of this action"
                };
                let name: String = name.chars().take(128).filter(|c| !c.is_control()).collect();
                Err(FieldError::new(name, rule))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_parameters_as_are_allowed_and_none_twice() {
        let form = |names: std::ops::Range<usize>| {
            names
                .map(|n| format!("{}{n:03}=v", "x".repeat(400)))
                .collect::<Vec<_>>()
                .join("&")
        };
        let read = |form: String| Parameters::read(form.as_bytes());
        assert_eq!(read(form(0..512)).unwrap().len(), 512);
        assert_eq!(read(form(0..513)).err(), Some(FormError::TooMany(512)));
        let mut more = Parameters::default();
        assert_eq!(more.read_up_to(form(0..513).as_bytes(), 513), Ok(()));
        assert_eq!(count_parameters(form(0..513).as_bytes()), 513);
        assert_eq!(count_parameters(b"&a=1&&b&"), 2);
        let twice = format!("{}&{}", form(0..511), form(7..8).to_ascii_uppercase());
        assert_eq!(read(twice).err(), Some(FormError::Duplicate));
    }

    #[test]
    fn values_are_decoded_strictly() {
        let read = |value: &str| {
            let form = format!("Name={value}");
            Parameters::read(form.as_bytes()).map(|mut p| p.take("Name").unwrap())
        };
        assert_eq!(read("a+b%20%2B%2f%C3%bc=%3D").unwrap(), "a b +/ü==");
        assert_eq!(read("").unwrap(), "");
        assert_eq!(read("%00%0a").unwrap(), "\0\n");
        for bad in [
            "%", "%4", "%4g", "%g4", "%-1", "%+1", "%%41", "%ff", "ü", "a\nb", "%C3",
        ] {
            assert_eq!(read(bad), Err(FormError::Encoding), "{bad}");
        }
    }
}
