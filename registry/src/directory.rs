//! A folder of models: `<root>/<name>/<version>/`, with an optional `<root>/<name>/aliases.yaml`.
//!
//! Without `aliases.yaml` the greatest version of a model serves (as TensorFlow Serving's file system
//! source does); until one has been ready, older ones stand in. With it, exactly the versions that it names serve,
//! and the default alias, `champion` unless configured otherwise, is the default.
//! Names that start with a dot, files beside the version folders and folders that are not a number are
//! ignored, so a version can be copied to `.incoming` and renamed when it is whole.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

use aibuyer_domain::model::{Alias, ArtifactStore, DesiredModel, FetchError, ModelName, Revision, ServableId, Version};

use crate::source::{Registry, Scan, ScanError};

/// A folder of models as a registry.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
    default_alias: Alias,
}

impl Directory {
    /// The folder `root`, where `default_alias` leads to the version that answers by default.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, default_alias: Alias) -> Self {
        Self { root: root.into(), default_alias }
    }
}

impl Registry for Directory {
    fn scan(&mut self) -> Result<Scan, ScanError> {
        let mut scan = Scan::default();
        let folders = subfolders(&self.root).map_err(|error| {
            let path = self.root.display();
            let remedy = "set registry.path to a folder of <model>/<version>/";
            ScanError(format!("cannot read the model directory {path}: {error}; {remedy}"))
        })?;
        for folder in folders {
            let path = self.root.join(&folder);
            match folder.parse::<ModelName>() {
                Err(error) => scan.problems.push(format!("{}: {error}", path.display())),
                Ok(name) => match scan_model(&path, &self.default_alias, &mut scan.problems) {
                    Err(error) => scan.problems.push(format!("{}: {error}", path.display())),
                    Ok(None) => {}
                    Ok(Some(model)) => {
                        scan.desired.models.insert(name, model);
                    }
                },
            }
        }
        Ok(scan)
    }
}

impl ArtifactStore for Directory {
    fn fetch(&self, id: &ServableId, _wanted: &(dyn Fn() -> bool + Sync)) -> Result<PathBuf, FetchError> {
        let path = self.root.join(id.name.as_str()).join(id.version.to_string());
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(path),
            Ok(_) => Err(FetchError { id: id.clone(), reason: format!("{} is not a folder", path.display()) }),
            Err(error) => Err(FetchError { id: id.clone(), reason: format!("{}: {error}", path.display()) }),
        }
    }
}

/// One model's folder; `None` where it holds no version.
fn scan_model(path: &Path, default_alias: &Alias, problems: &mut Vec<String>) -> Result<Option<DesiredModel>, String> {
    let mut found = BTreeMap::new();
    for folder in subfolders(path).map_err(|e| e.to_string())? {
        if let Ok(version) = folder.parse::<Version>() {
            found.insert(version, revision(&path.join(&folder)));
        }
    }
    let Some(aliases) = read_aliases(&path.join("aliases.yaml"))? else {
        let latest = found.pop_last();
        return Ok(latest.map(|(version, revision)| DesiredModel {
            versions: BTreeMap::from([(version, revision)]),
            fallback: found,
            aliases: BTreeMap::new(),
            default: Some(version),
        }));
    };
    let mut model = DesiredModel::default();
    for (alias, version) in aliases {
        match found.get(&version) {
            Some(revision) => {
                model.versions.insert(version, *revision);
            }
            None => problems.push(format!(
                "{}: aliases.yaml points {alias} at version {version}, which has no folder; {alias} stays where it was",
                path.display()
            )),
        }
        model.aliases.insert(alias, version);
    }
    model.default = model.aliases.get(default_alias).copied();
    if model.default.is_none() {
        problems.push(format!(
            "{}: aliases.yaml has no {default_alias}, which answers requests that name neither alias nor version",
            path.display()
        ));
    }
    Ok(Some(model))
}

fn read_aliases(path: &Path) -> Result<Option<BTreeMap<Alias, Version>>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("aliases.yaml: {error}")),
    };
    let raw: BTreeMap<String, u64> = serde_saphyr::from_str(&text).map_err(|e| {
        let first = e.to_string().lines().next().unwrap_or_default().to_owned();
        format!("aliases.yaml: lines must read `alias: version`, each alias once: {first}")
    })?;
    let parse = |(alias, number): (String, u64)| {
        let alias = alias.parse::<Alias>().map_err(|e| format!("aliases.yaml: {e}"))?;
        let version = Version::new(number).ok_or_else(|| format!("aliases.yaml: {alias}: versions start at 1"))?;
        Ok((alias, version))
    };
    raw.into_iter().map(parse).collect::<Result<_, String>>().map(Some)
}

/// Names of the folders in `path`, sorted, without those that start with a dot or are not UTF-8.
fn subfolders(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        // `metadata` follows links: Kubernetes mounts folders as links. Only what is surely not a folder is
        // passed over: a moment's trouble with the disk must not look like a version that was deleted.
        match fs::metadata(entry.path()) {
            Ok(meta) if meta.is_dir() => names.push(name),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Fingerprint of a version folder: changes when a file is added, removed, resized or touched.
fn revision(path: &Path) -> Revision {
    let mut hasher = DefaultHasher::new();
    fingerprint(path, 0, &mut hasher);
    Revision(hasher.finish())
}

fn fingerprint(path: &Path, depth: u32, hasher: &mut DefaultHasher) {
    // Artifacts are two levels deep; the bound keeps a link in a circle from going on for ever.
    const MAX_DEPTH: u32 = 4;
    let Ok(entries) = fs::read_dir(path) else { return };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.sort_unstable();
    for file in files {
        let Ok(meta) = fs::metadata(&file) else { continue };
        file.hash(hasher);
        if meta.is_dir() {
            if depth < MAX_DEPTH {
                fingerprint(&file, depth + 1, hasher);
            }
        } else {
            meta.len().hash(hasher);
            meta.modified().ok().hash(hasher);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn scan(root: &Path) -> Scan {
        Directory::new(root, Alias::champion()).scan().unwrap()
    }

    fn only(scan: &Scan) -> &DesiredModel {
        assert_eq!(scan.desired.models.len(), 1, "{scan:?}");
        scan.desired.models.values().next().unwrap()
    }

    fn v(number: u64) -> Version {
        Version::new(number).unwrap()
    }

    #[test]
    fn without_aliases_the_greatest_version_serves() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["m/2/MLmodel", "m/10/MLmodel", "m/1/MLmodel", "m/.incoming/MLmodel", "m/draft/x", "README.md"] {
            put(dir.path(), file, "");
        }
        let scan = scan(dir.path());
        let model = only(&scan);
        assert_eq!(model.fallback.keys().copied().collect::<Vec<_>>(), [v(1), v(2)]);
        assert_eq!(model.versions.keys().copied().collect::<Vec<_>>(), [v(10)]);
        assert_eq!((model.default, model.aliases.len()), (Some(v(10)), 0));
        assert_eq!(scan.problems, [""; 0]);
    }

    #[test]
    fn aliases_choose_the_versions_and_champion_is_the_default() {
        let dir = tempfile::tempdir().unwrap();
        for version in 1..=3 {
            put(dir.path(), &format!("m/{version}/MLmodel"), "");
        }
        put(dir.path(), "m/aliases.yaml", "champion: 1\nchallenger: 3\nold: 9\n");
        let scan = scan(dir.path());
        let model = only(&scan);
        assert_eq!(model.versions.keys().copied().collect::<Vec<_>>(), [v(1), v(3)]);
        assert_eq!(model.default, Some(v(1)));
        assert_eq!(model.aliases[&"challenger".parse().unwrap()], v(3));
        assert_eq!(model.aliases[&"old".parse().unwrap()], v(9), "still wanted, so nothing is let go for a typo");
        assert!(scan.problems[0].contains("points old at version 9, which has no folder"), "{:?}", scan.problems);
    }

    #[test]
    fn aliases_without_a_champion_are_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "m/1/MLmodel", "");
        for text in ["challenger: 1\n", "{}\n"] {
            put(dir.path(), "m/aliases.yaml", text);
            let scan = scan(dir.path());
            assert_eq!(only(&scan).default, None);
            assert!(scan.problems[0].contains("has no champion"), "{:?}", scan.problems);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_a_problem_and_hides_only_its_model() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "good/1/MLmodel", "");
        for (model, text) in [("a", "champion: zero"), ("b", "v1: 1"), ("c", "champion: 0"), ("d", "[1, 2]")] {
            put(dir.path(), &format!("{model}/1/MLmodel"), "");
            put(dir.path(), &format!("{model}/aliases.yaml"), text);
        }
        put(dir.path(), "bad:name/1/MLmodel", "");
        let scan = scan(dir.path());
        assert_eq!(only(&scan).default, Some(v(1)));
        assert_eq!(scan.problems.len(), 5, "{:?}", scan.problems);
        assert!(scan.problems.iter().any(|p| p.contains("bad:name")));
    }

    #[cfg(unix)]
    #[test]
    fn trouble_with_a_folder_is_not_a_deleted_folder() {
        let dir = tempfile::tempdir().unwrap();
        for version in 1..=2 {
            put(dir.path(), &format!("m/{version}/MLmodel"), "");
        }
        // A link to itself cannot be followed: an error, but not "not found".
        std::os::unix::fs::symlink(dir.path().join("m/3"), dir.path().join("m/3")).unwrap();
        let scan = scan(dir.path());
        assert!(scan.desired.models.is_empty(), "{scan:?}");
        assert_eq!(scan.problems.len(), 1);
    }

    #[test]
    fn a_missing_root_says_what_to_set() {
        let error = Directory::new("/nowhere/at/all", Alias::champion()).scan().unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all") && error.contains("registry.path"), "{error}");
    }

    #[test]
    fn the_revision_follows_the_files() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "m/1/model.onnx", "a");
        let before = revision(&dir.path().join("m/1"));
        assert_eq!(before, revision(&dir.path().join("m/1")));
        put(dir.path(), "m/1/vocab/x.jsonl", "longer");
        assert_ne!(before, revision(&dir.path().join("m/1")));
    }
}
