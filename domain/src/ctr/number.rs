//! Encodes a numeric feature: a raw number into a dense value or a bucket's row.

use super::{
    column::Values,
    field::MissingPolicy,
    hash::{ROW_FIRST, ROW_MISSING},
    transform::{self, Transform, ValueError},
};

#[derive(Debug)]
pub(super) struct Number {
    pub(super) default: Option<f64>,
    pub(super) missing: MissingPolicy,
    pub(super) transforms: Box<[Transform]>,
}

impl Number {
    pub(super) fn dense(&self, values: Option<Values>, row: usize) -> Result<f32, String> {
        let raw = self.raw(values, row)?.ok_or("has no value, and the model has no default for it")?;
        transform::apply(&self.transforms, raw)
            .and_then(|x| transform::to_f32(x, raw))
            .map_err(|e: ValueError| e.to_string())
    }

    pub(super) fn bucket(&self, values: Option<Values>, row: usize, boundaries: &[f64]) -> Result<u32, String> {
        let Some(raw) = self.raw(values, row)? else {
            return Ok(ROW_MISSING);
        };
        let x = transform::apply(&self.transforms, raw).map_err(|e| e.to_string())?;
        let bucket = boundaries.partition_point(|b| *b <= x);
        Ok(ROW_FIRST + u32::try_from(bucket).unwrap_or(u32::MAX))
    }

    /// The value before any transform; the default where it is missing, `None` where there is none.
    #[allow(clippy::cast_precision_loss)] // counts beyond 2^53 lose nothing that float32 would keep
    fn raw(&self, values: Option<Values>, row: usize) -> Result<Option<f64>, String> {
        let raw = match values {
            Some(Values::Doubles(v)) => Some(v[row]),
            Some(Values::Int64s(v)) => Some(v[row] as f64),
            Some(Values::Bools(v)) => Some(f64::from(u8::from(v[row]))),
            _ => self.default,
        };
        match raw {
            None if self.missing == MissingPolicy::Reject => Err("has no value, and the model requires one".to_owned()),
            raw => Ok(raw),
        }
    }
}
