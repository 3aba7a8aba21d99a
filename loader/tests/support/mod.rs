//! What tests with the real ONNX Runtime share.

use std::{path::PathBuf, sync::OnceLock};

use aibuyer_loader::onnx::{self, OnnxRuntime};

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// One a process, as ONNX Runtime wants it.
pub(crate) fn runtime() -> &'static OnnxRuntime {
    static RUNTIME: OnceLock<OnnxRuntime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        std::env::set_current_dir(repository()).unwrap();
        let configured = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
        let library = onnx::find(None, configured.as_deref(), None).unwrap_or_else(|e| panic!("{e}"));
        OnnxRuntime::start(&library).unwrap_or_else(|e| panic!("{e}"))
    })
}

/// A field of a protobuf message: bytes, text or a message.
pub(crate) fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag << 3 | 2];
    let mut length = content.len();
    while length > 0x7F {
        bytes.push(u8::try_from(length & 0x7F).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend(content);
    bytes
}

/// A field of a protobuf message: a small number.
pub(crate) fn number(tag: u8, value: u8) -> Vec<u8> {
    vec![tag << 3, value]
}

/// What makes of a model file one with an additional initializer, of ten float32 that lie in another file: put after
/// a protobuf message, it is merged with it.
pub(crate) fn elsewhere(location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let tensor =
        [number(1, 10), number(2, 1), field(8, b"elsewhere"), entry("location", location), number(14, 1)].concat();
    field(7, &field(5, &tensor))
}
