//! The evaluator against Prophet's own answers: cases in `testdata/prophet` always, those of a corpus in the folder
//! that `AIBUYER_PROPHET_CASES` names, or in `../shared/prophet`, where there is one.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod prophet;

use std::{fs, path::PathBuf};

use prophet::{Case, corpora};

/// Every case of every corpus that is here; fails with the cases that fail.
fn each(name: &str, check: impl Fn(&Case) -> Result<(), String>) {
    let (mut failures, mut count) = (Vec::new(), 0);
    for corpus in corpora() {
        for case in prophet::cases(&corpus) {
            count += 1;
            if let Err(reason) = check(&case) {
                failures.push(format!("{}: {reason}", case.name));
            }
        }
    }
    eprintln!("{name}: {} of {count} cases pass", count - failures.len());
    assert!(count > 0 && failures.is_empty(), "{name}:\n{}", failures.join("\n"));
}

#[test]
fn point_forecasts_and_components_are_prophets() {
    each("exact columns", Case::check_exact);
}

#[test]
fn exact_intervals_lie_in_the_tight_bands() {
    each("exact intervals", Case::check_exact_intervals);
}

#[test]
fn simulated_intervals_lie_in_the_bands() {
    each("simulated intervals", Case::check_simulated_intervals);
}

#[test]
fn laws_agree_with_quantiles() {
    each("laws", Case::check_laws);
}

#[test]
fn frames_that_prophet_refuses_are_refused() {
    for corpus in corpora() {
        let path = corpus.join("edge_cases.json");
        if let Ok(text) = fs::read_to_string(&path) {
            prophet::check_edge_cases(&corpus, &text);
        }
    }
}

#[test]
fn a_model_folder_of_mlflow_is_read() {
    for corpus in corpora() {
        let Ok(text) = fs::read_to_string(corpus.join("mlflow/model.pr")) else { continue };
        prophet::case(&corpus.join("cases/regressors")).with_model(&text).check_exact().unwrap();
    }
}

#[test]
fn golden_forecasts_beside_model_files_are_reproduced() {
    let folders =
        [prophet::shared("mlflow/prophet"), PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/prophet/golden")];
    for folder in folders {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut count = 0;
        for entry in entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("model.pr").exists()) {
            prophet::check_golden(&entry);
            count += 1;
        }
        eprintln!("golden: {count} of {count} in {}", folder.display());
    }
}
