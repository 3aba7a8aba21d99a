//! Columns of the API as columns of the domain, without copying values.

use aibuyer_domain::ctr::{Column, EncodeError, Values, Violation};
use aibuyer_proto::serving::v1 as pb;

/// Borrows API columns; `group` names them in violations.
///
/// # Errors
/// [`EncodeError`] with a violation for each column without a name or values.
pub(crate) fn borrow<'a>(group: &str, columns: &'a [pb::Column]) -> Result<Vec<Column<'a>>, EncodeError> {
    let mut violations = Vec::new();
    let mut borrowed = Vec::with_capacity(columns.len());
    for (i, column) in columns.iter().enumerate() {
        let mut fail = |field: String, reason: &str| violations.push(Violation { field, reason: reason.to_owned() });
        if column.name.is_empty() {
            fail(format!("{group}[{i}].name"), "is empty; name the feature");
        }
        match &column.values {
            None => fail(format!("{group}[{:?}]", column.name), "has no values; set one of strings, doubles, ..."),
            Some(values) => {
                borrowed.push(Column { name: &column.name, values: slice(values), missing: &column.missing });
            }
        }
    }
    if violations.is_empty() { Ok(borrowed) } else { Err(EncodeError(violations)) }
}

/// A column as the API has it.
pub(crate) fn owned(column: Column<'_>) -> pb::Column {
    use pb::column::Values as V;
    let values = match column.values {
        Values::Strings(v) => V::Strings(pb::StringValues { values: v.to_array() }),
        Values::Int64s(v) => V::Int64s(pb::Int64Values { values: v.to_vec() }),
        Values::Doubles(v) => V::Doubles(pb::DoubleValues { values: v.to_vec() }),
        Values::Bools(v) => V::Bools(pb::BoolValues { values: v.to_vec() }),
        Values::StringLists { values, lengths } => {
            V::StringLists(pb::StringListValues { values: values.to_array(), lengths: lengths.to_vec() })
        }
    };
    pb::Column { name: column.name.to_owned(), values: Some(values), missing: column.missing.to_vec() }
}

/// Rows of a column; 0 where it has no values.
pub(crate) fn rows(column: &pb::Column) -> usize {
    column.values.as_ref().map_or(0, |values| slice(values).rows())
}

fn slice(values: &pb::column::Values) -> Values<'_> {
    use pb::column::Values as V;
    match values {
        V::Strings(v) => Values::Strings(v.values.as_slice()),
        V::Int64s(v) => Values::Int64s(&v.values),
        V::Doubles(v) => Values::Doubles(&v.values),
        V::Bools(v) => Values::Bools(&v.values),
        V::StringLists(v) => Values::StringLists { values: v.values.as_slice(), lengths: &v.lengths },
    }
}
