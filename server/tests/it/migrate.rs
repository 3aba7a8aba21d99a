//! `aibuyer-server migrate`, on a real ClickHouse.

use std::{
    fs,
    process::{Command, Output},
};

use crate::{clickhouse::Engine, harness::repository};

fn migrate(arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aibuyer-server"));
    let Output { status, stdout, stderr } =
        command.arg("migrate").args(arguments).current_dir(repository()).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn it_says_what_it_did_and_may_be_repeated() {
    let Some(engine) = Engine::shared() else { return };
    let url = format!("clickhouse.url={}", engine.url());
    let (ok, out, err) = migrate(&["--set", &url]);
    assert!(ok, "{err}");
    for part in ["created database aibuyer\n", "applied 2 campaign_features\n", "aibuyer is at schema version 7\n"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (ok, out, err) = migrate(&["--set", &url]);
    assert!(ok, "{err}");
    assert_eq!(out, "database aibuyer is at schema version 7\n");
    engine.sql("aibuyer", "ALTER TABLE prediction_log DROP COLUMN latency_us").unwrap();
    let (ok, _, err) = migrate(&["--set", &url]);
    assert!(!ok);
    assert!(err.contains("prediction_log has no column latency_us UInt32"), "{err}");
}

#[test]
fn a_wrong_password_is_told_with_its_settings() {
    let Some(engine) = Engine::shared() else { return };
    let url = format!("clickhouse.url={}", engine.url());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "wrong\n").unwrap();
    let file = format!("clickhouse.password_file={}", file.display());
    let (ok, _, err) = migrate(&["--set", &url, "--set", "clickhouse.username=bidder", "--set", &file]);
    assert!(!ok);
    assert!(err.contains("clickhouse.password_file") && !err.contains("wrong"), "{err}");
    let (ok, _, err) = migrate(&[]);
    assert!(!ok);
    assert!(err.contains("clickhouse.url is not set"), "{err}");
}
