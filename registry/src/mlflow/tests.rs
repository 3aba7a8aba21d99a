//! The client against a server that misbehaves in the ways that were seen.

use std::{collections::BTreeMap, fs, path::Path};

use sha2::{Digest as _, Sha256};

use super::{
    fake::{Fake, ROOT, State},
    *,
};

fn options(url: &str, root: &Path) -> MlflowOptions {
    MlflowOptions {
        connection: Connection { url: url.to_owned(), ..Connection::default() },
        models: Models::Named(vec!["ctr".parse().unwrap()]),
        aliases: vec![],
        default_alias: Alias::champion(),
        store: StoreOptions { root: root.to_owned(), keep: 3, max_bytes: 1 << 20 },
        fetch_timeout: Duration::from_secs(20),
        require_manifest: false,
    }
}

fn id(version: u64) -> ServableId {
    ServableId { name: "ctr".parse().unwrap(), version: Version::new(version).unwrap() }
}

/// A server in this state, and a client with its store.
fn with(state: State) -> (Fake, Mlflow, tempfile::TempDir) {
    let fake = Fake::start(state);
    let dir = tempfile::tempdir().unwrap();
    let mlflow = Mlflow::new(options(&fake.url, dir.path())).unwrap();
    (fake, mlflow, dir)
}

fn fetch(mlflow: &Mlflow) -> Result<PathBuf, String> {
    mlflow.fetch(&id(2), &|| true).map_err(|e| e.to_string())
}

fn refused(state: State) -> String {
    let (_fake, mlflow, _dir) = with(state);
    fetch(&mlflow).unwrap_err()
}

#[test]
fn aliases_are_what_is_desired() {
    let aliases = [("champion", 2), ("next", 3), ("v7", 1)].map(|(a, v)| (a.to_owned(), v)).to_vec();
    let (_fake, mut mlflow, _dir) = with(State { aliases: Some(aliases), ..State::default() });
    let scan = mlflow.scan().unwrap();
    let model = &scan.desired.models["ctr"];
    assert_eq!(model.default, Version::new(2));
    assert_eq!(model.versions.keys().map(|v| v.get()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(scan.problems, ["ctr: alias \"v7\" of version \"1\" is not one of MLflow's"]);
    mlflow.aliases = vec!["other".parse().unwrap()];
    let scan = mlflow.scan().unwrap();
    assert_eq!(scan.desired.models["ctr"].versions.len(), 1, "the default alias is always served");
}

#[test]
fn one_model_is_asked_for_alone_and_the_others_stand() {
    let (fake, mut mlflow, _dir) = with(State::default());
    mlflow.models = Models::Named(vec!["ctr".parse().unwrap(), "other".parse().unwrap()]);
    let all = mlflow.scan().unwrap();
    assert_eq!(all.problems.len(), 1, "{:?}", all.problems);
    fake.state.lock().unwrap().aliases = Some(vec![("champion".to_owned(), 9)]);
    let one = mlflow.scan_model("ctr", &all).unwrap();
    assert_eq!(one.desired.models["ctr"].default, Version::new(9));
    assert_eq!((&one.problems, one.desired.models.len()), (&all.problems, 2));
    assert!(fake.log().last().unwrap().contains("filter=name%20%3D%20%27ctr%27"), "{:?}", fake.log());
    let asked = fake.log().len();
    assert_eq!(mlflow.scan_model("nobody's", &all).unwrap(), all);
    assert_eq!(fake.log().len(), asked, "nobody wants it");
    // It is gone: what is said of it is about now, and said once.
    fake.state.lock().unwrap().aliases = None;
    let gone = mlflow.scan_model("ctr", &one).unwrap();
    assert_eq!(mlflow.scan_model("ctr", &gone).unwrap(), gone);
    assert_eq!((gone.problems.len(), &gone.desired.models["ctr"]), (2, &DesiredModel::default()));
    mlflow.models = Models::Filter("tags.serve = 'true'".to_owned());
    assert_eq!(mlflow.scan_model("ctr", &one).unwrap().desired.models.len(), 1, "no longer found");
    assert!(
        fake.log().last().unwrap().contains("tags.serve%20%3D%20%27true%27%20AND%20name%20%3D"),
        "{:?}",
        fake.log()
    );
}

#[test]
fn a_model_that_is_not_there_is_a_problem_and_takes_nothing_away() {
    let (_fake, mut mlflow, _dir) = with(State { aliases: None, ..State::default() });
    let scan = mlflow.scan().unwrap();
    assert_eq!(scan.desired.models["ctr"], DesiredModel::default());
    assert!(scan.problems[0].contains("may not read it"), "{:?}", scan.problems);
    let error = fetch(&mlflow).unwrap_err();
    assert!(error.contains("was it deleted from the registry?"), "{error}");
}

#[test]
fn a_version_is_fetched_once_and_found_on_disk_when_the_server_is_away() {
    let (fake, mlflow, dir) = with(State::default());
    let files = fetch(&mlflow).unwrap();
    assert_eq!(fs::read(files.join("model.onnx")).unwrap(), [7; 5000]);
    assert_eq!(fs::read(files.join("vocab/h.jsonl")).unwrap(), b"{}\n");
    let before = fake.log().len();
    assert_eq!(fetch(&mlflow).unwrap(), files);
    assert_eq!(fake.log().len(), before + 2, "only the version is asked for, not its files");
    // An outage in each of its forms.
    let outages = [
        (503, "<html>down</html>"),
        (404, "<html>no such host here</html>"),
        (302, ""),
        (200, "<html>log in</html>"),
        (500, r#"{"error_code":"INTERNAL_ERROR","message":"db"}"#),
        (403, r#"{"error_code":"PERMISSION_DENIED","message":"no"}"#),
        (401, "no"),
    ];
    for answer in outages {
        fake.state.lock().unwrap().answer = Some((answer.0, answer.1.to_owned()));
        assert_eq!(fetch(&mlflow).unwrap(), files, "{answer:?}");
    }
    let nobody = Mlflow::new(options("http://127.0.0.1:1", dir.path())).unwrap();
    assert_eq!(fetch(&nobody).unwrap(), files);
    // Who did not answer is not waited for again while the files are here.
    fake.state.lock().unwrap().answer = Some((0, String::new()));
    assert_eq!(fetch(&mlflow).unwrap(), files);
    let asked = fake.log().len();
    assert_eq!((fetch(&mlflow).unwrap(), fake.log().len()), (files.clone(), asked));
    assert!(nobody.fetch(&id(3), &|| true).unwrap_err().to_string().contains("cannot be reached"));
    fs::write(files.join("MLmodel"), b"flavours:\n").unwrap();
    assert!(fetch(&nobody).is_err(), "damaged on disk");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_ended() {
    for (ranges, resumed) in [(true, true), (false, false)] {
        let cut = Some(("model.onnx".to_owned(), 3000, 1));
        let (fake, mlflow, _dir) = with(State { cut, ranges, ..State::default() });
        let files = fetch(&mlflow).unwrap();
        assert_eq!(fs::read(files.join("model.onnx")).unwrap(), [7; 5000]);
        assert_eq!(fake.log().iter().any(|line| line.contains("range=bytes=3000-")), resumed, "{:?}", fake.log());
    }
}

#[test]
fn a_later_fetch_resumes_an_earlier_one_unless_the_file_has_changed() {
    let cut = Some(("model.onnx".to_owned(), 1000, usize::MAX));
    let (fake, mlflow, _dir) = with(State { cut, ..State::default() });
    let error = fetch(&mlflow).unwrap_err();
    assert!(error.contains("model.onnx ended after"), "{error}");
    {
        let mut state = fake.state.lock().unwrap();
        state.cut = None;
        state.files.insert("model.onnx".to_owned(), vec![8; 5000]);
    }
    let files = fetch(&mlflow).unwrap();
    assert_eq!(fs::read(files.join("model.onnx")).unwrap(), [8; 5000], "nothing of the old file is left");
}

#[test]
fn paths_sizes_and_lists_that_cannot_be_right_are_refused() {
    let entry = |path: &str| serde_json::json!({"path": path, "is_dir": false, "file_size": 1});
    for path in ["../x", "/etc/passwd", "a/../../x", "a\\b"] {
        let error = refused(State { listed: vec![entry(path)], ..State::default() });
        assert!(error.contains("not a path inside the artifact"), "{path}: {error}");
    }
    let huge = serde_json::json!({"path": "huge", "is_dir": false, "file_size": 1u64 << 40});
    assert!(refused(State { listed: vec![huge], ..State::default() }).contains("registry.max_model_bytes is 1048576"));
    let short = serde_json::json!({"path": "MLmodel", "is_dir": false, "file_size": 5});
    let mut state = State { listed: vec![short], ..State::default() };
    state.files.retain(|name, _| name == "MLmodel");
    assert!(refused(state).contains("it is being changed"));
    assert!(refused(State { files: BTreeMap::default(), ..State::default() }).contains("has no files"));
    let mut bare = State::default();
    bare.files.retain(|name, _| name != "MLmodel");
    assert!(refused(bare).contains("has no MLmodel file"));
    let late = State { late: Some("vocab/h.jsonl".to_owned()), ..State::default() };
    assert!(refused(late).contains("vocab/h.jsonl is new"));
}

#[test]
fn files_of_an_earlier_listing_are_not_part_of_the_version() {
    let late = Some("vocab/h.jsonl".to_owned());
    let (fake, mlflow, _dir) = with(State { late, ..State::default() });
    fake.state.lock().unwrap().files.insert("extra.data".to_owned(), vec![1; 10]);
    assert!(fetch(&mlflow).unwrap_err().contains("is new"));
    fake.state.lock().unwrap().files.remove("extra.data");
    let files = fetch(&mlflow).unwrap();
    assert!(files.join("vocab/h.jsonl").exists() && !files.join("extra.data").exists());
}

#[test]
fn what_mlflow_does_not_hand_out_says_what_to_configure() {
    let error = refused(State { uri: "s3://bucket/1/models/m-7/artifacts".to_owned(), ..State::default() });
    assert!(error.contains("--artifacts-destination"), "{error}");
    let error = refused(State { uri: "file:///nowhere/at/all".to_owned(), ..State::default() });
    assert!(error.contains("share that folder"), "{error}");
    let error = refused(State { status: "PENDING_REGISTRATION".to_owned(), ..State::default() });
    assert!(error.contains("status in the registry is PENDING_REGISTRATION"), "{error}");
}

#[test]
fn runs_and_local_folders_lead_to_files_too() {
    let (_fake, mlflow, _dir) = with(State { uri: "runs:/abc/artifacts".to_owned(), ..State::default() });
    assert!(fetch(&mlflow).is_ok());
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("vocab")).unwrap();
    fs::write(folder.path().join("vocab/a"), "x").unwrap();
    fs::write(folder.path().join("MLmodel"), "flavors:\n").unwrap();
    let (_fake, mlflow, _dir) = with(State { uri: format!("file://{}", folder.path().display()), ..State::default() });
    assert_eq!(fs::read(fetch(&mlflow).unwrap().join("vocab/a")).unwrap(), b"x");
    let deep = folder.path().join("1/2/3/4/5/6/7/8");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("too deep"), "x").unwrap();
    let (_fake, mlflow, _dir) = with(State { uri: format!("file://{}", folder.path().display()), ..State::default() });
    assert!(fetch(&mlflow).unwrap_err().contains("folders more than 8 deep"));
    let uri = format!("mlflow-artifacts://mlflow.example:5000/{ROOT}");
    let (_fake, mlflow, _dir) = with(State { uri, ..State::default() });
    assert!(fetch(&mlflow).is_ok());
}

#[test]
fn a_promised_digest_must_be_kept() {
    let digest = |content: &[u8]| -> String { Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect() };
    let state = State::default();
    let good: BTreeMap<&str, String> = state.files.iter().map(|(path, c)| (path.as_str(), digest(c))).collect();
    let tagged = |tag: &BTreeMap<&str, String>| State {
        tags: vec![("aibuyer.manifest".to_owned(), serde_json::to_string(tag).unwrap())],
        ..State::default()
    };
    let (_fake, mlflow, _dir) = with(tagged(&good));
    assert!(fetch(&mlflow).is_ok());
    let mut wrong = good.clone();
    wrong.insert("MLmodel", digest(b"other"));
    assert!(refused(tagged(&wrong)).contains("gives MLmodel the SHA-256"));
    let mut less = good.clone();
    less.remove("MLmodel");
    assert!(refused(tagged(&less)).contains("does not name MLmodel"));
    let mut more = good;
    more.insert("extra", String::new());
    assert!(refused(tagged(&more)).contains("names extra, which is not there"));
    // A promise that is younger than the files is held against them as well.
    let (fake, mlflow, _dir) = with(State::default());
    assert!(fetch(&mlflow).is_ok());
    fake.state.lock().unwrap().tags = tagged(&wrong).tags;
    assert!(fetch(&mlflow).unwrap_err().contains("gives MLmodel the SHA-256"));
    let (fake, _, dir) = with(State::default());
    let strict = MlflowOptions { require_manifest: true, ..options(&fake.url, dir.path()) };
    assert!(fetch(&Mlflow::new(strict).unwrap()).unwrap_err().contains("has no tag aibuyer.manifest"));
}

#[test]
fn a_download_that_never_ends_is_given_up() {
    let slow = || State { slow: Some("model.onnx".to_owned()), ..State::default() };
    let (fake, _, dir) = with(slow());
    let hurried = MlflowOptions { fetch_timeout: Duration::from_millis(300), ..options(&fake.url, dir.path()) };
    let error = fetch(&Mlflow::new(hurried).unwrap()).unwrap_err();
    assert!(error.contains("registry.fetch_timeout, 300ms: model.onnx had"), "{error}");
    // Nor is one of which nothing comes any more, nor one that nobody wants: neither waits for the other's end.
    let stalled = State { stalled: Some(("model.onnx".to_owned(), 1)), ..State::default() };
    let (fake, mut mlflow, _dir) = with(stalled);
    mlflow.fetcher.silence = Duration::from_millis(200);
    assert!(fetch(&mlflow).is_ok(), "the second go gets it all");
    assert!(fake.log().iter().any(|line| line.contains("range=bytes=2500-")), "{:?}", fake.log());
    let (fake, mlflow, _dir) = with(State { stalled: Some(("model.onnx".to_owned(), usize::MAX)), ..State::default() });
    let begun = || !fake.log().iter().any(|line| line.contains("artifacts/1/models/m-7/artifacts/model.onnx"));
    let error = mlflow.fetch(&id(2), &begun).unwrap_err().to_string();
    assert!(error.contains("another version is wanted"), "{error}");
    // Or when nobody wants it any more.
    let (fake, mlflow, _dir) = with(slow());
    let begun = || !fake.log().iter().any(|line| line.contains("artifacts/1/models/m-7/artifacts/model.onnx"));
    let error = mlflow.fetch(&id(2), &begun).unwrap_err().to_string();
    assert!(error.contains("another version is wanted"), "{error}");
}

#[test]
fn who_asks_and_where_travels_with_every_call() {
    let fake = Fake::start(State::default());
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(&format!("{}/", fake.url), dir.path());
    options.connection.credentials = Credentials::Basic { username: "ads".to_owned(), password: "pa:ss".to_owned() };
    options.connection.workspace = Some("ads".to_owned());
    let mut mlflow = Mlflow::new(options).unwrap();
    mlflow.scan().unwrap();
    fetch(&mlflow).unwrap();
    let log = fake.log();
    assert!(log.iter().all(|line| line.contains("authorization=Basic YWRzOnBhOnNz")), "{log:?}");
    assert!(log.iter().all(|line| line.contains("x-mlflow-workspace=ads")), "{log:?}");
}

#[test]
fn refusals_say_what_to_do() {
    let says = |status: u16, body: &str| {
        let answer = Some((status, body.to_owned()));
        let (_fake, mut mlflow, _dir) = with(State { answer, ..State::default() });
        mlflow.scan().unwrap_err().to_string()
    };
    assert!(says(401, "You are not authenticated").contains("MLFLOW_TRACKING_USERNAME"));
    assert!(says(403, "Invalid Host header").contains("--allowed-hosts"));
    assert!(says(404, "<!doctype html><title>404</title>").contains("is the base URL right?"));
    assert!(says(200, "<html>").contains("is the base URL right?"));
    assert!(
        says(500, r#"{"error_code":"FEATURE_DISABLED","message":"workspaces are off"}"#).contains("workspaces are off")
    );
    let dir = tempfile::tempdir().unwrap();
    let error = Mlflow::new(options("mlflow:5000", dir.path())).unwrap_err().to_string();
    assert!(error.contains("http:// or https://"), "{error}");
}
