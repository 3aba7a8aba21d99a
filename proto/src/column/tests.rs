#![allow(clippy::unwrap_used)]

use proptest::{collection::vec, prelude::*};

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,9}", "\\PC{0,40}", "[a-z]{120,300}"]
}

fn array() -> impl Strategy<Value = StringArray> {
    vec(text(), 0..9).prop_map(|values| values.into_iter().collect())
}

fn int64() -> impl Strategy<Value = i64> {
    prop_oneof![0..200i64, any::<i64>()]
}

fn values() -> impl Strategy<Value = Values> {
    prop_oneof![
        array().prop_map(|values| Values::Strings(StringValues { values })),
        vec(int64(), 0..9).prop_map(|values| Values::Int64s(Int64Values { values })),
        vec(prop_oneof![-1e9..1e9, Just(-0.0), Just(f64::INFINITY)], 0..9)
            .prop_map(|values| Values::Doubles(DoubleValues { values })),
        vec(any::<bool>(), 0..9).prop_map(|values| Values::Bools(BoolValues { values })),
        (array(), vec(any::<u32>(), 0..9))
            .prop_map(|(values, lengths)| Values::StringLists(StringListValues { values, lengths })),
    ]
}

fn column() -> impl Strategy<Value = Column> {
    (text(), proptest::option::of(values()), vec(any::<u32>(), 0..5)).prop_map(|(name, values, missing)| Column {
        name,
        values,
        missing,
    })
}

/// The same messages with the code that prost derives.
mod derived {
    use crate::serving::v1::{BoolValues, DoubleValues, Int64Values};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Column {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(oneof = "Values", tags = "2, 3, 4, 5, 6")]
        pub(super) values: Option<Values>,
        #[prost(uint32, repeated, tag = "7")]
        pub(super) missing: Vec<u32>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Values {
        #[prost(message, tag = "2")]
        Strings(StringValues),
        #[prost(message, tag = "3")]
        Int64s(Int64Values),
        #[prost(message, tag = "4")]
        Doubles(DoubleValues),
        #[prost(message, tag = "5")]
        Bools(BoolValues),
        #[prost(message, tag = "6")]
        StringLists(StringListValues),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StringValues {
        #[prost(string, repeated, tag = "1")]
        pub(super) values: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StringListValues {
        #[prost(string, repeated, tag = "1")]
        pub(super) values: Vec<String>,
        #[prost(uint32, repeated, tag = "2")]
        pub(super) lengths: Vec<u32>,
    }
}

fn derived(column: Column) -> derived::Column {
    use derived::Values as D;
    let owned = |v: StringArray| v.as_slice().iter().map(str::to_owned).collect();
    let values = column.values.map(|values| match values {
        Values::Strings(v) => D::Strings(derived::StringValues { values: owned(v.values) }),
        Values::Int64s(v) => D::Int64s(v),
        Values::Doubles(v) => D::Doubles(v),
        Values::Bools(v) => D::Bools(v),
        Values::StringLists(v) => {
            D::StringLists(derived::StringListValues { values: owned(v.values), lengths: v.lengths })
        }
    });
    derived::Column { name: column.name, values, missing: column.missing }
}

/// A field by hand, of any wire type, as it is and as it should not be.
fn field(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let written = |write: fn(u32, u64, &mut Vec<u8>)| {
        (prop_oneof![8 => 1u32..9, 1 => Just(500_000)], any::<u64>()).prop_map(move |(tag, n)| {
            let mut wire = Vec::new();
            write(tag, n, &mut wire);
            wire
        })
    };
    let content = match depth {
        0 => prop_oneof![vec(any::<u8>(), 0..8), text().prop_map(String::into_bytes)].boxed(),
        _ => prop_oneof![
            1 => vec(any::<u8>(), 0..8),
            1 => text().prop_map(String::into_bytes),
            4 => vec(field(depth - 1), 0..5).prop_map(|fields| fields.concat()),
        ]
        .boxed(),
    };
    prop_oneof![
        6 => (1u32..9, content).prop_map(|(tag, content)| {
            let mut wire = Vec::new();
            encoding::bytes::encode(tag, &content, &mut wire);
            wire
        }),
        2 => written(|tag, n, wire| encoding::uint64::encode(tag, &n, wire)),
        1 => written(|tag, n, wire| encoding::fixed64::encode(tag, &n, wire)),
        1 => written(|tag, n, wire| encoding::fixed32::encode(tag, &u32::try_from(n >> 32).unwrap(), wire)),
        1 => written(|tag, n, wire| {
            encoding::encode_key(tag, WireType::StartGroup, wire);
            encoding::uint64::encode(1, &n, wire);
            encoding::encode_key(tag, WireType::EndGroup, wire);
        }),
    ]
    .boxed()
}

/// Both readings of the same bytes: in one piece, in two, and as the first `cut` of more.
fn agree(wire: &[u8], cut: usize) -> Result<(), TestCaseError> {
    let text = |read: Result<derived::Column, DecodeError>| format!("{:?}", read.map_err(|e| e.to_string()));
    let wanted = text(derived::Column::decode(wire));
    let (one, other) = wire.split_at(cut.min(wire.len()));
    for read in [Column::decode(wire), Column::decode(one.chain(other))] {
        prop_assert_eq!(&text(read.map(derived)), &wanted);
    }
    let mut framed = Vec::new();
    encoding::encode_varint(one.len() as u64, &mut framed);
    framed.extend(wire);
    let wanted = text(derived::Column::decode_length_delimited(&*framed));
    prop_assert_eq!(text(Column::decode_length_delimited(&*framed).map(derived)), wanted);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn is_written_and_read_as_prost_does(column in column(), cut in 0usize..200) {
        let wire = column.encode_to_vec();
        prop_assert_eq!(column.encoded_len(), wire.len());
        prop_assert_eq!(&wire, &derived(column.clone()).encode_to_vec());
        prop_assert_eq!(Column::decode(&*wire).unwrap(), column);
        agree(&wire, cut)?;
    }

    #[test]
    fn fields_in_any_order_and_number_are_read_as_prost_does(fields in vec(field(2), 0..6), cut in 0usize..60) {
        agree(&fields.concat(), cut)?;
    }

    #[test]
    fn broken_messages_are_refused_as_prost_does(
        column in column(), at in any::<prop::sample::Index>(), byte in any::<u8>(), short in 0usize..4
    ) {
        let mut wire = column.encode_to_vec();
        if !wire.is_empty() {
            let at = at.index(wire.len());
            wire[at] = byte;
            wire.truncate(wire.len().saturating_sub(short));
        }
        agree(&wire, wire.len() / 2)?;
    }
}

#[test]
fn what_encoders_write_is_read_in_one_pass() {
    let wire = |column: Values| {
        let mut wire = Vec::new();
        column.encode(&mut wire);
        // Key and length.
        wire.split_off(2)
    };
    let array = |values: &[&str]| values.iter().collect::<StringArray>();
    let (words, lengths) = (array(&["a", "", "dög"]), vec![0, 300, 2]);
    let strings = wire(Values::Strings(StringValues { values: words.clone() }));
    assert_eq!(plain::strings(&strings), Some(words.clone()));
    let lists = wire(Values::StringLists(StringListValues { values: words.clone(), lengths: lengths.clone() }));
    assert_eq!(plain::string_lists(&lists), Some((words.clone(), lengths)));
    assert_eq!(plain::string_lists(&strings), Some((words, vec![])), "no list at all");
    let int64s = vec![0, -1, 127, 128, i64::MIN, i64::MAX];
    assert_eq!(plain::int64s(&wire(Values::Int64s(Int64Values { values: int64s.clone() }))), Some(int64s));
    let doubles = vec![0.5, f64::MAX];
    assert_eq!(plain::doubles(&wire(Values::Doubles(DoubleValues { values: doubles.clone() }))), Some(doubles));
    let bools = vec![true, false];
    assert_eq!(plain::bools(&wire(Values::Bools(BoolValues { values: bools.clone() }))), Some(bools));
    assert_eq!(
        (plain::int64s(&[]), plain::doubles(&[]), plain::bools(&[])),
        (Some(vec![]), Some(vec![]), Some(vec![]))
    );
    // Lengths before strings, numbers one by one, two pieces, a byte too few: prost's.
    assert_eq!(plain::string_lists(&[0x12, 1, 1, 0x0a, 1, b'a']), None);
    assert_eq!(plain::int64s(&[0x08, 1]), None);
    assert_eq!(plain::bools(&[0x0a, 1, 1, 0x0a, 1, 0]), None);
    assert_eq!(plain::doubles(&[0x0a, 7, 0, 0, 0, 0, 0, 0, 0]), None);
    assert_eq!(plain::strings(&[0x0a, 2, b'a']), None);
}

/// Copying what is there for each piece would take hours.
#[test]
fn many_pieces_are_added_in_linear_time() {
    let mut wire = Vec::new();
    encoding::bytes::encode(STRINGS, &b"\x0a\x01a".repeat(300_000), &mut wire);
    let lists = [b"\x0a\x01a".as_slice(), b"\x12\x01\x01"].concat();
    (0..300_000).for_each(|_| encoding::bytes::encode(STRINGS, &Vec::new(), &mut wire));
    let Some(Values::Strings(read)) = Column::decode(&*wire).unwrap().values else { panic!("no strings") };
    assert_eq!(read.values.as_slice().len(), 300_000);

    wire.clear();
    (0..300_000).for_each(|_| encoding::bytes::encode(STRING_LISTS, &lists, &mut wire));
    let Some(Values::StringLists(read)) = Column::decode(&*wire).unwrap().values else { panic!("no lists") };
    assert_eq!((read.values.as_slice().len(), read.lengths.len()), (300_000, 300_000));
}

#[test]
fn a_second_piece_is_added_to_the_first() {
    let strings = |values: &[&str]| {
        let values = values.iter().collect();
        Column { name: "x".to_owned(), values: Some(Values::Strings(StringValues { values })), missing: vec![1] }
    };
    let wire = [strings(&["a", "b"]).encode_to_vec(), strings(&["c"]).encode_to_vec()].concat();
    let merged = Column { missing: vec![1, 1], ..strings(&["a", "b", "c"]) };
    assert_eq!(Column::decode(&*wire).unwrap(), merged);
}

#[test]
fn text_that_is_not_utf8_is_named() {
    let mut wire = Vec::new();
    encoding::bytes::encode(2, &b"\x0a\x01\xff".to_vec(), &mut wire);
    let error = Column::decode(&*wire).unwrap_err().to_string();
    assert!(error.contains("StringValues.values: Column.values: ") && error.contains("UTF-8"), "{error}");
}
