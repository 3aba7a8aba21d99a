//! The machine and the code that figures belong to.

use std::{fs, process::Command};

use serde::Serialize;

/// What a reader must know to compare figures.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: Option<u64>,
    /// The operating system and its version.
    pub system: String,
    /// The commit of the current folder, and whether files differ from it.
    pub commit: Option<String>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = field(&memory, "MemTotal").and_then(|v| v.split(' ').next()?.parse::<u64>().ok());
        Self {
            cpu: field(&info, "model name").map_or_else(|| std::env::consts::ARCH.to_owned(), str::to_owned),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: total.map(|kib| (kib + (1 << 19)) >> 20),
            system: said("uname", &["-sr"]).unwrap_or_else(|| std::env::consts::OS.to_owned()),
            commit: commit(),
        }
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let memory = self.memory_gib.map(|gib| format!(", {gib} GiB")).unwrap_or_default();
        let commit = self.commit.as_ref().map(|c| format!(", commit {c}")).unwrap_or_default();
        format!("{}, {} cores{memory}, {}{commit}", self.cpu, self.cores, self.system)
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().filter_map(|l| l.split_once(':')).find(|(n, _)| n.trim() == name).map(|(_, v)| v.trim())
}

fn commit() -> Option<String> {
    let commit = said("git", &["rev-parse", "--short", "HEAD"])?;
    // Recorded figures are no change of the code.
    let rest = [":(top)", ":(top,exclude)loadtest/results"];
    let same = Command::new("git").args(["diff", "--quiet", "HEAD", "--"]).args(rest).status().ok()?;
    Some(if same.success() { commit } else { format!("{commit} with changes") })
}

/// The first line that a command prints.
fn said(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned).filter(|line| output.status.success() && !line.is_empty())
}
