//! A real ClickHouse, started as a child process by `scripts/clickhouse.py`.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long it may take to listen: usually well below a second, but the machine may be busy.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A running server with a folder of its own.
pub(crate) struct Engine {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Engine {
    /// A server for one test; `None`, and a line that says so, where `make clickhouse` has not run.
    pub(crate) fn start() -> Option<Self> {
        let python = repository().join(".venv-clickhouse/bin/python");
        if !python.exists() {
            eprintln!("skipped: there is no ClickHouse here, run `make clickhouse`");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (child, port) = spawn(folder.path(), 0);
        Some(Self { child, folder, port })
    }

    /// The server that the tests of this process share; each works in a database of its own.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(engine) = shared.upgrade() {
            return Some(engine);
        }
        let engine = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&engine);
        Some(engine)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Runs one statement; the answer as tab-separated text, or the server's message.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let path = format!("/?database={database}");
        let (status, body) = http(self.port, &path, sql).ok_or("the server cannot be reached")?;
        if status == 200 { Ok(body) } else { Err(body) }
    }

    /// Ends it at once, as a crash would.
    #[allow(dead_code)] // not every test binary kills it
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port with the same tables.
    #[allow(dead_code)]
    pub(crate) fn restart(&mut self) {
        (self.child, self.port) = spawn(self.folder.path(), self.port);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Starts a server on the port, 0 for any, and waits until it answers.
pub(crate) fn spawn(folder: &Path, port: u16) -> (Child, u16) {
    let port_file = folder.join("port");
    let _ = fs::remove_file(&port_file);
    let mut child = Command::new(repository().join(".venv-clickhouse/bin/python"))
        .arg(repository().join("scripts/clickhouse.py"))
        .arg(folder)
        .args(["--port", &port.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    loop {
        let port = fs::read_to_string(&port_file).unwrap_or_default();
        // Whole once its line has ended.
        if let Some(port) = port.strip_suffix('\n')
            && http(port.parse().unwrap(), "/", "SELECT 1").is_some_and(|(status, _)| status == 200)
        {
            return (child, port.parse().unwrap());
        }
        if let Some(status) = child.try_wait().unwrap() {
            panic!("ClickHouse ended before it listened: {status}");
        }
        assert!(started.elapsed() < STARTS_WITHIN, "ClickHouse does not listen");
        thread::sleep(Duration::from_millis(10)); // another process: nothing to wait on but its file
    }
}

/// Status and body of a POST; `None` where nobody answers.
fn http(port: u16, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
