//! Pages of lists: `Marker` and `MaxItems` in a request, `IsTruncated` and `Marker` in its answer.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The first character of every marker, which tells markers of this broker from other texts.
const MARKED: char = '~';
/// The maximum number of items on a page if the request has no `MaxItems`.
const DEFAULT_ITEMS: usize = 100;

/// The part of a request that selects the page.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PageRequest {
    marker: Option<String>,
    max_items: Option<usize>,
}

/// The part of an answer that says whether more items follow, and the marker for the next page.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PageEnd {
    is_truncated: bool,
    marker: Option<String>,
}

impl PageRequest {
    /// The maximum number of items on the page, at least 1.
    pub(super) fn limit(&self) -> usize {
        self.max_items.unwrap_or(DEFAULT_ITEMS).max(1)
    }

    /// Returns the key of the last item before the page; an empty text for the first page.
    ///
    /// # Errors
    /// [`Error::InvalidMarker`] if the text is not a marker of this API.
    pub(super) fn after(&self) -> Result<&str, Error> {
        match self.marker.as_deref() {
            None => Ok(""),
            Some(marker) => marker.strip_prefix(MARKED).ok_or(Error::InvalidMarker),
        }
    }

    /// Returns where the page begins in an answer with several lists: the index of the list, and
    /// the key of the last item of that list before the page.
    ///
    /// # Errors
    /// The same as for [`Self::after`].
    pub(super) fn place(&self) -> Result<(usize, &str), Error> {
        let after = self.after()?;
        if after.is_empty() {
            return Ok((0, ""));
        }
        let place = after.split_once('/');
        place
            .and_then(|(list, key)| Some((list.parse().ok()?, key)))
            .ok_or(Error::InvalidMarker)
    }

    /// Returns the items of the page, sorted by key, and its end. A marker contains a key and not a
    /// position, so it stays valid if items before the page are created or deleted. Keys must be
    /// unique, and at most 319 characters of printable ASCII.
    ///
    /// # Errors
    /// The same as for [`Self::after`].
    pub(super) fn take<T>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> &str,
    ) -> Result<(Vec<T>, PageEnd), Error> {
        let after = self.after()?;
        let mut page: Vec<T> = items
            .filter(|item| after.is_empty() || key(item) > after)
            .collect();
        page.sort_by(|a, b| key(a).cmp(key(b)));
        let limit = self.limit();
        let is_truncated = page.len() > limit;
        page.truncate(limit);
        let last = page.last().filter(|_| is_truncated);
        let end = last.map_or_else(PageEnd::of_the_list, |last| PageEnd::after(key(last)));
        Ok((page, end))
    }
}

impl PageEnd {
    /// Returns the end of a page after which no items follow.
    pub(super) fn of_the_list() -> Self {
        Self {
            is_truncated: false,
            marker: None,
        }
    }

    /// Returns the end of a page whose last item has the key `key`, and after which more items
    /// follow.
    pub(super) fn after(key: &str) -> Self {
        Self {
            is_truncated: true,
            marker: Some(format!("{MARKED}{key}")),
        }
    }

    /// Adds the index of the list to the marker, for an answer with several lists.
    pub(super) fn in_list(self, index: usize) -> Self {
        let key = self.marker.as_deref().and_then(|m| m.strip_prefix(MARKED));
        match key {
            Some(key) => Self::after(&format!("{index}/{key}")),
            None => self,
        }
    }

    /// Returns whether more items follow after this page.
    pub(super) fn is_truncated(&self) -> bool {
        self.is_truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_on_exactly_one_page() {
        let items = ["d", "a", "c", "e", "b"];
        let mut seen: Vec<&&str> = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let request = PageRequest {
                marker: marker.clone(),
                max_items: Some(2),
            };
            let (page, end) = request.take(items.iter(), |item| item).unwrap();
            assert!(page.len() <= 2);
            assert_eq!(end.is_truncated, end.marker.is_some());
            seen.extend(page);
            marker = end.marker;
            if marker.is_none() {
                break;
            }
        }
        assert_eq!(seen, [&"a", &"b", &"c", &"d", &"e"]);
    }

    #[test]
    fn a_page_is_full_without_being_cut() {
        let request = PageRequest {
            marker: None,
            max_items: Some(2),
        };
        let (page, end) = request.take(["a", "b"].into_iter(), |item| item).unwrap();
        assert_eq!(page, ["a", "b"]);
        let whole = PageEnd {
            is_truncated: false,
            marker: None,
        };
        assert_eq!(end, whole);
        let (page, _) = PageRequest::default()
            .take(["a", "b"].into_iter(), |item| item)
            .unwrap();
        assert_eq!(page.len(), 2);
        let behind = PageRequest {
            marker: Some("~deleted".to_owned()),
            max_items: None,
        };
        let (page, _) = behind.take(["a", "e"].into_iter(), |item| item).unwrap();
        assert_eq!(page, ["e"]);
    }

    #[test]
    fn a_marker_of_several_lists_says_which_list_goes_on() {
        let end = PageEnd::after("a/b").in_list(2);
        let request = PageRequest {
            marker: end.marker,
            max_items: None,
        };
        assert_eq!(request.place().unwrap(), (2, "a/b"));
        assert_eq!(PageRequest::default().place().unwrap(), (0, ""));
        let of_one_list = PageRequest {
            marker: Some("~key".to_owned()),
            max_items: None,
        };
        assert_eq!(of_one_list.place().unwrap_err(), Error::InvalidMarker);
        assert_eq!(PageEnd::of_the_list().in_list(1), PageEnd::of_the_list());
    }

    #[test]
    fn a_marker_that_no_page_ended_with_is_refused() {
        let request = PageRequest {
            marker: Some("e".to_owned()),
            max_items: None,
        };
        let refused = request.take(["a"].into_iter(), |item| item).unwrap_err();
        assert_eq!(refused.to_string(), "Invalid Marker.");
    }
}
