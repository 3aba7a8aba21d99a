//! What a process uses of the machine, as Linux tells it.

use std::{fs, time::Duration};

/// Clock ticks of `/proc/<pid>/stat`: hundredths of a second on every Linux platform this runs on.
const TICK: Duration = Duration::from_millis(10);

/// Processor time and memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// User and system time of all threads: since the process started, or, after [`Usage::since`], of a while.
    pub cpu: Duration,
    /// Memory in RAM now, in bytes.
    pub resident: u64,
}

impl Usage {
    /// Of the process `pid`; nothing where there is no such process or no `/proc`.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self { cpu: cpu(&stat)?, resident: resident(&status)? })
    }

    /// Of this process.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Processor time since `earlier`, and memory now.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(earlier.cpu), ..self }
    }
}

fn cpu(stat: &str) -> Option<Duration> {
    // The name, in brackets, may hold spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_is_read_even_with_brackets_in_a_name() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(resident("VmSize:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(cpu("nonsense"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_there_and_no_process_is_not() {
        assert!(Usage::own().is_some_and(|u| u.resident > 0));
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
