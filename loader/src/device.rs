//! Where sessions run: what was asked for, and what came of it.

use std::{fmt, str::FromStr};

/// A processor that sessions run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor that everything else runs on.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this number, as CUDA counts them.
    Cuda(u16),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(id) => write!(f, "cuda:{id}"),
        }
    }
}

/// The device that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU where it can be used, else the CPU.
    #[default]
    Auto,
    /// This one or none.
    Only(Device),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let cuda = |id: &str| id.parse().ok().map(|id| Self::Only(Device::Cuda(id)));
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Only(Device::Cpu)),
            // Digits alone: `parse` would take a sign.
            other => other
                .strip_prefix("cuda:")
                .filter(|id| id.bytes().all(|b| b.is_ascii_digit()))
                .and_then(cuda)
                .ok_or_else(|| {
                    "needs \"auto\", \"cpu\" or \"cuda:N\", such as \"cuda:0\" for the first GPU".to_owned()
                }),
        }
    }
}

/// How a GPU is given a batch and its results are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CudaRun {
    /// Buffers of each bucket stay where they are, and its kernels are launched as one recorded CUDA graph.
    #[default]
    Graphs,
    /// Buffers of each bucket in pinned memory, bound for every run.
    Bound,
    /// As on the CPU.
    Plain,
}

/// Where something runs, and why there and so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// Whether runs are replayed as CUDA graphs.
    pub graphs: bool,
    /// Why not otherwise, for people; empty where it is as was asked.
    pub reason: String,
}

impl fmt::Display for Placement {
    /// `cuda:0 with CUDA graphs`, `cpu: the reason`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graphs = if self.graphs { " with CUDA graphs" } else { "" };
        let colon = if self.reason.is_empty() { "" } else { ": " };
        write!(f, "{}{graphs}{colon}{}", self.device, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_and_anything_else_refused() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Only(Device::Cpu)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Only(Device::Cuda(3))));
        for text in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:70000", "CPU", "rocm:0"] {
            let refused: Result<DeviceChoice, String> = text.parse();
            assert!(refused.is_err_and(|e| e.contains("cuda:0")), "{text}");
        }
    }

    #[test]
    fn a_placement_says_what_it_is_and_why() {
        let plain = Placement { reason: "no GPU".to_owned(), ..Placement::default() };
        assert_eq!(plain.to_string(), "cpu: no GPU");
        let graphs = Placement { device: Device::Cuda(1), graphs: true, reason: String::new() };
        assert_eq!(graphs.to_string(), "cuda:1 with CUDA graphs");
    }
}
