//! Finds ONNX Runtime's shared library.

use std::path::{Path, PathBuf};

/// Version of ONNX Runtime that the engine is built and tested with.
pub(super) const VERSION: &str = "1.31.1";

/// Where `make` puts the library, seen from the repository's root.
const DOWNLOADED: &str = ".cache/onnxruntime";

/// The library is nowhere; says where it was looked for and what to do.
#[derive(Debug, thiserror::Error)]
#[error(
    "ONNX Runtime's shared library was not found. Looked for:\n{}\
     Run `make onnxruntime` to download it, or set onnxruntime.library (AIBUYER_ONNXRUNTIME__LIBRARY) to the \
     path of {}.",
    listed(.looked),
    file_names()[0]
)]
pub struct FindError {
    looked: Vec<(PathBuf, &'static str)>,
}

fn listed(looked: &[(PathBuf, &'static str)]) -> String {
    looked.iter().map(|(path, why)| format!("  {} ({why})\n", path.display())).collect()
}

/// Names the library goes by, the exact version first.
fn file_names() -> [String; 2] {
    if cfg!(target_os = "macos") {
        [format!("libonnxruntime.{VERSION}.dylib"), "libonnxruntime.dylib".to_owned()]
    } else {
        [format!("libonnxruntime.so.{VERSION}"), "libonnxruntime.so".to_owned()]
    }
}

/// Finds the library: the configured path alone if there is one, else `environment` (`ORT_DYLIB_PATH`, which
/// other users of ONNX Runtime know), else beside the binary, else where `make` downloads it.
///
/// # Errors
/// [`FindError`] lists every place that was tried.
pub fn find(
    configured: Option<&Path>,
    environment: Option<&Path>,
    binary: Option<&Path>,
) -> Result<PathBuf, FindError> {
    find_in(configured, environment, binary, &|path| path.is_file())
}

fn find_in(
    configured: Option<&Path>,
    environment: Option<&Path>,
    binary: Option<&Path>,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<PathBuf, FindError> {
    let mut places: Vec<(PathBuf, &'static str)> = Vec::new();
    if let Some(path) = configured {
        places.push((path.to_owned(), "onnxruntime.library"));
    } else if let Some(path) = environment {
        places.push((path.to_owned(), "ORT_DYLIB_PATH"));
    } else {
        let folders = [
            binary.and_then(Path::parent).map(|p| (p.to_owned(), "beside the binary")),
            binary.and_then(Path::parent).and_then(Path::parent).map(|p| (p.join("lib"), "lib beside bin")),
            Some((PathBuf::from(DOWNLOADED), "downloaded by make")),
        ];
        for (folder, why) in folders.into_iter().flatten() {
            places.extend(file_names().map(|name| (folder.join(name), why)));
        }
    }
    match places.iter().find(|(path, _)| exists(path)) {
        Some((path, _)) => Ok(path.clone()),
        None => Err(FindError { looked: places }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_tried_in_order() {
        let [exact, plain] = file_names();
        let binary = Path::new("/opt/aibuyer/bin/aibuyer-server");
        let found = |present: &str, configured: Option<&str>, environment: Option<&str>| {
            let exists = |path: &Path| path == Path::new(present);
            find_in(configured.map(Path::new), environment.map(Path::new), Some(binary), &exists)
        };
        assert_eq!(found("/a", Some("/a"), Some("/b")).unwrap(), Path::new("/a"));
        assert_eq!(found("/b", None, Some("/b")).unwrap(), Path::new("/b"));
        let beside = format!("/opt/aibuyer/bin/{exact}");
        assert_eq!(found(&beside, None, None).unwrap(), Path::new(&beside));
        let lib = format!("/opt/aibuyer/lib/{plain}");
        assert_eq!(found(&lib, None, None).unwrap(), Path::new(&lib));
        let downloaded = format!("{DOWNLOADED}/{exact}");
        assert_eq!(found(&downloaded, None, None).unwrap(), Path::new(&downloaded));
    }

    #[test]
    fn a_configured_path_that_is_wrong_is_not_papered_over() {
        let exists = |path: &Path| path != Path::new("/wrong");
        let error = find_in(Some(Path::new("/wrong")), Some(Path::new("/b")), None, &exists).unwrap_err().to_string();
        assert!(error.contains("/wrong (onnxruntime.library)") && error.contains("make onnxruntime"), "{error}");
        assert!(!error.contains("/b"), "{error}");
    }
}
