//! What the process holds, for the log: an unloaded version's memory must come back.

use std::fs;

/// Resident memory in kB; `None` where the system does not tell.
pub(crate) fn resident_kb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
