//! The house rules: who may use whom, where gRPC codes may be named, how long a file may be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::repository;

/// Each crate and the crates of this workspace that it may use. Anything else is forbidden.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("aibuyer-domain", &[]),
    ("aibuyer-features", &["aibuyer-domain"]),
    ("aibuyer-registry", &["aibuyer-domain"]),
    ("aibuyer-loader", &["aibuyer-domain", "aibuyer-proto"]),
    ("aibuyer-proto", &["aibuyer-domain"]),
    ("aibuyer-loadtest", &["aibuyer-proto"]),
    (
        "aibuyer-server",
        &[
            "aibuyer-domain",
            "aibuyer-features",
            "aibuyer-registry",
            "aibuyer-loader",
            "aibuyer-proto",
            "aibuyer-loadtest",
        ],
    ),
];

/// Of these, what serves tests and benchmarks only: the load generator must never travel with the server, and the loader
/// knows no messages.
const IN_TESTS_ONLY: [(&str, &str); 2] = [("aibuyer-server", "aibuyer-loadtest"), ("aibuyer-loader", "aibuyer-proto")];

/// What crates must never need: runtimes, sockets, clocks, randomness; the registry only blocks.
const MUST_NOT_USE: [(&str, &[&str]); 2] = [
    ("aibuyer-domain", &["tokio", "tonic", "tracing", "rand", "ort", "reqwest"]),
    ("aibuyer-registry", &["tokio", "tonic"]),
];

/// Text that must not stand in a folder's sources, and why.
const BANNED: [(&str, &str, &str); 8] = [
    ("domain/src", "std::fs", "the domain does no IO"),
    ("domain/src", "std::net", "the domain does no IO"),
    ("domain/src", "::now(", "time is an argument in the domain"),
    ("server/src", "tonic::Code", "only status.rs names gRPC codes"),
    ("server/src", " Code::", "only status.rs names gRPC codes"),
    ("server/src", "(Code::", "only status.rs names gRPC codes"),
    ("server/src", "Status::internal", "only status.rs makes a status"),
    ("server/src", "Status::new", "only status.rs makes a status"),
];

#[test]
fn crates_use_only_the_crates_they_may() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(repository())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), MAY_USE.len(), "a crate without a rule: add it to MAY_USE and ARCHITECTURE.md");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = MAY_USE.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no rule for {name}"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            assert!(!used.starts_with("aibuyer-") || allowed.contains(&used), "{name} must not use {used}");
            let in_tests_only = IN_TESTS_ONLY.contains(&(name, used));
            assert!(!in_tests_only || dependency["kind"] == "dev", "{name} may use {used} in tests only");
            let banned = MUST_NOT_USE.iter().any(|(crate_, names)| *crate_ == name && names.contains(&used));
            assert!(!banned || dependency["kind"] == "dev", "{name} must not use {used}");
        }
    }
}

/// Every Rust and Python file of the repository.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') || ["target", "out", "__pycache__"].contains(&name.as_str());
        if path.is_dir() && !hidden {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "py") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_is_longer_than_500_lines_or_does_what_its_room_must_not() {
    let root = repository();
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 40, "the walk found only {} files", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines: it has become two ideas");
        for (folder, text_banned, why) in BANNED {
            let allowed = !name.starts_with(folder) || name == "server/src/status.rs";
            assert!(allowed || !text.contains(text_banned), "{name} has `{text_banned}`: {why}");
        }
    }
}
