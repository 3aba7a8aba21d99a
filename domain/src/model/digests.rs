//! The hashes of an artifact's files, as its spec lists them.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

/// Where a list is wrong, as a path of keys, and how.
pub(crate) type Wrong = (String, String);

/// Checks a spec's `files_sha256`: plain paths, SHA-256 in lower-case hex, and every file that the spec refers to.
pub(crate) fn check<'a>(
    digests: &BTreeMap<String, String>,
    required: impl IntoIterator<Item = &'a str>,
) -> Result<(), Wrong> {
    for (file, digest) in digests {
        let at = format!("files_sha256[{file:?}]");
        let plain = !file.is_empty() && Path::new(file).components().all(|c| matches!(c, Component::Normal(_)));
        if !plain {
            return Err((at, "is not a plain path inside the artifact".to_owned()));
        }
        if digest.len() != 64 || !digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err((at, "is not a SHA-256 in lower-case hex".to_owned()));
        }
    }
    match required.into_iter().find(|file| !digests.contains_key(*file)) {
        None => Ok(()),
        Some(file) => Err(("files_sha256".to_owned(), format!("lacks {file:?}"))),
    }
}
