//! What `scripts/clickhouse.py` promises to tests and demos.

use crate::engine::{Engine, spawn};

#[test]
fn tables_survive_a_kill() {
    let Some(mut engine) = Engine::start() else { return };
    engine.sql("system", "CREATE DATABASE kept").unwrap();
    engine.sql("kept", "CREATE TABLE t (x UInt32) ENGINE = MergeTree ORDER BY x").unwrap();
    engine.sql("kept", "INSERT INTO t VALUES (1), (2)").unwrap();
    engine.kill();
    assert!(engine.sql("kept", "SELECT 1").is_err());
    engine.restart();
    assert_eq!(engine.sql("kept", "SELECT sum(x) FROM t").unwrap(), "3\n");
    let error = engine.sql("kept", "SELECT * FROM none").unwrap_err();
    assert!(error.contains("UNKNOWN_TABLE"), "{error}");
}

#[test]
fn it_ends_when_its_input_closes() {
    let Some(engine) = Engine::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut child, port) = spawn(folder.path(), 0);
    assert_ne!(engine.url(), format!("http://127.0.0.1:{port}"), "two run side by side");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
