//! Pages of lists: `Marker` and `MaxItems` in a request, `IsTruncated` and `Marker` in its answer.

use serde::{Deserialize, Serialize};

/// The number of items of a page if the request does not say.
const DEFAULT_ITEMS: usize = 100;

/// The part of a request that says which page is requested.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PageRequest {
    marker: Option<String>,
    max_items: Option<usize>,
}

/// The part of an answer that says where the page ends.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PageEnd {
    is_truncated: bool,
    marker: Option<String>,
}

impl PageRequest {
    /// The items of the page, sorted by key, and its end. The marker is the key of the last item
    /// before the page, so that it stays valid if that item is deleted.
    pub(super) fn take<T>(
        self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> &str,
    ) -> (Vec<T>, PageEnd) {
        let marker = self.marker.as_deref();
        let mut page: Vec<T> = items
            .filter(|item| marker.is_none_or(|marker| key(item) > marker))
            .collect();
        page.sort_by(|a, b| key(a).cmp(key(b)));
        let limit = self.max_items.unwrap_or(DEFAULT_ITEMS).max(1);
        let is_truncated = page.len() > limit;
        page.truncate(limit);
        let marker = page
            .last()
            .filter(|_| is_truncated)
            .map(|last| key(last).to_owned());
        (
            page,
            PageEnd {
                is_truncated,
                marker,
            },
        )
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
            let (page, end) = request.take(items.iter(), |item| item);
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
        let (page, end) = request.take(["a", "b"].into_iter(), |item| item);
        assert_eq!(page, ["a", "b"]);
        let whole = PageEnd {
            is_truncated: false,
            marker: None,
        };
        assert_eq!(end, whole);
        let (page, _) = PageRequest::default().take(["a", "b"].into_iter(), |item| item);
        assert_eq!(page.len(), 2);
        let behind = PageRequest {
            marker: Some("deleted".to_owned()),
            max_items: None,
        };
        let (page, _) = behind.take(["a", "e"].into_iter(), |item| item);
        assert_eq!(page, ["e"]);
    }
}
