//! An artifact that is being gathered, file by file; a file may be gathered in several goes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    StoreError,
    manifest::{FileDigest, Manifest, hex},
};

/// A folder in which files are gathered until they are whole.
#[derive(Debug)]
pub(crate) struct Incoming {
    folder: PathBuf,
    /// Where it goes when it is whole.
    target: PathBuf,
}

impl Incoming {
    /// Opens the folder with whatever an earlier try has left there.
    pub(super) fn open(folder: PathBuf, target: PathBuf) -> Result<Self, StoreError> {
        let boot = boot_id();
        let marker = folder.join("boot");
        // What was written before the machine went down may have holes where the disk was behind.
        if fs::read_to_string(&marker).ok().as_ref() != Some(&boot) && folder.exists() {
            fs::remove_dir_all(&folder).map_err(StoreError::at(&folder))?;
        }
        for folder in [folder.join("files"), folder.join("etags")] {
            fs::create_dir_all(&folder).map_err(StoreError::at(&folder))?;
        }
        fs::write(&marker, boot).map_err(StoreError::at(&marker))?;
        Ok(Self { folder, target })
    }

    /// Bytes that can still be written to this disk.
    pub(crate) fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.folder).map_err(|e| StoreError::at(&self.folder)(e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// What is here of a file: its bytes, and the tag under which they came.
    pub(crate) fn partial(&self, path: &str) -> Option<(u64, String)> {
        let etag = fs::read_to_string(self.etag(path)).ok()?;
        Some((fs::metadata(self.folder.join("files").join(path)).ok()?.len(), etag))
    }

    /// Begins a file anew, under the tag that its bytes come with.
    pub(crate) fn part(&self, path: &str, etag: Option<&str>) -> Result<Part, StoreError> {
        let (file, tag) = (self.folder.join("files").join(path), self.etag(path));
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(StoreError::at(parent))?;
        }
        // First the old bytes go, then the new tag comes: a tag must never stand beside another's bytes.
        let open = File::create(&file).map_err(StoreError::at(&file))?;
        match etag {
            Some(etag) => fs::write(&tag, etag).map_err(StoreError::at(&tag))?,
            None => drop(fs::remove_file(&tag)),
        }
        Ok(Part { path: path.to_owned(), at: file, file: open, hasher: Sha256::new(), size: 0 })
    }

    /// Goes on with a file after its first `size` bytes.
    pub(crate) fn resume(&self, path: &str, size: u64) -> Result<Part, StoreError> {
        let at = self.folder.join("files").join(path);
        let mut hasher = Sha256::new();
        let go = |hasher: &mut Sha256| -> io::Result<File> {
            let mut file = OpenOptions::new().read(true).write(true).open(&at)?;
            file.set_len(size)?;
            let mut buffer = vec![0; 1 << 18];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    read => hasher.update(&buffer[..read]),
                }
            }
            file.seek(io::SeekFrom::End(0))?;
            Ok(file)
        };
        let file = go(&mut hasher).map_err(StoreError::at(&at))?;
        Ok(Part { path: path.to_owned(), at, file, hasher, size })
    }

    /// Throws away all that was gathered.
    pub(crate) fn discard(self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.folder).map_err(StoreError::at(&self.folder))
    }

    /// Puts the whole version in its place; its files' folder.
    pub(crate) fn commit(self, manifest: &Manifest) -> Result<PathBuf, StoreError> {
        let Self { folder, target } = &self;
        let go = || -> io::Result<PathBuf> {
            // Of an earlier listing.
            prune(&folder.join("files"), "", &|path| manifest.files.iter().any(|file| file.path == path))?;
            fs::remove_dir_all(folder.join("etags"))?;
            fs::remove_file(folder.join("boot"))?;
            manifest.write(folder)?;
            sync_folders(folder)?;
            if target.exists() {
                // A damaged one: whole ones are never fetched again.
                fs::remove_dir_all(target)?;
            }
            let parent = target.parent().unwrap_or(target);
            fs::create_dir_all(parent)?;
            fs::rename(folder, target)?;
            File::open(parent)?.sync_all()?;
            Ok(target.join("files"))
        };
        go().map_err(StoreError::at(target))
    }

    fn etag(&self, path: &str) -> PathBuf {
        self.folder.join("etags").join(hex(&Sha256::digest(path)))
    }
}

/// A file that grows.
#[derive(Debug)]
pub(crate) struct Part {
    path: String,
    at: PathBuf,
    file: File,
    hasher: Sha256,
    size: u64,
}

impl Part {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn append(mut self, bytes: &[u8]) -> Result<Self, StoreError> {
        self.file.write_all(bytes).map_err(StoreError::at(&self.at))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(self)
    }

    /// On the disk, and what it is.
    pub(crate) fn finish(self) -> Result<FileDigest, StoreError> {
        self.file.sync_all().map_err(StoreError::at(&self.at))?;
        Ok(FileDigest { path: self.path, size: self.size, sha256: hex(&self.hasher.finalize()) })
    }
}

/// Deletes the files that are not to be kept; `inside` is the folder's path in the artifact.
fn prune(folder: &Path, inside: &str, keep: &dyn Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{inside}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            prune(&entry.path(), &format!("{path}/"), keep)?;
        } else if !keep(&path) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Names of new files are on the disk only once their folders are.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Changes when the machine starts anew; the same for ever where the system does not tell.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
