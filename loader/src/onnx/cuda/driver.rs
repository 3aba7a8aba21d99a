//! What ONNX Runtime does not offer of CUDA: a stream of one's own with copies on it, and threads that record graphs
//! while others work.
//!
//! The driver's library, whose interface is stable, is loaded when the first session is opened on a GPU.
//! Functions: CUDA Driver API, <https://docs.nvidia.com/cuda/cuda-driver-api/>.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    ptr,
    sync::OnceLock,
};

use libloading::Library;
use ort::value::DynTensor;

use super::super::bound::Copies;

const LIBRARY: &str = "libcuda.so.1";

type Context = *mut c_void;
type RawStream = *mut c_void;
type Graph = *mut c_void;
type DevicePointer = u64;
type Status = c_int;

/// `CU_STREAM_NON_BLOCKING`: waits for nothing but itself.
const NON_BLOCKING: c_uint = 1;
/// `CU_STREAM_CAPTURE_MODE_RELAXED`: recording forbids nothing, neither other threads' nor this one's own, where ONNX
/// Runtime may have to take more memory on the way.
const RELAXED: c_int = 2;

/// Loads functions by name; the types are those of `cuda.h`.
macro_rules! functions {
    ($($field:ident = $symbol:literal ($($argument:ty),*);)*) => {
        struct Driver {
            $($field: unsafe extern "C" fn($($argument),*) -> Status,)*
            // Functions are the library's: it stays.
            _library: Library,
        }

        impl Driver {
            fn load() -> Result<Self, libloading::Error> {
                // SAFETY: the driver's library does nothing when it is loaded but set itself up.
                let library = unsafe { Library::new(LIBRARY) }?;
                // SAFETY: these are the functions' types in `cuda.h`, the versions that their names say.
                unsafe {
                    $(let $field = *library.get($symbol)?;)*
                    Ok(Self { $($field,)* _library: library })
                }
            }
        }
    };
}

functions! {
    init = b"cuInit" (c_uint);
    error = b"cuGetErrorString" (Status, *mut *const c_char);
    device = b"cuDeviceGet" (*mut c_int, c_int);
    primary_context = b"cuDevicePrimaryCtxRetain" (*mut Context, c_int);
    use_context = b"cuCtxSetCurrent" (Context);
    capture_mode = b"cuThreadExchangeStreamCaptureMode" (*mut c_int);
    create_stream = b"cuStreamCreate" (*mut RawStream, c_uint);
    destroy_stream = b"cuStreamDestroy_v2" (RawStream);
    synchronize = b"cuStreamSynchronize" (RawStream);
    end_capture = b"cuStreamEndCapture" (RawStream, *mut Graph);
    destroy_graph = b"cuGraphDestroy" (Graph);
    copy_to_device = b"cuMemcpyHtoDAsync_v2" (DevicePointer, *const c_void, usize, RawStream);
    copy_to_host = b"cuMemcpyDtoHAsync_v2" (*mut c_void, DevicePointer, usize, RawStream);
}

impl Driver {
    fn get() -> ort::Result<&'static Self> {
        static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
        let load = || {
            let driver = Self::load().map_err(|e| e.to_string())?;
            // SAFETY: the first call of all; 0 is the one value that flags may have.
            let status = unsafe { (driver.init)(0) };
            driver.check("cuInit", status).map_err(|e| e.to_string())?;
            Ok(driver)
        };
        DRIVER.get_or_init(load).as_ref().map_err(|reason| ort::Error::new(format!("{LIBRARY}: {reason}")))
    }

    fn check(&self, call: &str, status: Status) -> ort::Result<()> {
        if status == 0 {
            return Ok(());
        }
        let mut text = ptr::null();
        // SAFETY: the pointer is written, to a text that is never freed or to null.
        let words = unsafe {
            (self.error)(status, &raw mut text);
            if text.is_null() { c"unknown" } else { CStr::from_ptr(text) }
        };
        Err(ort::Error::new(format!("{call} failed: {} ({status})", words.to_string_lossy())))
    }
}

/// A stream of a GPU: what is put there happens in order.
pub(super) struct Stream {
    driver: &'static Driver,
    context: Context,
    stream: RawStream,
}

// SAFETY: the driver's handles may be used by any thread that has made the context its own, as `enter` does.
unsafe impl Send for Stream {}

impl Stream {
    pub(super) fn new(id: u16) -> ort::Result<Self> {
        let driver = Driver::get()?;
        let (mut device, mut context) = (0, ptr::null_mut());
        // SAFETY: both pointers are written. The context is the one that ONNX Runtime uses, and never given back.
        unsafe {
            driver.check("cuDeviceGet", (driver.device)(&raw mut device, id.into()))?;
            driver.check("cuDevicePrimaryCtxRetain", (driver.primary_context)(&raw mut context, device))?;
        }
        let mut stream = Self { driver, context, stream: ptr::null_mut() };
        stream.enter()?;
        // SAFETY: the pointer is written; the context is current.
        let status = unsafe { (driver.create_stream)(&raw mut stream.stream, NON_BLOCKING) };
        driver.check("cuStreamCreate", status)?;
        Ok(stream)
    }

    /// For ONNX Runtime. It must not be used after this stream is dropped.
    pub(super) fn raw(&self) -> *mut () {
        self.stream.cast()
    }
}

impl Copies for Stream {
    fn enter(&self) -> ort::Result<()> {
        thread_local! {
            static CURRENT: Cell<Context> = const { Cell::new(ptr::null_mut()) };
        }
        if CURRENT.get() == self.context {
            return Ok(());
        }
        let mut mode = RELAXED;
        // SAFETY: the context lives as long as the process; the mode is read and written.
        unsafe {
            self.driver.check("cuCtxSetCurrent", (self.driver.use_context)(self.context))?;
            let status = (self.driver.capture_mode)(&raw mut mode);
            self.driver.check("cuThreadExchangeStreamCaptureMode", status)?;
        }
        CURRENT.set(self.context);
        Ok(())
    }

    fn to_device(&self, host: &DynTensor, device: &mut DynTensor) -> ort::Result<()> {
        let bytes = bytes(host, device)?;
        // SAFETY: both tensors have so many bytes. They outlive the copy: callers `finish` before they let go of either.
        let status = unsafe {
            (self.driver.copy_to_device)(device.data_ptr_mut() as DevicePointer, host.data_ptr(), bytes, self.stream)
        };
        self.driver.check("cuMemcpyHtoDAsync", status)
    }

    fn to_host(&self, device: &DynTensor, host: &mut DynTensor) -> ort::Result<()> {
        let bytes = bytes(device, host)?;
        // SAFETY: as above.
        let status = unsafe {
            (self.driver.copy_to_host)(host.data_ptr_mut(), device.data_ptr() as DevicePointer, bytes, self.stream)
        };
        self.driver.check("cuMemcpyDtoHAsync", status)
    }

    fn finish(&self) -> ort::Result<()> {
        // SAFETY: the stream is alive.
        self.driver.check("cuStreamSynchronize", unsafe { (self.driver.synchronize)(self.stream) })
    }

    fn abandon(&self) {
        let mut graph = ptr::null_mut();
        // SAFETY: the pointer is written, to null where nothing was being recorded or the recording had failed.
        unsafe {
            (self.driver.end_capture)(self.stream, &raw mut graph);
            if !graph.is_null() {
                (self.driver.destroy_graph)(graph);
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.stream.is_null() && self.enter().is_ok() {
            // SAFETY: nobody has it any more.
            unsafe { (self.driver.destroy_stream)(self.stream) };
        }
    }
}

/// The size of both, which are tensors of one type and shape.
fn bytes(from: &DynTensor, to: &DynTensor) -> ort::Result<usize> {
    let size = from.data_type().byte_size(from.shape().num_elements());
    size.filter(|_| from.data_type() == to.data_type() && from.shape() == to.shape())
        .ok_or_else(|| ort::Error::new(format!("{} cannot be copied to {}", from.dtype(), to.dtype())))
}
