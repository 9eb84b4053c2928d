//! The style sheet, the script and the icon of the pages. They are part of the binary, and their
//! names contain a digest of the content, so that browsers can cache them without a time limit.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::Full;

use crate::base::digest::{hex, sha256};

/// The path under which all assets are served.
pub(super) const FOLDER: &str = "/portal/assets/";

struct Asset {
    path: String,
    media_type: &'static str,
    content: &'static [u8],
}

impl Asset {
    fn new(name: &str, extension: &str, media_type: &'static str, content: &'static [u8]) -> Self {
        let digest = hex(&sha256(content));
        let short = digest.get(..16).unwrap_or_default();
        Self {
            path: format!("{FOLDER}{name}-{short}.{extension}"),
            media_type,
            content,
        }
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_bytes!("assets/portal.css");
    Asset::new("portal", "css", "text/css; charset=utf-8", content)
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_bytes!("assets/portal.js");
    Asset::new("portal", "js", "text/javascript; charset=utf-8", content)
});
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_bytes!("assets/icon.svg");
    Asset::new("icon", "svg", "image/svg+xml", content)
});

pub(super) fn style() -> &'static str {
    &STYLE.path
}

pub(super) fn script() -> &'static str {
    &SCRIPT.path
}

pub(super) fn icon() -> &'static str {
    &ICON.path
}

/// Returns the asset with this path; `None` if there is none, or the path has the digest of another
/// version.
pub(super) fn answer(path: &str) -> Option<Response<Full<Bytes>>> {
    let assets: [&Asset; 3] = [&STYLE, &SCRIPT, &ICON];
    let asset = assets.into_iter().find(|asset| asset.path == path)?;
    let mut response = Response::new(Full::new(Bytes::from_static(asset.content)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_with_the_present_digest_is_there() {
        for path in [style(), script(), icon()] {
            let response = answer(path).unwrap();
            assert!(
                response.headers()[CACHE_CONTROL]
                    .to_str()
                    .unwrap()
                    .contains("immutable")
            );
            assert!(answer(&path.replace('-', "-0")).is_none());
        }
        for path in [
            "",
            FOLDER,
            "/portal/assets/portal.css",
            "/portal/assets/../style",
        ] {
            assert!(answer(path).is_none(), "{path}");
        }
    }
}
