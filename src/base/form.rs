//! URL-encoded forms (`application/x-www-form-urlencoded`), read strictly: what two readers could
//! understand in two ways is refused.

use std::collections::{BTreeMap, HashSet};

use percent_encoding::percent_decode;

use super::field::FieldError;

/// The media type of a form.
pub const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// The most parameters of a form.
pub const MAX_PARAMETERS: usize = 512;

/// Why a form cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// More than [`MAX_PARAMETERS`].
    #[error("more than {MAX_PARAMETERS} parameters")]
    TooMany,
    /// A name or a value with a bad escape, a control character, or bytes that are no UTF-8.
    #[error("a parameter is not URL-encoded UTF-8")]
    Encoding,
    /// Two names that are the same, or differ in case only.
    #[error("duplicate parameter")]
    Duplicate,
}

/// The pairs of a form in their order.
///
/// # Errors
/// When there are too many, or one is not URL-encoded UTF-8.
pub fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, FormError> {
    let mut pairs = Vec::new();
    for pair in text.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
        if pairs.len() == MAX_PARAMETERS {
            return Err(FormError::TooMany);
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

fn decode(text: &[u8]) -> Result<String, FormError> {
    for (i, byte) in text.iter().enumerate() {
        let digits = text
            .get(i + 1..i + 3)
            .is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit));
        if (*byte == b'%' && !digits) || !byte.is_ascii() || byte.is_ascii_control() {
            return Err(FormError::Encoding);
        }
    }
    let spaced: Vec<u8> = text
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    percent_decode(&spaced)
        .decode_utf8()
        .map(|t| t.into_owned())
        .map_err(|_| FormError::Encoding)
}

/// Parameters by name, each taken once; what nobody takes is unknown.
#[derive(Default)]
pub struct Parameters {
    by_name: BTreeMap<String, String>,
    /// The names in lower case: two that differ only in case are a duplicate.
    folded: HashSet<String>,
}

impl Parameters {
    /// The parameters of a form.
    ///
    /// # Errors
    /// When it cannot be read in exactly one way.
    pub fn read(form: &[u8]) -> Result<Self, FormError> {
        let mut parameters = Self::default();
        parameters.read_more(form)?;
        Ok(parameters)
    }

    /// Adds those of another form.
    ///
    /// # Errors
    /// When it cannot be read in exactly one way, or repeats a name.
    pub fn read_more(&mut self, form: &[u8]) -> Result<(), FormError> {
        for (name, value) in pairs(form)? {
            self.put(name, value)?;
        }
        Ok(())
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// When there is one of that name, in whatever case.
    pub fn put(&mut self, name: String, value: String) -> Result<(), FormError> {
        if !self.folded.insert(name.to_ascii_lowercase()) {
            return Err(FormError::Duplicate);
        }
        self.by_name.insert(name, value);
        Ok(())
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Takes the parameter of that name.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.by_name.remove(name)
    }

    /// Whether there is anything under a prefix.
    pub fn has_under(&self, prefix: &str) -> bool {
        let dotted = format!("{prefix}.");
        self.by_name
            .range(dotted.clone()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&dotted))
    }

    /// Takes a lone `Name=`, which is the empty list or map, if there is one.
    pub fn take_empty(&mut self, name: &str) -> bool {
        let empty = self.by_name.get(name).is_some_and(String::is_empty);
        if empty {
            self.take(name);
        }
        empty
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// When its value is no whole number in decimal digits.
    pub fn number(&mut self, name: &str) -> Result<Option<i64>, FieldError> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let number = text
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        number
            .map(Some)
            .ok_or_else(|| FieldError::new(name.to_owned(), "must be an integer"))
    }

    /// Takes `Name.member.1` and so on without gaps, each item read by `item` from its prefix. A
    /// lone `Name=` is the empty list.
    pub fn list<T>(
        &mut self,
        name: &str,
        mut item: impl FnMut(&mut Self, &str) -> Option<T>,
    ) -> Vec<T> {
        self.take_empty(name);
        let mut items = Vec::new();
        while let Some(next) = item(self, &format!("{name}.member.{}", items.len() + 1)) {
            items.push(next);
        }
        items
    }

    /// Refuses what was not understood: an unknown name, a gap in a list.
    ///
    /// # Errors
    /// Names the first parameter that nobody took.
    pub fn none_left(&self) -> Result<(), FieldError> {
        match self.by_name.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(128).filter(|c| !c.is_control()).collect();
                Err(FieldError::new(
                    name,
                    "must be a parameter of this action, and list members must be numbered from 1 without gaps",
                ))
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
        assert_eq!(read(form(0..513)).err(), Some(FormError::TooMany));
        let twice = format!("{}&{}", form(0..511), form(7..8).to_ascii_uppercase());
        assert_eq!(read(twice).err(), Some(FormError::Duplicate));
    }
}
