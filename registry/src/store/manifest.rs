//! What an artifact on disk consists of.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use aibuyer_domain::model::{ServableId, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Name of the manifest.
const MANIFEST: &str = "manifest.json";

/// What tells one version's files from any other's. A name and a number do not: a model that is deleted and made anew
/// begins at 1 again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) workspace: Option<String>,
    pub(crate) name: String,
    pub(crate) version: u64,
    /// Milliseconds since 1970.
    pub(crate) creation_timestamp: u64,
    pub(crate) artifact_uri: String,
}

impl Identity {
    /// A short hash of all of it, for a folder's name.
    pub(crate) fn key(&self) -> String {
        let Self { workspace, name, version, creation_timestamp, artifact_uri } = self;
        let text = format!("{workspace:?}\n{name}\n{version}\n{creation_timestamp}\n{artifact_uri}");
        hex(&Sha256::digest(text))[..16].to_owned()
    }

    /// As requests name it.
    pub(crate) fn id(&self) -> Option<ServableId> {
        Some(ServableId { name: self.name.parse().ok()?, version: Version::new(self.version)? })
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileDigest {
    /// Path inside the artifact.
    pub(crate) path: String,
    pub(crate) size: u64,
    /// In hexadecimal.
    pub(crate) sha256: String,
}

/// All files of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    #[serde(flatten)]
    pub(crate) identity: Identity,
    pub(crate) files: Vec<FileDigest>,
}

impl Manifest {
    pub(crate) fn new(identity: Identity, mut files: Vec<FileDigest>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { identity, files }
    }

    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let content = fs::read(folder.join(MANIFEST)).map_err(|e| format!("{MANIFEST}: {e}"))?;
        serde_json::from_slice(&content).map_err(|e| format!("{MANIFEST}: {e}"))
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let path = folder.join(MANIFEST);
        fs::write(&path, serde_json::to_vec_pretty(self)?)?;
        File::open(path)?.sync_all()
    }

    /// Checks every file's size and content, unless nobody wants them any more.
    pub(super) fn check(&self, files: &Path, wanted: &dyn Fn() -> bool) -> Result<(), String> {
        for file in &self.files {
            let found = digest(&files.join(&file.path), wanted).map_err(|e| format!("{}: {e}", file.path))?;
            if found != (file.size, file.sha256.clone()) {
                return Err(format!("{} is not what was fetched", file.path));
            }
        }
        Ok(())
    }
}

/// Size and SHA-256 of a file.
fn digest(path: &Path, wanted: &dyn Fn() -> bool) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; 1 << 18], 0);
    loop {
        if !wanted() {
            return Err(io::Error::other("another version is wanted"));
        }
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex(&hasher.finalize()))),
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
