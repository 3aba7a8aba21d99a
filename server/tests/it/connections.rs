//! What connections must bear, frame by frame (RFC 9113).

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Models, start};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

/// The header block of a call, in HPACK without its tables' memory.
fn call() -> Vec<u8> {
    let path = b"/aibuyer.serving.v1.CtrService/PredictCtr";
    // POST and http stand in the static table; `:path` is a name of it.
    [&[0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()], path.as_slice()].concat()
}

#[tokio::test]
async fn callers_that_give_up_in_numbers_do_not_lose_their_connection() {
    let models = Models::empty();
    let server = start(models.path(), &[]).await;
    let mut stream = TcpStream::connect(server.app.grpc_address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    // Five hundred calls whose deadlines pass before the server has looked at any.
    for n in 0..500 {
        bytes.extend(frame(HEADERS, END_HEADERS, 2 * n + 1, &call()));
        bytes.extend(frame(RST_STREAM, 0, 2 * n + 1, &8u32.to_be_bytes()));
    }
    bytes.extend(frame(PING, 0, 0, b"are you?"));
    stream.write_all(&bytes).await.unwrap();
    let answer = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.unwrap();
            match (head[3], head[4]) {
                (PING, ACK) => return payload,
                (GOAWAY, _) => panic!("the connection is closed: {}", String::from_utf8_lossy(&payload)),
                _ => {}
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(60), answer).await.unwrap();
    assert_eq!(answer, b"are you?");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn during_a_backlog_the_threads_that_read_requests_wait_their_turn() {
    use crate::harness::{ready, repository, two};
    let server = ready(&repository().join("models"), &[]).await;
    let _backlog = aibuyer_loader::threads::Backlog::begin();
    server.predict(two()).await.unwrap();
    let waits = |thread: std::path::PathBuf| {
        let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
        // The fields after the name: the 39th is the policy (proc(5)), 3 is SCHED_BATCH.
        let fields = stat.split_once("(grpc#").and_then(|(_, rest)| rest.split_once(") "));
        fields.is_some_and(|(_, fields)| fields.split(' ').nth(38) == Some("3"))
    };
    let threads = || std::fs::read_dir("/proc/self/task").unwrap();
    // A thread answers before it sleeps.
    while !threads().any(|thread| waits(thread.unwrap().path())) {
        tokio::task::yield_now().await;
    }
}
