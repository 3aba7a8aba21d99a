//! Encodes a numeric feature: a raw number into a dense value or a bucket's row.

use super::{
    column::{Gaps, Values},
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
    /// Fills a dense column at once; false, and anything in the cells, if a row has no number that they can take: row by row
    /// tells which.
    pub(super) fn fill<'a>(
        &self,
        values: Option<Values>,
        gaps: &Gaps,
        cells: impl ExactSizeIterator<Item = &'a mut f32>,
        numbers: &mut Vec<f64>,
    ) -> bool {
        numbers.clear();
        let rows = cells.len();
        self.each(values, gaps, rows, |_, raw| numbers.extend(raw));
        let set = |(cell, x): (&mut f32, &f64)| transform::to_f32(*x, *x).map(|x| *cell = x).is_ok();
        numbers.len() == rows
            && transform::apply_all(&self.transforms, numbers)
            && cells.zip(&*numbers).fold(true, |all, cell| all & set(cell))
    }

    /// Each row's number before any transform: the default where it is missing, `None` where there is none. `values` have an
    /// entry a row; in `gaps` it says nothing.
    #[allow(clippy::cast_precision_loss)] // counts beyond 2^53 lose nothing that float32 would keep
    pub(super) fn each(
        &self,
        values: Option<Values>,
        gaps: &Gaps,
        rows: usize,
        mut take: impl FnMut(usize, Option<f64>),
    ) {
        let mut each = |value: &dyn Fn(usize) -> Option<f64>| {
            for row in 0..rows {
                let raw = if gaps.contains(row) { None } else { value(row) };
                take(row, raw.or(self.default));
            }
        };
        match values {
            Some(Values::Doubles(v)) => each(&|row| Some(v[row])),
            Some(Values::Int64s(v)) => each(&|row| Some(v[row] as f64)),
            Some(Values::Bools(v)) => each(&|row| Some(f64::from(u8::from(v[row])))),
            _ => each(&|_| None),
        }
    }

    /// A dense input.
    pub(super) fn dense(&self, raw: Option<f64>) -> Result<f32, String> {
        let raw = self.required(raw)?.ok_or("has no value, and the model has no default for it")?;
        transform::apply(&self.transforms, raw)
            .and_then(|x| transform::to_f32(x, raw))
            .map_err(|e: ValueError| e.to_string())
    }

    /// A bucket's row.
    pub(super) fn bucket(&self, raw: Option<f64>, boundaries: &[f64]) -> Result<u32, String> {
        let Some(raw) = self.required(raw)? else {
            return Ok(ROW_MISSING);
        };
        let x = transform::apply(&self.transforms, raw).map_err(|e| e.to_string())?;
        let bucket = boundaries.partition_point(|b| *b <= x);
        Ok(ROW_FIRST + u32::try_from(bucket).unwrap_or(u32::MAX))
    }

    fn required(&self, raw: Option<f64>) -> Result<Option<f64>, String> {
        match raw {
            None if self.missing == MissingPolicy::Reject => Err("has no value, and the model requires one".to_owned()),
            raw => Ok(raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn transforms() -> impl Strategy<Value = Vec<Transform>> {
        let one = prop_oneof![
            (-9.0..0.0, 0.0..9.0).prop_map(|(min, max)| Transform::Clip { min, max }),
            Just(Transform::Log1p {}),
            (-9.0..9.0, 0.1..9.0).prop_map(|(mean, std)| Transform::Standardize { mean, std }),
        ];
        vec(one, 0..4)
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![20 => -1.0..99.0, 1 => any::<f64>(), 1 => Just(-0.0), 1 => Just(1e300)]
    }

    proptest! {
        #[test]
        fn all_at_once_is_each_by_itself(
            transforms in transforms(),
            default in proptest::option::of(-1.0..9.0),
            required in any::<bool>(),
            rows in vec((number(), prop::bool::weighted(0.1)), 0..6),
        ) {
            let missing = if required { MissingPolicy::Reject } else { MissingPolicy::Row0 };
            let number = Number { default, missing, transforms: transforms.into() };
            let (values, missing): (Vec<f64>, Vec<bool>) = rows.iter().copied().unzip();
            let missing: Vec<u32> = (0..).zip(missing).filter_map(|(row, missing)| missing.then_some(row)).collect();
            let (values, gaps) = (Some(Values::Doubles(&values)), Gaps::new(&missing, rows.len()));
            let mut each = Vec::new();
            number.each(values, &gaps, rows.len(), |_, raw| each.push(number.dense(raw)));
            let mut all = vec![7.0; rows.len()];
            let good = number.fill(values, &gaps, all.iter_mut(), &mut vec![7.0]);
            prop_assert_eq!(good, each.iter().all(Result::is_ok));
            if good {
                let bits = |x: f32| x.to_bits();
                prop_assert_eq!(
                    all.into_iter().map(bits).collect::<Vec<_>>(),
                    each.into_iter().flatten().map(bits).collect::<Vec<_>>()
                );
            }
        }
    }
}
