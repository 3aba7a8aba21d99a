//! Transforms of numeric features, in double precision; the one cast to float32 comes after the last.

use serde::Deserialize;

/// One step from a raw number to a model input.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Transform {
    /// Limits to `[min, max]`.
    Clip {
        /// Lower limit.
        min: f64,
        /// Upper limit.
        max: f64,
    },
    /// `ln(1 + x)`; a negative number is invalid.
    // With braces, so that an unknown key is an error here too.
    Log1p {},
    /// `(x - mean) / std`.
    Standardize {
        /// Subtracted.
        mean: f64,
        /// Divided by, above 0.
        std: f64,
    },
    /// Last only: makes the field categorical, with bucket = number of boundaries `<= x`.
    Bucketize {
        /// Strictly ascending.
        boundaries: Vec<f64>,
    },
}

/// A number that a transform cannot take.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("{0} is not a finite number; name the row in `missing` if it has no value")]
    NotFinite(f64),
    #[error("{} is negative, log1p needs a number of at least 0", short(*.0))]
    Negative(f64),
    #[error("{} is too large: it leaves the range of a 32-bit float", short(*.0))]
    Overflow(f64),
}

/// A number as people write it: 1e300 has no use for three hundred zeros.
fn short(x: f64) -> String {
    if x.abs() < 1e15 { x.to_string() } else { format!("{x:e}") }
}

impl Transform {
    pub(super) fn check(&self, last: bool) -> Result<(), String> {
        match self {
            Self::Clip { min, max } if min.is_finite() && max.is_finite() && min <= max => Ok(()),
            Self::Clip { .. } => Err("clip needs finite min <= max".to_owned()),
            Self::Log1p {} => Ok(()),
            Self::Standardize { mean, std } if mean.is_finite() && std.is_finite() && *std > 0.0 => Ok(()),
            Self::Standardize { .. } => Err("standardize needs a finite mean and a finite std above 0".to_owned()),
            Self::Bucketize { .. } if !last => Err("bucketize must be the last transform".to_owned()),
            Self::Bucketize { boundaries } => {
                let ascending = boundaries.windows(2).all(|w| w[0] < w[1]);
                if ascending && !boundaries.is_empty() && boundaries.iter().all(|b| b.is_finite()) {
                    Ok(())
                } else {
                    Err("bucketize needs finite, strictly ascending boundaries".to_owned())
                }
            }
        }
    }

    /// Applies it to finite numbers; false if it cannot take one of them. Without an early end, so that the processor has
    /// several in hand.
    #[inline]
    fn step(&self, numbers: &mut [f64]) -> bool {
        match self {
            Self::Clip { min, max } => numbers.iter_mut().for_each(|x| *x = x.clamp(*min, *max)),
            Self::Log1p {} => {
                if numbers.iter().fold(false, |negative, x| negative | (*x < 0.0)) {
                    return false;
                }
                numbers.iter_mut().for_each(|x| *x = libm::log1p(*x));
            }
            Self::Standardize { mean, std } => numbers.iter_mut().for_each(|x| *x = (*x - mean) / std),
            Self::Bucketize { .. } => {}
        }
        true
    }

    pub(super) fn boundaries(&self) -> Option<&[f64]> {
        match self {
            Self::Bucketize { boundaries } => Some(boundaries),
            _ => None,
        }
    }
}

/// Applies the transforms up to a `bucketize`, which is the encoder's to apply.
pub(super) fn apply(transforms: &[Transform], raw: f64) -> Result<f64, ValueError> {
    if !raw.is_finite() {
        return Err(ValueError::NotFinite(raw));
    }
    let mut x = [raw];
    for transform in transforms {
        if !transform.step(&mut x) {
            return Err(ValueError::Negative(raw));
        }
    }
    Ok(x[0])
}

/// The same for many numbers, a transform at a time for all; false, and anything in their place, if one is refused.
pub(super) fn apply_all(transforms: &[Transform], numbers: &mut [f64]) -> bool {
    numbers.iter().fold(true, |finite, x| finite & x.is_finite()) && transforms.iter().all(|t| t.step(numbers))
}

/// The one cast to the model's precision.
#[allow(clippy::cast_possible_truncation)] // rounding to float32 is the point
pub(super) fn to_f32(x: f64, raw: f64) -> Result<f32, ValueError> {
    let cast = x as f32;
    if cast.is_finite() { Ok(cast) } else { Err(ValueError::Overflow(raw)) }
}
