//! The files of an artifact as the server lists them. Paths from a server are not to be trusted.

use std::path::{Component, Path};

use super::{
    client::{CallError, Client},
    wire::Listing,
};

/// Folders in folders.
const DEEPEST: usize = 8;
/// Files and folders of one version.
const MOST: usize = 10_000;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    /// Path inside the artifact, with `/`.
    pub(super) path: String,
    pub(super) size: u64,
}

/// Why files cannot be listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the server lists {0:?}, which is not a path inside the artifact")]
    Path(String),
    #[error("the artifact has more than {MOST} files, or folders more than {DEEPEST} deep")]
    Many,
    #[error("the artifact {0} has no files: was it deleted, or is it still being uploaded?")]
    Empty(String),
}

/// Every file below `root`, sorted.
pub(super) fn list(client: &Client, root: &str) -> Result<Vec<Listed>, ListError> {
    let mut files = Vec::new();
    // Folders to look into, with their depth.
    let mut folders = vec![(String::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let path = join(root, &folder);
        let listing: Listing = client.get("mlflow-artifacts/artifacts", &[("path", &path)])?;
        for entry in listing.files {
            if !is_plain(&entry.path) {
                return Err(ListError::Path(entry.path));
            }
            let path = join(&folder, &entry.path);
            if entry.is_dir {
                folders.push((path, depth + 1));
            } else {
                files.push(Listed { path, size: entry.file_size });
            }
            check(depth, files.len() + folders.len())?;
        }
    }
    if files.is_empty() {
        return Err(ListError::Empty(root.to_owned()));
    }
    files.sort_unstable();
    Ok(files)
}

/// Refuses what no model is.
pub(super) fn check(depth: usize, entries: usize) -> Result<(), ListError> {
    if depth >= DEEPEST || entries > MOST { Err(ListError::Many) } else { Ok(()) }
}

pub(super) fn join(folder: &str, path: &str) -> String {
    let separator = if folder.is_empty() || path.is_empty() { "" } else { "/" };
    format!("{folder}{separator}{path}")
}

/// Whether a path goes down only, in plain steps.
pub(super) fn is_plain(path: &str) -> bool {
    let plain = |part: &str| {
        let mut components = Path::new(part).components();
        matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
            && !part.chars().any(|c| c.is_control() || matches!(c, '\\' | '?' | '#'))
    };
    !path.is_empty() && path.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_artifact_are_refused() {
        for good in ["MLmodel", "vocab/headline.jsonl", "a b/c%2e", "..data"] {
            assert!(is_plain(good), "{good:?}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", "./a", "a/./b", "a\\b", "a#b", "a?b", "a\nb"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
