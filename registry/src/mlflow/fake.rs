//! An MLflow server for unit tests: answers as recorded from MLflow 3.18, and misbehaves when told to.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// Folder of the one version's artifacts.
pub(crate) const ROOT: &str = "1/models/m-7/artifacts";

/// What the server has and how it behaves.
#[derive(Clone)]
pub(crate) struct State {
    /// Files of the version, by path.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Aliases of the model `ctr`, where there is one.
    pub(crate) aliases: Option<Vec<(String, u64)>>,
    pub(crate) uri: String,
    pub(crate) status: String,
    pub(crate) tags: Vec<(String, String)>,
    /// A file's body ends after so many bytes, so many times.
    pub(crate) cut: Option<(String, usize, usize)>,
    /// A file's bytes come one by one.
    pub(crate) slow: Option<String>,
    /// Half of a file's body comes and then nothing, so many times.
    pub(crate) stalled: Option<(String, usize)>,
    /// Whether ranges and tags are known, as on a local disk; else as before an object store.
    pub(crate) ranges: bool,
    /// Answer to every call in place of the true one; with status 0 there is none.
    pub(crate) answer: Option<(u16, String)>,
    /// Listed beside the true files.
    pub(crate) listed: Vec<Value>,
    /// A file that is there from its second listing on.
    pub(crate) late: Option<String>,
    /// Requests so far: method, path and headers of interest.
    pub(crate) log: Vec<String>,
}

impl Default for State {
    fn default() -> Self {
        let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
        Self {
            files: [file("MLmodel", b"flavors:\n"), file("model.onnx", &[7; 5000]), file("vocab/h.jsonl", b"{}\n")]
                .into(),
            aliases: Some(vec![("champion".to_owned(), 2)]),
            uri: format!("mlflow-artifacts:/{ROOT}"),
            status: "READY".to_owned(),
            tags: vec![],
            cut: None,
            slow: None,
            stalled: None,
            ranges: true,
            answer: None,
            listed: vec![],
            late: None,
            log: vec![],
        }
    }
}

/// The running server.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Fake {
    pub(crate) fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    let _ = serve(stream, &state);
                });
            }
        });
        Self { url, state }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let found = head.iter().find_map(|line| line.to_lowercase().starts_with(name).then(|| line.clone()));
        found.and_then(|line| line.split_once(": ").map(|(_, value)| value.to_owned()))
    };
    let target = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = path.trim_start_matches("/api/2.0/").to_owned();
    let range = header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let mut noted = format!("{path}?{query}");
    for name in ["authorization", "x-mlflow-workspace", "range"] {
        if let Some(value) = header(name) {
            noted = format!("{noted} {name}={value}");
        }
    }
    let state = {
        let mut state = state.lock().unwrap();
        state.log.push(noted);
        let copy = state.clone();
        if let Some((file, _, times)) = &mut state.cut
            && path.ends_with(file.as_str())
        {
            *times = times.saturating_sub(1);
        }
        if let Some((file, times)) = &mut state.stalled
            && path.ends_with(file.as_str())
        {
            *times = times.saturating_sub(1);
        }
        copy
    };
    if let Some((status, body)) = &state.answer {
        if *status == 0 {
            return Ok(());
        }
        return reply(&mut stream, *status, "", body.as_bytes());
    }
    match path.strip_prefix("mlflow-artifacts/artifacts/") {
        Some(file) => download(&mut stream, &state, file, range, header("if-range").as_deref()),
        None => {
            let (status, body) = metadata(&state, &path, query);
            reply(&mut stream, status, "", body.to_string().as_bytes())
        }
    }
}

fn metadata(state: &State, path: &str, query: &str) -> (u16, Value) {
    let missing =
        |what: &str| (404, json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": format!("{what} not found")}));
    match path {
        "mlflow/registered-models/search" => match &state.aliases {
            None => (200, json!({})),
            Some(aliases) => {
                let alias = |(alias, version): &(String, u64)| json!({"alias": alias, "version": version.to_string()});
                let aliases: Vec<Value> = aliases.iter().map(alias).collect();
                let model = json!({"name": "ctr", "creation_timestamp": 1_795_329_907_749u64, "aliases": aliases,
                                   "some_field_of_the_future": 1});
                (200, json!({"registered_models": [model]}))
            }
        },
        "mlflow/model-versions/get" if state.aliases.is_none() => missing("Registered Model"),
        "mlflow/model-versions/get" => {
            let tags: Vec<Value> = state.tags.iter().map(|(k, v)| json!({"key": k, "value": v})).collect();
            let version = json!({"name": "ctr", "version": "2", "creation_timestamp": 1_795_329_909_260u64,
                                 "status": state.status, "tags": tags});
            (200, json!({"model_version": version}))
        }
        "mlflow/model-versions/get-download-uri" => (200, json!({"artifact_uri": state.uri})),
        "mlflow/runs/get" => (200, json!({"run": {"info": {"artifact_uri": "mlflow-artifacts:/1/models/m-7"}}})),
        "mlflow-artifacts/artifacts" => {
            let folder = query.replace("%2F", "/").replace("path=", "");
            let inner = folder.strip_prefix(ROOT).unwrap_or("?").trim_start_matches('/');
            let mut files: Vec<Value> = if inner.is_empty() { state.listed.clone() } else { vec![] };
            let mut folders: Vec<&str> = vec![];
            let seen = state.log.iter().filter(|line| line.starts_with("mlflow-artifacts/artifacts?")).count() > 1;
            for (path, content) in &state.files {
                if state.late.as_ref() == Some(path) && !seen {
                    continue;
                }
                let rest = if inner.is_empty() { Some(path.as_str()) } else { path.strip_prefix(&format!("{inner}/")) };
                match rest.map(|rest| rest.split_once('/').map_or((rest, false), |(folder, _)| (folder, true))) {
                    Some((folder, true)) if !folders.contains(&folder) => {
                        folders.push(folder);
                        files.push(json!({"path": folder, "is_dir": true}));
                    }
                    Some((name, false)) => {
                        files.push(json!({"path": name, "is_dir": false, "file_size": content.len()}));
                    }
                    _ => {}
                }
            }
            (200, if files.is_empty() { json!({}) } else { json!({"files": files}) })
        }
        _ => missing(path),
    }
}

fn download(
    stream: &mut TcpStream,
    state: &State,
    path: &str,
    range: Option<usize>,
    if_range: Option<&str>,
) -> std::io::Result<()> {
    let file = path.strip_prefix(&format!("{ROOT}/")).unwrap_or(path);
    let Some(content) = state.files.get(file) else { return reply(stream, 404, "", b"{}") };
    let etag = format!("\"{}-{}\"", content.len(), content.first().copied().unwrap_or_default());
    let from = range.filter(|from| state.ranges && *from < content.len() && if_range == Some(etag.as_str()));
    let body = &content[from.unwrap_or(0)..];
    let status = if from.is_some() { "206 Partial Content" } else { "200 OK" };
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if state.ranges {
        head.push_str(&format!("etag: {etag}\r\n"));
    }
    if let Some(from) = from {
        head.push_str(&format!("content-range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if state.slow.as_deref() == Some(file) {
        for byte in body {
            stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(5));
        }
        return Ok(());
    }
    if state.stalled.as_ref().is_some_and(|(stalled, times)| stalled == file && *times > 0) {
        stream.write_all(&body[..body.len() / 2])?;
        // Until the process ends, or the other side.
        return std::io::copy(stream, &mut std::io::sink()).map(drop);
    }
    match &state.cut {
        Some((cut, after, times)) if cut == file && *times > 0 => stream.write_all(&body[..(*after).min(body.len())]),
        _ => stream.write_all(body),
    }
}

fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
