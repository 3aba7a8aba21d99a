//! Lanes and batches of a device, where the configuration does not say.

use std::time::Duration;

use aibuyer_loader::{ManagerOptions, batch::BatchLimits, device::Device};

use crate::config::Config;

/// Beyond this a CPU gains little by batching.
const CPU_ROWS: usize = 64;
/// Where requests wait in any case, they wait less for larger batches.
const CPU_MOST_ROWS: usize = 128;
/// A GPU's launches and copies cost the same for thousands of rows; what a request needs of latency is seen to by
/// the batcher, which runs what waits.
const GPU_ROWS: usize = 4096;
/// One copies while the other computes. Each has its copy of the weights.
const GPU_LANES: usize = 2;

/// How versions are loaded on a device.
#[must_use]
pub fn options(config: &Config, device: Device) -> ManagerOptions {
    let or = |set: usize, otherwise: usize| if set == 0 { otherwise } else { set };
    let gpu = matches!(device, Device::Cuda(_));
    let (lanes, preferred, most) =
        if gpu { (GPU_LANES, GPU_ROWS, GPU_ROWS) } else { (config.cores, CPU_ROWS, CPU_MOST_ROWS) };
    let limits = BatchLimits {
        max_batch_rows: or(config.max_batch_rows, most),
        preferred_batch_rows: or(config.max_batch_rows, preferred),
        queue_rows: config.queue_rows,
        // A GPU's sessions stay on their lanes' threads.
        inline: if gpu { Duration::ZERO } else { config.inline_limit },
        // A size that a GPU has not seen is slow, and has neither buffers nor a graph.
        padded: gpu,
    };
    ManagerOptions { lanes: or(config.lanes, lanes), limits, keep_warm: config.keep_warm, gate: config.gate }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Raw, Sources};

    #[test]
    fn what_is_not_set_follows_from_the_device_and_what_is_set_stays() {
        let gpu = Device::Cuda(1);
        let inline = Duration::from_micros(200);
        for (flags, device, lanes, (preferred, most), inline, padded) in [
            ("", Device::Cpu, 8, (64, 128), inline, false),
            ("", gpu, 2, (4096, 4096), Duration::ZERO, true),
            ("batching.lanes=3", Device::Cpu, 3, (64, 128), inline, false),
            ("batching.lanes=3", gpu, 3, (4096, 4096), Duration::ZERO, true),
            ("batching.max_batch_rows=100", Device::Cpu, 8, (100, 100), inline, false),
            ("batching.max_batch_rows=100", gpu, 2, (100, 100), Duration::ZERO, true),
            ("batching.inline_limit=1s", gpu, 2, (4096, 4096), Duration::ZERO, true),
        ] {
            let flags = flags.split_whitespace().map(str::to_owned).collect();
            let config = Config::new(&Raw::read(&Sources { flags, ..Sources::default() }).unwrap(), 8).unwrap();
            let limits = BatchLimits {
                max_batch_rows: most,
                preferred_batch_rows: preferred,
                queue_rows: 16_384,
                inline,
                padded,
            };
            let got = options(&config, device);
            assert_eq!((got.lanes, got.limits), (lanes, limits), "{device}");
        }
    }
}
