//! Starts servers for tests and talks to them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use aibuyer_loader::{
    onnx::{self, OnnxRuntime},
    session::Runtime,
};
use aibuyer_proto::serving::v1::{self as pb, ctr_service_client::CtrServiceClient};
use aibuyer_server::{
    app::App,
    config::{Config, Raw, Sources},
};
use tonic::{Status, transport::Channel};

/// Name of the demo model.
pub(crate) const MODEL: &str = "ctr-upworthy";

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// ONNX Runtime's library, as `make` downloads it or the environment names it.
pub(crate) fn library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        std::env::set_current_dir(repository()).unwrap();
        let configured = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
        let found = onnx::find(None, configured.as_deref(), None).unwrap_or_else(|e| panic!("{e}"));
        found.canonicalize().unwrap()
    };
    LIBRARY.get_or_init(find).clone()
}

/// One a process, as ONNX Runtime wants it.
fn runtime(config: &Config) -> Arc<dyn Runtime> {
    static RUNTIME: OnceLock<OnnxRuntime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| OnnxRuntime::start(&library()).unwrap_or_else(|e| panic!("{e}"))).clone();
    Arc::new(runtime.with_device(config.device).unwrap())
}

/// A folder of models to change while a server watches it.
pub(crate) struct Models(tempfile::TempDir);

impl Models {
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With the demo model as version 1.
    pub(crate) fn demo() -> Self {
        let models = Self::empty();
        models.add(MODEL, 1, |_| {});
        models
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Adds the demo model under a name and version: copied aside, edited, renamed into place.
    pub(crate) fn add(&self, name: &str, version: u64, edit: impl FnOnce(&Path)) {
        let aside = self.path().join(".incoming");
        copy(&repository().join("models").join(MODEL).join("1"), &aside);
        edit(&aside);
        let model = self.path().join(name);
        fs::create_dir_all(&model).unwrap();
        fs::rename(aside, model.join(version.to_string())).unwrap();
    }

    pub(crate) fn aliases(&self, name: &str, yaml: &str) {
        let aside = self.path().join(".aliases");
        fs::write(&aside, yaml).unwrap();
        fs::rename(aside, self.path().join(name).join("aliases.yaml")).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) channel: Channel,
    _storage: tempfile::TempDir,
}

/// Starts a server on free ports; `settings` are as `--set` takes them.
pub(crate) async fn start(models: &Path, settings: &[&str]) -> Server {
    // Tests of what a restart remembers set one that outlives the server.
    let storage = tempfile::tempdir().unwrap();
    let config = config(models, storage.path(), settings);
    let app = App::start(&config, runtime(&config)).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", app.grpc_address)).unwrap().connect().await.unwrap();
    Server { app, channel, _storage: storage }
}

/// Why a server does not start.
pub(crate) async fn refused(models: &Path, settings: &[&str]) -> String {
    let storage = tempfile::tempdir().unwrap();
    let config = config(models, storage.path(), settings);
    App::start(&config, runtime(&config)).await.expect_err("it starts").to_string()
}

fn config(models: &Path, storage: &Path, settings: &[&str]) -> Config {
    let fixed = [
        format!("storage.path={}", storage.display()),
        "server.grpc_listen=127.0.0.1:0".to_owned(),
        "server.http_listen=127.0.0.1:0".to_owned(),
        "registry.poll_interval=100ms".to_owned(),
        format!("registry.path={}", models.display()),
    ];
    let flags = fixed.into_iter().chain(settings.iter().map(|s| (*s).to_owned())).collect();
    let raw = Raw::read(&Sources { flags, ..Sources::default() }).unwrap();
    Config::new(&raw, 2).unwrap()
}

/// Starts a server and waits until it is ready.
pub(crate) async fn ready(models: &Path, settings: &[&str]) -> Server {
    let server = start(models, settings).await;
    tokio::time::timeout(Duration::from_secs(60), server.app.ready()).await.expect("ready");
    server
}

impl Server {
    pub(crate) fn client(&self) -> CtrServiceClient<Channel> {
        CtrServiceClient::new(self.channel.clone()).max_encoding_message_size(64 << 20)
    }

    pub(crate) async fn predict(&self, request: pb::PredictCtrRequest) -> Result<pb::PredictCtrResponse, Status> {
        self.client().predict_ctr(request).await.map(tonic::Response::into_inner)
    }

    /// Asks until the answer pleases; the engine looks at its folder ten times a second.
    pub(crate) async fn until(
        &self,
        request: &pb::PredictCtrRequest,
        pleases: impl Fn(&Result<pb::PredictCtrResponse, Status>) -> bool,
    ) -> Result<pb::PredictCtrResponse, Status> {
        let give_up = Instant::now() + Duration::from_secs(60);
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            let answer = self.predict(request.clone()).await;
            if pleases(&answer) {
                return answer;
            }
            assert!(Instant::now() < give_up, "still {answer:?}");
            tick.tick().await;
        }
    }

    /// GET of an HTTP page: status line and body.
    pub(crate) async fn get(&self, path: &str) -> (String, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.app.http_address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }
}

/// The default version of the demo model.
pub(crate) fn selector() -> Option<pb::ModelSelector> {
    Some(pb::ModelSelector { name: MODEL.to_owned(), pick: None })
}

pub(crate) fn strings(name: &str, values: &[&str]) -> pb::Column {
    let values = values.iter().collect();
    column(name, pb::column::Values::Strings(pb::StringValues { values }))
}

pub(crate) fn doubles(name: &str, values: &[f64]) -> pb::Column {
    column(name, pb::column::Values::Doubles(pb::DoubleValues { values: values.to_vec() }))
}

pub(crate) fn int64s(name: &str, values: &[i64]) -> pb::Column {
    column(name, pb::column::Values::Int64s(pb::Int64Values { values: values.to_vec() }))
}

pub(crate) fn lists(name: &str, values: &[&[&str]]) -> pb::Column {
    let lengths = values.iter().map(|l| u32::try_from(l.len()).unwrap()).collect();
    let values = values.concat().iter().collect();
    column(name, pb::column::Values::StringLists(pb::StringListValues { values, lengths }))
}

fn column(name: &str, values: pb::column::Values) -> pb::Column {
    pb::Column { name: name.to_owned(), values: Some(values), missing: vec![] }
}

/// A good request for two candidates.
pub(crate) fn two() -> pb::PredictCtrRequest {
    pb::PredictCtrRequest {
        model: selector(),
        context: vec![strings("week", &["201303"])],
        candidates: vec![
            lists("headline", &[&["a", "dog", "learns", "to", "fly"], &["you", "wont", "believe", "this"]]),
            int64s("headline_chars", &[22, 21]),
            int64s("headline_words", &[5, 4]),
        ],
        ..Default::default()
    }
}
