//! Tensors on their way to and from a session: rows of one element type, in order, first dimension first.

use std::ops::Range;

use half::{bf16, f16};

/// Runs the same code on the vector inside, whatever its type is; `$other` on text where that is given.
macro_rules! each {
    ($elements:expr, $values:ident => $code:expr) => {
        each!($elements, $values => $code, $values => $code)
    };
    ($elements:expr, $values:ident => $code:expr, $text:pat => $other:expr) => {
        match $elements {
            Elements::Bool($values) => $code,
            Elements::U8($values) => $code,
            Elements::I8($values) => $code,
            Elements::U16($values) => $code,
            Elements::I16($values) => $code,
            Elements::U32($values) => $code,
            Elements::I32($values) => $code,
            Elements::U64($values) => $code,
            Elements::I64($values) => $code,
            Elements::F32($values) => $code,
            Elements::F64($values) => $code,
            Elements::F16($values) => $code,
            Elements::BF16($values) => $code,
            Elements::Text($text) => $other,
        }
    };
}

/// Runs the same code on two vectors of one type; `$other` where the types differ.
macro_rules! both {
    ($a:expr, $b:expr, ($x:ident, $y:ident) => $code:expr, $other:expr) => {
        match ($a, $b) {
            (Elements::Bool($x), Elements::Bool($y)) => $code,
            (Elements::U8($x), Elements::U8($y)) => $code,
            (Elements::I8($x), Elements::I8($y)) => $code,
            (Elements::U16($x), Elements::U16($y)) => $code,
            (Elements::I16($x), Elements::I16($y)) => $code,
            (Elements::U32($x), Elements::U32($y)) => $code,
            (Elements::I32($x), Elements::I32($y)) => $code,
            (Elements::U64($x), Elements::U64($y)) => $code,
            (Elements::I64($x), Elements::I64($y)) => $code,
            (Elements::F32($x), Elements::F32($y)) => $code,
            (Elements::F64($x), Elements::F64($y)) => $code,
            (Elements::F16($x), Elements::F16($y)) => $code,
            (Elements::BF16($x), Elements::BF16($y)) => $code,
            (Elements::Text($x), Elements::Text($y)) => $code,
            _ => $other,
        }
    };
}

/// Values of a tensor.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the variants say it all
pub enum Elements {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    Text(Vec<String>),
}

impl Elements {
    /// `count` zeros of the type that ONNX and numpy call `dtype`; `None` for a type that is not supported. Of text
    /// the digit, which a model that reads numbers takes, too.
    #[must_use]
    pub fn zeros(dtype: &str, count: usize) -> Option<Self> {
        Some(match dtype {
            "bool" => Self::Bool(vec![false; count]),
            "uint8" => Self::U8(vec![0; count]),
            "int8" => Self::I8(vec![0; count]),
            "uint16" => Self::U16(vec![0; count]),
            "int16" => Self::I16(vec![0; count]),
            "uint32" => Self::U32(vec![0; count]),
            "int32" => Self::I32(vec![0; count]),
            "uint64" => Self::U64(vec![0; count]),
            "int64" => Self::I64(vec![0; count]),
            "float32" => Self::F32(vec![0.0; count]),
            "float64" => Self::F64(vec![0.0; count]),
            "float16" => Self::F16(vec![f16::ZERO; count]),
            "bfloat16" => Self::BF16(vec![bf16::ZERO; count]),
            "string" => Self::Text(vec!["0".to_owned(); count]),
            _ => return None,
        })
    }

    /// The type's name in ONNX and numpy.
    #[must_use]
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::U8(_) => "uint8",
            Self::I8(_) => "int8",
            Self::U16(_) => "uint16",
            Self::I16(_) => "int16",
            Self::U32(_) => "uint32",
            Self::I32(_) => "int32",
            Self::U64(_) => "uint64",
            Self::I64(_) => "int64",
            Self::F32(_) => "float32",
            Self::F64(_) => "float64",
            Self::F16(_) => "float16",
            Self::BF16(_) => "bfloat16",
            Self::Text(_) => "string",
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Bytes of each, without what a text holds.
    pub(crate) fn width(&self) -> usize {
        fn of<T>(_: &[T]) -> usize {
            size_of::<T>()
        }
        each!(self, values => of(values))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn empty_like(&self, capacity: usize) -> Self {
        match self {
            Self::Bool(_) => Self::Bool(Vec::with_capacity(capacity)),
            Self::U8(_) => Self::U8(Vec::with_capacity(capacity)),
            Self::I8(_) => Self::I8(Vec::with_capacity(capacity)),
            Self::U16(_) => Self::U16(Vec::with_capacity(capacity)),
            Self::I16(_) => Self::I16(Vec::with_capacity(capacity)),
            Self::U32(_) => Self::U32(Vec::with_capacity(capacity)),
            Self::I32(_) => Self::I32(Vec::with_capacity(capacity)),
            Self::U64(_) => Self::U64(Vec::with_capacity(capacity)),
            Self::I64(_) => Self::I64(Vec::with_capacity(capacity)),
            Self::F32(_) => Self::F32(Vec::with_capacity(capacity)),
            Self::F64(_) => Self::F64(Vec::with_capacity(capacity)),
            Self::F16(_) => Self::F16(Vec::with_capacity(capacity)),
            Self::BF16(_) => Self::BF16(Vec::with_capacity(capacity)),
            Self::Text(_) => Self::Text(Vec::with_capacity(capacity)),
        }
    }
}

/// A shape and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// All dimensions. Where rows can be batched the first one counts them.
    pub shape: Vec<usize>,
    /// The values, last dimension fastest.
    pub elements: Elements,
}

impl Tensor {
    /// A tensor of one dimension for its rows and one for their values.
    #[must_use]
    pub fn matrix(rows: usize, elements: Elements) -> Self {
        Self { shape: vec![rows, elements.len() / rows.max(1)], elements }
    }

    /// Size of the first dimension; 1 where there is none.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Values of a row.
    fn width(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// A tensor without rows that takes rows of this shape.
    #[must_use]
    pub fn empty_like(&self, capacity: usize) -> Self {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = 0;
        }
        Self { shape, elements: self.elements.empty_like(capacity * self.width()) }
    }

    /// A tensor of zeros or empty texts, its rows of this shape.
    #[must_use]
    pub fn zeros_like(&self, rows: usize) -> Self {
        let mut tensor = self.empty_like(rows);
        let len = rows * self.width();
        each!(&mut tensor.elements, values => values.resize(len, Default::default()));
        if let Some(first) = tensor.shape.first_mut() {
            *first = rows;
        }
        tensor
    }

    /// Forgets all rows, keeps their memory.
    pub fn clear(&mut self) {
        if let Some(rows) = self.shape.first_mut() {
            *rows = 0;
        }
        each!(&mut self.elements, values => values.clear());
    }

    /// Forgets the rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        let keep = rows * self.width();
        if let Some(first) = self.shape.first_mut() {
            *first = rows.min(*first);
        }
        each!(&mut self.elements, values => values.truncate(keep));
    }

    /// Appends rows of a tensor of the same type and row shape. One of another is a bug: nothing is appended.
    pub fn append(&mut self, other: &Self, rows: Range<usize>) {
        debug_assert_eq!(self.shape[1..], other.shape[1..], "row shapes differ");
        let width = self.width();
        let values = rows.start * width..rows.end * width;
        both!(&mut self.elements, &other.elements, (to, from) => to.extend_from_slice(&from[values]), return);
        self.shape[0] += rows.len();
    }

    /// Puts rows of `other` in the place of this one's from `at` on.
    pub fn replace(&mut self, at: usize, other: &Self, rows: Range<usize>) {
        let width = self.width();
        let to = at * width..(at + rows.len()) * width;
        let from = rows.start * width..rows.end * width;
        both!(&mut self.elements, &other.elements, (x, y) => x[to].clone_from_slice(&y[from]), ());
    }
}

pub(crate) use each;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_appended_replaced_and_forgotten() {
        let source = Tensor { shape: vec![3, 2], elements: Elements::I64(vec![1, 2, 3, 4, 5, 6]) };
        let mut tensor = source.empty_like(4);
        assert_eq!((tensor.rows(), tensor.elements.len()), (0, 0));
        tensor.append(&source, 1..3);
        tensor.append(&source, 0..1);
        assert_eq!(tensor.elements, Elements::I64(vec![3, 4, 5, 6, 1, 2]));
        tensor.replace(1, &source, 0..2);
        assert_eq!(tensor, Tensor { shape: vec![3, 2], elements: Elements::I64(vec![3, 4, 1, 2, 3, 4]) });
        tensor.truncate(1);
        assert_eq!(tensor, Tensor { shape: vec![1, 2], elements: Elements::I64(vec![3, 4]) });
        tensor.clear();
        assert!(tensor.elements.is_empty());
    }

    #[test]
    fn every_supported_type_has_zeros_of_its_name() {
        let names = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float32 float64 float16 bfloat16 string";
        for name in names.split(' ') {
            assert_eq!(Elements::zeros(name, 2).map(|e| (e.dtype().to_owned(), e.len())), Some((name.to_owned(), 2)));
        }
        assert_eq!(Elements::zeros("complex64", 1), None);
    }
}
