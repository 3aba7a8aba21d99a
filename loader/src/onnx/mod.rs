//! ONNX Runtime: finding its shared library, and sessions on it.
//!
//! The library is loaded when the engine starts, not linked: the same binary runs with the CPU build and
//! with the CUDA build, whose provider is tried before anything is loaded on it. Scheduling and batching are not
//! here: a session runs what its lane gives it, on the lane's own thread.

mod bound;
mod cuda;
mod device;
mod library;
mod open;
mod proto;
pub mod scan;
mod session;
mod weights;

pub use device::{DeviceError, DeviceOptions};
pub use library::{FindError, find};
pub use open::wait_closed;
pub use session::{OnnxRuntime, StartError};
