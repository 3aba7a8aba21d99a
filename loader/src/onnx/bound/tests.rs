//! Bound sessions on the CPU give what plain ones give.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use half::{bf16, f16};

use super::*;
use crate::{
    onnx::{self, OnnxRuntime},
    session::{ModelFiles, Runtime as _},
};

fn repository(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file)
}

/// One a process, as ONNX Runtime wants it.
fn runtime() -> &'static OnnxRuntime {
    static RUNTIME: OnceLock<OnnxRuntime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        std::env::set_current_dir(repository("")).unwrap();
        let configured = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
        OnnxRuntime::start(&onnx::find(None, configured.as_deref(), None).unwrap()).unwrap()
    })
}

/// Rows that differ, of small numbers: ids are in range and everything is finite.
fn batch(signature: &Signature, rows: usize, seed: usize) -> Vec<Tensor> {
    let tensor = |info: &TensorInfo| {
        let shape = shape(info, rows).unwrap();
        let small = (0..shape.iter().product()).map(|i: usize| u8::try_from((i * 7 + seed) % 5).unwrap());
        let elements = match info.dtype.as_str() {
            "float32" => Elements::F32(small.map(f32::from).collect()),
            "float64" => Elements::F64(small.map(f64::from).collect()),
            "int32" => Elements::I32(small.map(i32::from).collect()),
            "int64" => Elements::I64(small.map(i64::from).collect()),
            "float16" => Elements::F16(small.map(f16::from).collect()),
            "bfloat16" => Elements::BF16(small.map(bf16::from).collect()),
            "string" => {
                Elements::Text(small.map(|x| ["", "cat", "dög", "x", "é"][usize::from(x)].to_owned()).collect())
            }
            other => panic!("{other}"),
        };
        Tensor { shape, elements }
    };
    signature.inputs.iter().map(tensor).collect()
}

/// The CPU's memory in the place of the device's.
#[derive(Default)]
struct Machine {
    abandoned: Arc<AtomicBool>,
}

fn copy(from: &DynTensor, to: &mut DynTensor) -> ort::Result<()> {
    each!(
        &tensor(from)?.elements,
        values => to.try_extract_tensor_mut()?.1.copy_from_slice(values),
        _ => return Err(ort::Error::new("text"))
    );
    Ok(())
}

impl Copies for Machine {
    fn enter(&self) -> ort::Result<()> {
        Ok(())
    }

    fn to_device(&self, host: &DynTensor, device: &mut DynTensor) -> ort::Result<()> {
        copy(host, device)
    }

    fn to_host(&self, device: &DynTensor, host: &mut DynTensor) -> ort::Result<()> {
        copy(device, host)
    }

    fn finish(&self) -> ort::Result<()> {
        Ok(())
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

fn buffers() -> Option<Buffers> {
    Some(Buffers { host: Allocator::default(), device: Allocator::default() })
}

/// A session on a model of this repository.
fn session(model: &str, buffers: Option<Buffers>, placement: Placement) -> BoundSession {
    let model = fs::read(repository(model)).unwrap();
    let session = runtime().builder().unwrap().commit_from_memory(&model).unwrap();
    BoundSession::new(Box::new(Machine::default()), session, buffers, placement).unwrap()
}

#[test]
fn buffers_that_are_used_again_give_what_a_plain_session_gives() {
    let small = ["rows", "small", "words"].map(|name| format!("server/tests/models/{name}.onnx"));
    for model in ["models/ctr-upworthy/1/model.onnx".to_owned()].into_iter().chain(small) {
        // Texts have no buffers.
        let bindings = |buffers: bool| if buffers && !model.contains("words") { 7 } else { 0 };
        let files = ModelFiles::from(fs::read(repository(&model)).unwrap());
        let mut plain = runtime().open(&files, 1, &|| true).unwrap().remove(0);
        for buffers in [None, buffers()] {
            let bound_ones = bindings(buffers.is_some());
            let mut bound = session(&model, buffers, Placement::default());
            assert_eq!(bound.signature(), plain.signature());
            // Every bucket often enough to be bound, and in turns, so that one's values cannot pass for another's.
            for seed in 0..4 {
                for rows in [1, 2, 4, 8, 16, 32, 64] {
                    let inputs = batch(&bound.signature, rows, seed);
                    assert_eq!(bound.run(&inputs).unwrap(), plain.run(&inputs).unwrap(), "{rows} {seed}");
                }
            }
            assert_eq!(bound.bindings.values().flatten().count(), bound_ones);
        }
    }
}

#[test]
fn sizes_that_have_buffers_are_bounded_and_what_cannot_be_bound_runs_or_fails_as_it_would() {
    let mut bound = session("server/tests/models/rows.onnx", buffers(), Placement::default());
    for rows in (1..100).chain(1..100) {
        let inputs = batch(&bound.signature, rows, rows);
        assert_eq!(bound.run(&inputs).unwrap()[0].rows(), rows);
    }
    assert_eq!(bound.bindings.values().flatten().count(), MOST);
    let mut wrong = batch(&bound.signature, 1, 0);
    wrong[0] = wrong[1].clone();
    assert!(bound.run(&wrong).is_err());
}

#[test]
fn a_model_that_cannot_be_recorded_goes_on_without_graphs_and_says_so() {
    let graphs = || Placement { graphs: true, ..Placement::default() };
    let mut bound = session("server/tests/models/rows.onnx", buffers(), graphs());
    let abandoned = Arc::new(AtomicBool::new(false));
    bound.copies = Box::new(Machine { abandoned: Arc::clone(&abandoned) });
    bound.without_graphs(&ort::Error::new("a node stayed on the CPU"));
    assert!(abandoned.load(Ordering::Relaxed), "else the stream goes on recording");
    assert_eq!(bound.placement().to_string(), "cpu: no CUDA graphs for this model: a node stayed on the CPU");
    let inputs = batch(&bound.signature, 2, 0);
    assert!(bound.run(&inputs).is_ok() && bound.run(&inputs).is_ok());

    let bound = session("server/tests/models/words.onnx", buffers(), graphs());
    assert_eq!(bound.placement().to_string(), "cpu: no CUDA graphs for models of strings");
    assert!(!onnx::wait_closed(std::time::Duration::ZERO), "sessions are open");
}
