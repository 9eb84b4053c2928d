//! The operations of Amazon S3. A request's method, level and query parameters tell which operation it asks for.
//! `generate.py` makes the table of operations from a published model.

use std::sync::LazyLock;

/// The resource that an operation is about: the store itself, a bucket or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Service,
    Bucket,
    Object,
}

/// An operation, and the form of the requests for it.
#[derive(Debug)]
pub struct Operation {
    /// The name as Amazon spells it, such as `ListObjectsV2`.
    pub name: &'static str,
    method: &'static str,
    level: Level,
    /// The query parameters that must have exactly these values.
    fixed: Vec<(&'static str, &'static str)>,
    /// The query parameters that a request must have, with any value.
    required: Vec<&'static str>,
    /// The query parameters that a request may have.
    optional: Vec<&'static str>,
    /// Whether requests for the operation have the header `x-amz-copy-source`.
    copies: bool,
}

static ALL: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    include_str!("operations/table.txt")
        .lines()
        .filter_map(Operation::parse)
        .collect()
});

impl Operation {
    /// Returns all operations in the table.
    #[cfg(any(test, feature = "internals"))]
    pub fn all() -> &'static [Self] {
        &ALL
    }

    fn parse(line: &'static str) -> Option<Self> {
        let mut words = line.split(' ').filter(|_| !line.starts_with('#'));
        let (name, method) = (words.next()?, words.next()?);
        let level = match words.next()? {
            "service" => Level::Service,
            "bucket" => Level::Bucket,
            _ => Level::Object,
        };
        let mut operation = Self {
            name,
            method,
            level,
            fixed: Vec::new(),
            required: Vec::new(),
            optional: Vec::new(),
            copies: false,
        };
        for word in words {
            if let Some(name) = word.strip_prefix('?') {
                operation.optional.push(name);
            } else if let Some(header) = word.strip_prefix('@') {
                operation.copies |= header == "x-amz-copy-source";
            } else if let Some(pair) = word.split_once('=') {
                operation.fixed.push(pair);
            } else {
                operation.required.push(word);
            }
        }
        Some(operation)
    }

    /// Returns whether a request is for this operation: it has all parameters that the operation
    /// requires, and no others than it allows.
    fn is_asked_for(
        &self,
        method: &str,
        level: Level,
        query: &[(&str, &str)],
        copies: bool,
    ) -> bool {
        let has = |name: &str| query.iter().any(|(n, _)| *n == name);
        self.method == method
            && self.level == level
            && self.copies == copies
            && self.fixed.iter().all(|fixed| query.contains(fixed))
            && self.required.iter().all(|name| has(name))
            && query.iter().all(|(name, _)| {
                self.fixed.iter().any(|(fixed, _)| fixed == name)
                    || self.required.contains(name)
                    || self.optional.contains(name)
            })
    }

    /// Returns the operation that a request is for; `None` if there is none, or more than one.
    pub(super) fn find(
        method: &str,
        level: Level,
        query: &[(&str, &str)],
        copies: bool,
    ) -> Option<&'static Self> {
        let mut found = ALL
            .iter()
            .filter(|operation| operation.is_asked_for(method, level, query, copies));
        match (found.next(), found.next()) {
            (Some(operation), None) => Some(operation),
            _ => None,
        }
    }
}

#[cfg(test)]
impl Operation {
    /// Returns a valid request line for the operation, with the headers that it needs.
    pub(super) fn example(&self) -> (String, Vec<(&'static str, String)>) {
        let path = match self.level {
            Level::Service => "/",
            Level::Bucket => "/data",
            Level::Object => "/data/a",
        };
        let fixed = self.fixed.iter().map(|(n, v)| format!("{n}={v}"));
        let required = self.required.iter().map(|name| format!("{name}=1"));
        let query: Vec<String> = fixed.chain(required).collect();
        let source = ("x-amz-copy-source", "other/b".to_owned());
        let headers = self.copies.then_some(source).into_iter().collect();
        (
            format!("{} {path}?{}", self.method, query.join("&")),
            headers,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        let lines = include_str!("operations/table.txt").lines();
        assert_eq!(
            lines.filter(|l| !l.starts_with('#')).count(),
            Operation::all().len()
        );
        assert!(Operation::all().len() > 100);
        assert_eq!(Operation::all().iter().filter(|o| o.copies).count(), 2);
        for operation in Operation::all() {
            // With just what it needs, each operation is told from all others.
            let query: Vec<_> = operation
                .fixed
                .iter()
                .copied()
                .chain(operation.required.iter().map(|name| (*name, "x")))
                .collect();
            let found =
                Operation::find(operation.method, operation.level, &query, operation.copies);
            assert_eq!(found.map(|o| o.name), Some(operation.name));
        }
    }
}
