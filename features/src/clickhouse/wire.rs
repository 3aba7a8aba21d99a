//! Single values as ClickHouse's RowBinary format has them: little-endian, text behind its length.

use clickhouse_types::data_types::{DataTypeNode, DateTimePrecision, DecimalType};

use crate::view::{FeatureKind, FeatureValue};

/// How a column's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    /// In 32, 64 or 128 bits, times ten to the power.
    Decimal32(i32),
    Decimal64(i32),
    Decimal128(i32),
    Text,
    /// Seconds since 1970.
    DateTime,
    /// The same in parts of a second: how many each has.
    DateTime64(i64),
}

impl Wire {
    /// The way of a type and whether a value may be NULL; `None` for types that no feature has.
    pub(super) fn of(kind: &DataTypeNode) -> Option<(Self, bool)> {
        use DataTypeNode as Node;
        let wire = match kind {
            Node::LowCardinality(inner) => return Self::of(inner),
            Node::Nullable(inner) => return Some((Self::of(inner)?.0, true)),
            Node::UInt8 => Self::U8,
            Node::UInt16 => Self::U16,
            Node::UInt32 => Self::U32,
            Node::UInt64 => Self::U64,
            Node::Int8 => Self::I8,
            Node::Int16 => Self::I16,
            Node::Int32 => Self::I32,
            Node::Int64 => Self::I64,
            Node::Float32 => Self::F32,
            Node::Float64 => Self::F64,
            Node::Decimal(_, scale, DecimalType::Decimal32) => Self::Decimal32((*scale).into()),
            Node::Decimal(_, scale, DecimalType::Decimal64) => Self::Decimal64((*scale).into()),
            Node::Decimal(_, scale, DecimalType::Decimal128) => Self::Decimal128((*scale).into()),
            Node::String => Self::Text,
            Node::DateTime(_) => Self::DateTime,
            Node::DateTime64(precision, _) => Self::DateTime64(per_second(precision)),
            _ => return None,
        };
        Some((wire, false))
    }

    /// Whether its values are such.
    pub(super) fn is(self, kind: FeatureKind) -> bool {
        let integer =
            matches!(self, Self::U8 | Self::U16 | Self::U32 | Self::U64 | Self::I8 | Self::I16 | Self::I32 | Self::I64);
        match kind {
            FeatureKind::Integer => integer,
            FeatureKind::Number => integer || !matches!(self, Self::Text | Self::DateTime | Self::DateTime64(_)),
            FeatureKind::Text => self == Self::Text,
        }
    }
}

fn per_second(precision: &DateTimePrecision) -> i64 {
    10_i64.pow(match precision {
        DateTimePrecision::Precision0 => 0,
        DateTimePrecision::Precision1 => 1,
        DateTimePrecision::Precision2 => 2,
        DateTimePrecision::Precision3 => 3,
        DateTimePrecision::Precision4 => 4,
        DateTimePrecision::Precision5 => 5,
        DateTimePrecision::Precision6 => 6,
        DateTimePrecision::Precision7 => 7,
        DateTimePrecision::Precision8 => 8,
        DateTimePrecision::Precision9 => 9,
    })
}

/// What is left of an answer.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let mut length = 0_usize;
        for shift in (0..).step_by(7) {
            let [byte] = self.take()?;
            length |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                break;
            }
        }
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// Whether the value that follows is NULL, in a column that may have such.
    pub(super) fn null(&mut self, nullable: bool) -> Option<bool> {
        if nullable { Some(self.take::<1>()? != [0]) } else { Some(false) }
    }

    /// Nanoseconds since 1970.
    pub(super) fn time(&mut self, wire: Wire) -> Option<i128> {
        match wire {
            Wire::DateTime => Some(i128::from(u32::from_le_bytes(self.take()?)) * 1_000_000_000),
            Wire::DateTime64(parts) => {
                Some(i128::from(i64::from_le_bytes(self.take()?)) * i128::from(1_000_000_000 / parts))
            }
            _ => None,
        }
    }

    /// A value; as a double where `kind` says so.
    #[allow(clippy::cast_precision_loss)] // a number is a double
    pub(super) fn value(&mut self, wire: Wire, kind: FeatureKind) -> Option<FeatureValue> {
        let integer = |value: i64| match kind {
            FeatureKind::Integer => FeatureValue::Integer(value),
            _ => FeatureValue::Number(value as f64),
        };
        let number = |value: f64| if value.is_finite() { FeatureValue::Number(value) } else { FeatureValue::Missing };
        Some(match wire {
            Wire::U8 => integer(u8::from_le_bytes(self.take()?).into()),
            Wire::U16 => integer(u16::from_le_bytes(self.take()?).into()),
            Wire::U32 => integer(u32::from_le_bytes(self.take()?).into()),
            Wire::U64 => match (u64::from_le_bytes(self.take()?), kind) {
                (value, FeatureKind::Integer) => i64::try_from(value).map_or(FeatureValue::Missing, integer),
                (value, _) => FeatureValue::Number(value as f64),
            },
            Wire::I8 => integer(i8::from_le_bytes(self.take()?).into()),
            Wire::I16 => integer(i16::from_le_bytes(self.take()?).into()),
            Wire::I32 => integer(i32::from_le_bytes(self.take()?).into()),
            Wire::I64 => integer(i64::from_le_bytes(self.take()?)),
            Wire::F32 => number(f32::from_le_bytes(self.take()?).into()),
            Wire::F64 => number(f64::from_le_bytes(self.take()?)),
            Wire::Decimal32(scale) => number(f64::from(i32::from_le_bytes(self.take()?)) / 10_f64.powi(scale)),
            Wire::Decimal64(scale) => number(i64::from_le_bytes(self.take()?) as f64 / 10_f64.powi(scale)),
            Wire::Decimal128(scale) => number(i128::from_le_bytes(self.take()?) as f64 / 10_f64.powi(scale)),
            Wire::Text => FeatureValue::text(self.text()?),
            Wire::DateTime | Wire::DateTime64(_) => return None,
        })
    }
}
