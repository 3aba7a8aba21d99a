//! One file over the network, in as many goes as it takes.
//!
//! A blocking read cannot be given up, but whoever waits for it can leave: each answer is read on a thread of its own,
//! which ends with its answer, with the fetch's time, or at the first bytes that nobody takes.

use std::{
    io,
    io::Read as _,
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::{Duration, Instant},
};

use super::{
    client::{CallError, Client},
    fetch::{Bounds, FetchFailure, whole},
    listing::Listed,
};
use crate::store::{Incoming, Part};

/// Goes at one file before the fetch fails.
const GOES: u32 = 3;
/// Chunks read ahead of the disk.
const AHEAD: usize = 4;
/// How often somebody who waits asks whether to go on.
const BEAT: Duration = Duration::from_millis(100);

/// One file; each go begins where the one before ended, if the server can.
pub(super) fn download(
    client: &Client,
    root: &str,
    file: &Listed,
    incoming: &Incoming,
    bounds: &Bounds,
) -> Result<Part, FetchFailure> {
    let mut pause = Duration::from_millis(200);
    for _ in 1..GOES {
        match go(client, root, file, incoming, bounds) {
            Err(error @ FetchFailure::Short { .. }) => tracing::warn!(%error, "download goes on"),
            Err(FetchFailure::Call(error)) if error.is_outage() => tracing::warn!(%error, "download waits"),
            result => return result,
        }
        thread::sleep(pause);
        pause *= 4;
    }
    go(client, root, file, incoming, bounds)
}

fn go(client: &Client, root: &str, file: &Listed, incoming: &Incoming, bounds: &Bounds) -> Result<Part, FetchFailure> {
    // Of a file that seems whole its last byte is asked for: if that is unchanged by its tag, all is.
    let here = incoming.partial(&file.path).map(|(size, etag)| (size.min(file.size.saturating_sub(1)), etag));
    let here = here.filter(|(size, _)| *size > 0);
    let answer = Answer::ask(client, format!("{root}/{}", file.path), here.clone(), bounds);
    // Before an object store MLflow sends nothing until it has the whole file itself.
    let Head { etag, from } = match answer.next(bounds, file, 0, Duration::MAX)? {
        Some(Heard::Head(head)) => head,
        Some(Heard::Failed(error)) => return Err(error.into()),
        heard => {
            return Err(FetchFailure::Short { path: file.path.clone(), got: 0, size: file.size, cause: cause(heard) });
        }
    };
    let mut part = match here {
        Some((size, _)) if from == Some(size) => incoming.resume(&file.path, size)?,
        _ => incoming.part(&file.path, etag.as_deref())?,
    };
    let mut broken = None;
    while part.size() <= file.size {
        match answer.next(bounds, file, part.size(), bounds.silence)? {
            Some(Heard::Bytes(bytes)) => part = part.append(&bytes)?,
            Some(Heard::End) => break,
            heard => {
                broken = cause(heard);
                break;
            }
        }
    }
    // A read that the end of the time has cut off is the time's fault, not the file's.
    bounds.check(&file.path, part.size(), file.size)?;
    whole(part, file, broken)
}

/// What comes of an answer, in this order: a head or a failure, bytes, an end or a break.
enum Heard {
    Head(Head),
    Failed(CallError),
    Bytes(Vec<u8>),
    End,
    Broken(io::Error),
}

struct Head {
    /// Strong tag of the file.
    etag: Option<String>,
    /// Where a part of it begins.
    from: Option<u64>,
}

/// An answer that is being read.
struct Answer(Receiver<Heard>);

impl Answer {
    fn ask(client: &Client, path: String, here: Option<(u64, String)>, bounds: &Bounds) -> Self {
        let (tell, heard) = mpsc::sync_channel(AHEAD);
        let within = bounds.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let client = client.clone();
        // Without a thread nothing is told, which reads as silence.
        let _ = thread::Builder::new().name("download".to_owned()).spawn(move || {
            // Nobody listens any more: so be it.
            let _ = read(&client, &path, here.as_ref(), within, &tell);
        });
        Self(heard)
    }

    /// The next piece; `None` where nothing comes for so long.
    fn next(&self, bounds: &Bounds, file: &Listed, got: u64, silence: Duration) -> Result<Option<Heard>, FetchFailure> {
        let begun = Instant::now();
        loop {
            bounds.check(&file.path, got, file.size)?;
            match self.0.recv_timeout(BEAT) {
                Ok(heard) => return Ok(Some(heard)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() >= silence => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Why bytes stopped coming.
fn cause(heard: Option<Heard>) -> Option<String> {
    match heard {
        Some(Heard::Broken(error)) => Some(error.to_string()),
        None => Some("the server sends nothing more".to_owned()),
        Some(_) => None,
    }
}

fn read(
    client: &Client,
    path: &str,
    here: Option<&(u64, String)>,
    within: Duration,
    tell: &SyncSender<Heard>,
) -> Result<(), mpsc::SendError<Heard>> {
    let resume = here.map(|(size, etag)| (*size, etag.as_str()));
    let mut answer = match client.file(path, resume, within) {
        Ok(answer) => answer,
        Err(error) => return tell.send(Heard::Failed(error)),
    };
    let header = |name: &str| answer.headers().get(name)?.to_str().ok();
    let partial = answer.status().as_u16() == 206;
    let range = header("content-range").filter(|_| partial).and_then(|range| range.strip_prefix("bytes "));
    tell.send(Heard::Head(Head {
        etag: header("etag").filter(|tag| !tag.starts_with("W/")).map(str::to_owned),
        from: range.and_then(|range| range.split_once('-')?.0.parse().ok()),
    }))?;
    loop {
        let mut bytes = vec![0; 1 << 16];
        match answer.read(&mut bytes) {
            Ok(0) => return tell.send(Heard::End),
            Ok(read) => {
                bytes.truncate(read);
                tell.send(Heard::Bytes(bytes))?;
            }
            Err(error) => return tell.send(Heard::Broken(error)),
        }
    }
}
