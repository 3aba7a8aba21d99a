//! Fields as protobuf encoders lay them out: a repeated number packed in one piece, a list's strings before its lengths.
//! Readers say `None` of anything else.

use aibuyer_domain::ctr::StringArray;
use prost::bytes::Buf;

/// Takes the content of a length-delimited field off `buf` if it lies there in one piece and `read` can read it; otherwise
/// leaves `buf` as it is.
pub(super) fn take(buf: &mut impl Buf, read: impl FnOnce(&[u8]) -> Option<()>) -> Option<()> {
    let ahead = buf.chunk();
    let mut rest = ahead;
    let wire = field(&mut rest)?;
    let used = ahead.len() - rest.len();
    read(wire)?;
    buf.advance(used);
    Some(())
}

/// A message of strings alone, field 1.
pub(super) fn strings(wire: &[u8]) -> Option<StringArray> {
    let (array, rest) = leading_strings(wire)?;
    rest.is_empty().then_some(array)
}

/// Strings, field 1, then the lengths of their lists, field 2.
pub(super) fn string_lists(wire: &[u8]) -> Option<(StringArray, Vec<u32>)> {
    let (array, rest) = leading_strings(wire)?;
    let lengths = if rest.is_empty() { Vec::new() } else { varints(only(2, rest)?, |n| u32::try_from(n).ok())? };
    Some((array, lengths))
}

pub(super) fn int64s(wire: &[u8]) -> Option<Vec<i64>> {
    // Two's complement: a negative number is ten bytes long.
    if wire.is_empty() { Some(Vec::new()) } else { varints(only(1, wire)?, |n| Some(n.cast_signed())) }
}

pub(super) fn doubles(wire: &[u8]) -> Option<Vec<f64>> {
    let (values, []) = (if wire.is_empty() { wire } else { only(1, wire)? }).as_chunks::<8>() else { return None };
    Some(values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}

pub(super) fn bools(wire: &[u8]) -> Option<Vec<bool>> {
    if wire.is_empty() { Some(Vec::new()) } else { varints(only(1, wire)?, |n| Some(n != 0)) }
}

/// Packed numbers.
pub(super) fn varints<T>(mut wire: &[u8], value: impl Fn(u64) -> Option<T>) -> Option<Vec<T>> {
    let count = wire.iter().filter(|byte| **byte < 0x80).count();
    let mut values = Vec::with_capacity(count);
    while !wire.is_empty() {
        values.push(value(varint(&mut wire)?)?);
    }
    Some(values)
}

/// The strings of field 1 that stand first, and what follows them.
fn leading_strings(mut wire: &[u8]) -> Option<(StringArray, &[u8])> {
    // Room for all the text, and for words of two letters and more.
    let (mut text, mut ends) = (Vec::with_capacity(wire.len()), Vec::with_capacity(wire.len() / 4));
    while let [STRING, rest @ ..] = wire {
        wire = rest;
        text.extend_from_slice(field(&mut wire)?);
        ends.push(text.len());
    }
    Some((StringArray::new(text, ends)?, wire))
}

/// Key of field 1, length-delimited.
const STRING: u8 = key(1);

const fn key(tag: u8) -> u8 {
    tag << 3 | 2
}

/// The content of field `tag`, if nothing stands beside it.
fn only(tag: u8, wire: &[u8]) -> Option<&[u8]> {
    let (first, mut rest) = wire.split_first()?;
    let content = field(&mut rest)?;
    (*first == key(tag) && rest.is_empty()).then_some(content)
}

/// A length and as many bytes.
fn field<'a>(wire: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint(wire)?).ok()?;
    let (content, rest) = wire.split_at_checked(len)?;
    *wire = rest;
    Some(content)
}

/// Base-128, low digits first.
fn varint(wire: &mut &[u8]) -> Option<u64> {
    if let [byte @ ..0x80, rest @ ..] = *wire {
        *wire = rest;
        return Some(u64::from(*byte));
    }
    let mut value = 0;
    for (n, byte) in wire.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if *byte < 0x80 {
            *wire = &wire[n + 1..];
            // Ten bytes have room for 70 bits.
            return (n < 9 || *byte < 2).then_some(value);
        }
    }
    None
}
