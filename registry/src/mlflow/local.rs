//! Artifacts in a folder that this machine shares with MLflow.

use std::{fs, fs::File, io, io::Read as _, path::Path};

use super::{
    fetch::{Bounds, FetchFailure, whole},
    listing::{self, ListError, Listed},
};
use crate::store::{Incoming, Part};

/// One file into the store.
pub(super) fn copy(folder: &Path, file: &Listed, incoming: &Incoming, bounds: &Bounds) -> Result<Part, FetchFailure> {
    let path = folder.join(&file.path);
    let mut source = File::open(&path).map_err(failure(&path))?;
    let mut part = incoming.part(&file.path, None)?;
    let mut buffer = vec![0; 1 << 18];
    while part.size() <= file.size {
        bounds.check(&file.path, part.size(), file.size)?;
        match source.read(&mut buffer).map_err(failure(&path))? {
            0 => break,
            read => part = part.append(&buffer[..read])?,
        }
    }
    whole(part, file, None)
}

/// Every file of a folder, sorted; links are not followed.
pub(super) fn list(root: &Path) -> Result<Vec<Listed>, FetchFailure> {
    let mut files = Vec::new();
    // Folders to look into, with their depth.
    let mut folders = vec![(String::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let here = root.join(&folder);
        for entry in fs::read_dir(&here).map_err(failure(&here))? {
            let entry = entry.map_err(failure(&here))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // A name that is not text has become another one, with a character that no file of a model needs.
            if !listing::is_plain(&name) || name.contains(char::REPLACEMENT_CHARACTER) {
                return Err(ListError::Path(name).into());
            }
            let path = listing::join(&folder, &name);
            let kind = entry.file_type().map_err(failure(&here))?;
            if kind.is_dir() {
                folders.push((path, depth + 1));
            } else if kind.is_file() {
                files.push(Listed { path, size: entry.metadata().map_err(failure(&here))?.len() });
            }
            listing::check(depth, files.len() + folders.len())?;
        }
    }
    if files.is_empty() {
        return Err(ListError::Empty(root.display().to_string()).into());
    }
    files.sort_unstable();
    Ok(files)
}

fn failure(path: &Path) -> impl Fn(io::Error) -> FetchFailure {
    |error| FetchFailure::LocalFiles { path: path.display().to_string(), reason: error.to_string() }
}
