//! `Column` and its text, written by hand where generated code is slow: a `String` for each word, and a step for each
//! byte, took more time than all else that a request needs besides the model.
//!
//! On the wire nothing differs. What encoders write is read in one pass over the bytes (`plain`); whatever else protobuf
//! allows, and whatever it does not, is left to prost, value by value.

mod plain;

use aibuyer_domain::ctr::{StringArray, StringSlice};
use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut},
    encoding::{self, DecodeContext, WireType},
};

use crate::serving::v1::{BoolValues, DoubleValues, Int64Values};

/// A named column: one value a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// Input name of the feature.
    pub name: String,
    /// The values.
    pub values: Option<Values>,
    /// Rows (0-based) that have no value.
    pub missing: Vec<u32>,
}

/// The values of a column.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Values {
    /// Text.
    #[prost(message, tag = "2")]
    Strings(StringValues),
    /// Whole numbers.
    #[prost(message, tag = "3")]
    Int64s(Int64Values),
    /// Numbers.
    #[prost(message, tag = "4")]
    Doubles(DoubleValues),
    /// Truth values.
    #[prost(message, tag = "5")]
    Bools(BoolValues),
    /// A list of strings a row.
    #[prost(message, tag = "6")]
    StringLists(StringListValues),
}

/// One string a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StringValues {
    /// The values, in row order.
    pub values: StringArray,
}

/// A list of strings a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StringListValues {
    /// All lists, one after the other.
    pub values: StringArray,
    /// Each row's length.
    pub lengths: Vec<u32>,
}

const STRINGS: u32 = 2;
const INT64S: u32 = 3;
const DOUBLES: u32 = 4;
const BOOLS: u32 = 5;
const STRING_LISTS: u32 = 6;
const MISSING: u32 = 7;

impl Message for Column {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if !self.name.is_empty() {
            encoding::string::encode(1, &self.name, buf);
        }
        if let Some(values) = &self.values {
            values.encode(buf);
        }
        encoding::uint32::encode_packed(MISSING, &self.missing, buf);
    }

    fn encoded_len(&self) -> usize {
        let name = if self.name.is_empty() { 0 } else { encoding::string::encoded_len(1, &self.name) };
        let values = self.values.as_ref().map_or(0, Values::encoded_len);
        name + values + encoding::uint32::encoded_len_packed(MISSING, &self.missing)
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // What comes a second time is added to the first, which is rare enough to be left to prost.
        let first = match tag {
            STRINGS..=STRING_LISTS => self.values.is_none(),
            MISSING => self.missing.is_empty(),
            _ => true,
        };
        if first && wire_type == WireType::LengthDelimited && plain::take(buf, |wire| self.read(tag, wire)).is_some() {
            return Ok(());
        }
        let (merged, field) = match tag {
            1 => (encoding::string::merge(wire_type, &mut self.name, buf, ctx), "name"),
            STRINGS..=STRING_LISTS => (Values::merge(&mut self.values, tag, wire_type, buf, ctx), "values"),
            MISSING => (encoding::uint32::merge_repeated(wire_type, &mut self.missing, buf, ctx), "missing"),
            _ => return encoding::skip_field(wire_type, tag, buf, ctx),
        };
        merged.map_err(within("Column", field))
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Column {
    /// Reads a field whose content is `wire`; `None`, and nothing changed, if it is not laid out as usual.
    fn read(&mut self, tag: u32, wire: &[u8]) -> Option<()> {
        match tag {
            1 => self.name = str::from_utf8(wire).ok()?.to_owned(),
            STRINGS => self.values = Some(Values::Strings(StringValues { values: plain::strings(wire)? })),
            INT64S => self.values = Some(Values::Int64s(Int64Values { values: plain::int64s(wire)? })),
            DOUBLES => self.values = Some(Values::Doubles(DoubleValues { values: plain::doubles(wire)? })),
            BOOLS => self.values = Some(Values::Bools(BoolValues { values: plain::bools(wire)? })),
            STRING_LISTS => {
                let (values, lengths) = plain::string_lists(wire)?;
                self.values = Some(Values::StringLists(StringListValues { values, lengths }));
            }
            MISSING => self.missing = plain::varints(wire, |n| u32::try_from(n).ok())?,
            _ => return None,
        }
        Some(())
    }
}

impl Message for StringValues {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        put(self.values.as_slice(), buf);
    }

    fn encoded_len(&self) -> usize {
        len(self.values.as_slice())
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => push(&mut self.values, wire_type, buf, ctx).map_err(within("StringValues", "values")),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for StringListValues {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        put(self.values.as_slice(), buf);
        encoding::uint32::encode_packed(2, &self.lengths, buf);
    }

    fn encoded_len(&self) -> usize {
        len(self.values.as_slice()) + encoding::uint32::encoded_len_packed(2, &self.lengths)
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let (merged, field) = match tag {
            1 => (push(&mut self.values, wire_type, buf, ctx), "values"),
            2 => (encoding::uint32::merge_repeated(wire_type, &mut self.lengths, buf, ctx), "lengths"),
            _ => return encoding::skip_field(wire_type, tag, buf, ctx),
        };
        merged.map_err(within("StringListValues", field))
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Where a message is broken.
fn within(message: &'static str, field: &'static str) -> impl FnOnce(DecodeError) -> DecodeError {
    move |mut error| {
        error.push(message, field);
        error
    }
}

/// Reads one string.
fn push(
    values: &mut StringArray,
    wire_type: WireType,
    buf: &mut impl Buf,
    ctx: DecodeContext,
) -> Result<(), DecodeError> {
    let mut value = String::new();
    encoding::string::merge(wire_type, &mut value, buf, ctx)?;
    values.push(&value);
    Ok(())
}

fn put(values: StringSlice<'_>, buf: &mut impl BufMut) {
    for value in values.iter() {
        encoding::encode_key(1, WireType::LengthDelimited, buf);
        encoding::encode_varint(value.len() as u64, buf);
        buf.put_slice(value.as_bytes());
    }
}

fn len(values: StringSlice<'_>) -> usize {
    let one = |len: usize| encoding::key_len(1) + encoding::encoded_len_varint(len as u64) + len;
    values.iter().map(|value| one(value.len())).sum()
}

#[cfg(test)]
mod tests;
