//! Batches on disk: what ClickHouse did not take, until it does.
//!
//! A file a batch, named by its token, which starts with the batch's place in the order. It is written under another name,
//! synced and renamed, so that a crash leaves whole batches only; a length and a checksum tell one that was damaged later.
//! What cannot be sent is renamed, not deleted, and still counts against the limit.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::counters::{Counters, Reason};

/// Ending of a batch that waits.
const WAITING: &str = "rows";
/// First word of each file, with the version of what follows.
const MAGIC: &str = "aibuyer-prediction-log-1";

/// Rows that are inserted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// The same whenever they are sent.
    pub(super) token: String,
    pub(super) rows: usize,
    pub(super) bytes: Bytes,
}

impl Batch {
    /// The token of a process's batch: as text, tokens sort by sequence.
    pub(super) fn token(sequence: u64, run: u64) -> String {
        format!("{sequence:012}-{run:016x}")
    }
}

/// What is on disk. Read by the metrics, too.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Oldest first.
    waiting: VecDeque<Kept>,
    /// Bytes of what was set aside.
    pub(super) aside: u64,
}

#[derive(Debug, Clone)]
struct Kept {
    token: String,
    rows: u64,
    bytes: u64,
}

impl Shelf {
    pub(super) fn rows(&self) -> u64 {
        self.waiting.iter().map(|kept| kept.rows).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.waiting.iter().map(|kept| kept.bytes).sum()
    }
}

/// The folder.
#[derive(Debug)]
pub(super) struct Spill {
    folder: PathBuf,
    limit: u64,
    shelf: Arc<Mutex<Shelf>>,
    next: u64,
}

impl Spill {
    /// Finds what an earlier process left. A folder that cannot be read is as good as empty, and the log says so.
    pub(super) fn open(folder: &Path, limit: u64) -> Self {
        let mut spill = Self { folder: folder.to_owned(), limit, shelf: Arc::default(), next: 0 };
        if let Err(error) = spill.find() {
            tracing::warn!(
                folder = %folder.display(), %error,
                "prediction log: what was left on disk cannot be read; set storage.path to a folder that can"
            );
        }
        spill
    }

    fn find(&mut self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut tokens = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let (token, ending) = name.split_once('.').unwrap_or((&name, ""));
            if token.is_empty() {
                // What a crash cut short; its rows were not acknowledged by anybody.
                fs::remove_file(entry.path())?;
                continue;
            }
            let sequence = token.split('-').next().and_then(|digits| digits.parse::<u64>().ok());
            self.next = self.next.max(sequence.map_or(0, |sequence| sequence + 1));
            if ending == WAITING && sequence.is_some() {
                tokens.push(token.to_owned());
            } else {
                self.lock().aside += entry.metadata()?.len();
            }
        }
        tokens.sort_unstable();
        for token in tokens {
            let path = self.path(&token, WAITING);
            let bytes = fs::metadata(&path)?.len();
            let head = File::open(&path).and_then(|file| Head::read(&mut BufReader::new(file)));
            // A head that is no head is told when the batch's turn comes.
            let rows = head.map_or(0, |head| head.rows);
            self.lock().waiting.push_back(Kept { token, rows: rows as u64, bytes });
        }
        let (rows, batches) = (self.rows(), self.len());
        if batches > 0 {
            tracing::info!(rows, batches, "prediction log: an earlier process left rows on disk; they are sent now");
        }
        Ok(())
    }

    pub(super) fn shelf(&self) -> Arc<Mutex<Shelf>> {
        Arc::clone(&self.shelf)
    }

    /// The number of the next batch: greater than that of any on disk.
    pub(super) fn sequence(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    pub(super) fn rows(&self) -> u64 {
        self.lock().rows()
    }

    /// Puts a batch by, after all others. `false` where there is no room for it.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn put(&self, batch: &Batch) -> io::Result<bool> {
        let head = Head { rows: batch.rows, length: batch.bytes.len(), checksum: xxh3_64(&batch.bytes) }.line();
        let bytes = (head.len() + batch.bytes.len()) as u64;
        {
            let shelf = self.lock();
            if shelf.bytes() + shelf.aside + bytes > self.limit {
                return Ok(false);
            }
        }
        fs::create_dir_all(&self.folder)?;
        let aside = self.path("", &batch.token);
        // Names of accounts and, if asked for, features: for the engine's own user.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(head.as_bytes())?;
        file.write_all(&batch.bytes)?;
        file.sync_all()?;
        fs::rename(&aside, self.path(&batch.token, WAITING))?;
        File::open(&self.folder)?.sync_all()?;
        self.lock().waiting.push_back(Kept { token: batch.token.clone(), rows: batch.rows as u64, bytes });
        Ok(true)
    }

    /// The oldest batch, or the newest. One that cannot be read is set aside, and the next one taken.
    pub(super) fn get(&self, newest: bool, counters: &Counters) -> Option<Batch> {
        loop {
            let kept = {
                let shelf = self.lock();
                if newest { shelf.waiting.back() } else { shelf.waiting.front() }.cloned()
            }?;
            match self.read(&kept.token) {
                Ok(batch) => return Some(batch),
                Err(error) => {
                    counters.drop_rows(Reason::Unreadable, usize::try_from(kept.rows).unwrap_or(usize::MAX));
                    self.set_aside(&kept.token, "unreadable", &error.to_string());
                }
            }
        }
    }

    fn read(&self, token: &str) -> io::Result<Batch> {
        let mut file = BufReader::new(File::open(self.path(token, WAITING))?);
        let Head { rows, length, checksum } = Head::read(&mut file)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.len() != length || xxh3_64(&bytes) != checksum {
            return Err(damaged("its length or checksum is not what its first line says"));
        }
        Ok(Batch { token: token.to_owned(), rows, bytes: bytes.into() })
    }

    /// Takes a batch off the disk: it is written.
    pub(super) fn remove(&self, token: &str) {
        self.lock().waiting.retain(|kept| kept.token != token);
        if let Err(error) = fs::remove_file(self.path(token, WAITING)) {
            // Sent once more by the next process, and then known by its token.
            tracing::warn!(token, %error, "prediction log: a batch that was written cannot be removed from the disk");
        }
    }

    /// Takes a batch out of the order, but leaves it on disk.
    pub(super) fn set_aside(&self, token: &str, ending: &str, reason: &str) {
        let mut shelf = self.lock();
        shelf.aside += shelf.waiting.iter().filter(|kept| kept.token == token).map(|kept| kept.bytes).sum::<u64>();
        shelf.waiting.retain(|kept| kept.token != token);
        drop(shelf);
        let path = self.path(token, ending);
        if let Err(error) = fs::rename(self.path(token, WAITING), &path) {
            tracing::warn!(token, %error, "prediction log: a batch cannot be set aside");
        }
        tracing::error!(
            file = %path.display(), reason,
            "prediction log: a batch is set aside; delete the file, or mend what is wrong, rename it to .{WAITING} and restart"
        );
    }

    fn path(&self, token: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{token}.{ending}"))
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first line of a file.
struct Head {
    rows: usize,
    length: usize,
    checksum: u64,
}

impl Head {
    fn line(&self) -> String {
        format!("{MAGIC} {} {} {:016x}\n", self.rows, self.length, self.checksum)
    }

    fn read(file: &mut impl io::BufRead) -> io::Result<Self> {
        const LONGEST: u64 = 200;
        let mut line = String::new();
        file.by_ref().take(LONGEST).read_line(&mut line)?;
        let parse = || {
            let mut words = line.strip_suffix('\n')?.split(' ');
            (words.next()? == MAGIC).then_some(())?;
            let (rows, length) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(Self { rows, length, checksum: u64::from_str_radix(words.next()?, 16).ok()? })
        };
        parse().ok_or_else(|| damaged("its first line is not that of a batch"))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
