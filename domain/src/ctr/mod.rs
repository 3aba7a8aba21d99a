//! Click-through-rate models: from named feature values to tensors, and from logits to probabilities.
//!
//! [`spec`] reads and checks `feature_spec.json`; [`Encoder`] is built from it and the model's vocabulary
//! files and turns request columns into [`Rows`]; [`estimate`] reads a model's output. [`golden`] holds
//! worked examples that ship with a model, so that the encoder and the session are checked against what
//! the trainer saw. Opening files and running models is the loader's work.
//!
//! The contract in prose is `docs/model-contract.md`.

mod assemble;
mod calibration;
mod categorical;
mod column;
mod encoder;
mod field;
pub mod golden;
pub mod hash;
mod interval;
mod number;
mod profile;
mod sheet;
pub mod spec;
pub mod stored;
mod strings;
mod transform;
mod vocabulary;

pub use assemble::{Assembler, SplitTensor};
pub use calibration::Calibration;
pub use column::{Column, OwnedColumn, Values};
pub use encoder::{EncodeError, Encoder, Violation};
pub use field::{FieldSpec, LogPolicy, Smoothed, Source};
pub use interval::{Estimate, Level, LevelError, estimate};
pub use profile::{FieldProfile, Profile, text_digest};
pub use sheet::{Cause, Encoded, Rejected, Rows};
pub use spec::{FeatureSpec, SpecError};
pub use strings::{StringArray, StringSlice};
pub use vocabulary::{Vocabulary, VocabularyError};
