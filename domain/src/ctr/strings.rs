//! A column's text in one piece.
//!
//! The layout is Arrow's for variable-size values: one buffer for all text, and where each string ends. A column of a
//! thousand words is two allocations, not a thousand and one.

use std::{fmt, ops::Range};

/// Strings, one after the other.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StringArray {
    text: String,
    ends: Vec<usize>,
}

impl StringArray {
    /// The strings whose bytes stand in `text` and end at `ends`; `None` if they are not UTF-8, or not all of `text`.
    #[must_use]
    pub fn new(text: Vec<u8>, ends: Vec<usize>) -> Option<Self> {
        // As a whole, which takes far fewer instructions than each by itself, but could hide a character that two strings
        // share.
        let text = String::from_utf8(text).ok()?;
        let (mut last, mut good) = (0, true);
        for &end in &ends {
            good &= last <= end && text.is_char_boundary(end);
            last = end;
        }
        (good && last == text.len()).then_some(Self { text, ends })
    }

    /// Appends a string.
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
    }

    /// The strings, borrowed.
    #[must_use]
    pub fn as_slice(&self) -> StringSlice<'_> {
        StringSlice { text: &self.text, start: 0, ends: &self.ends }
    }
}

impl<T: AsRef<str>> FromIterator<T> for StringArray {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let values = values.into_iter();
        let mut array = Self { text: String::new(), ends: Vec::with_capacity(values.size_hint().0) };
        values.for_each(|value| array.push(value.as_ref()));
        array
    }
}

impl fmt::Debug for StringArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// Some of an array's strings.
#[derive(Clone, Copy)]
pub struct StringSlice<'a> {
    text: &'a str,
    /// Where the first begins.
    start: usize,
    ends: &'a [usize],
}

impl<'a> StringSlice<'a> {
    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One string.
    ///
    /// # Panics
    /// When there is no such string.
    #[must_use]
    pub fn at(&self, index: usize) -> &'a str {
        &self.text[self.begin(index)..self.ends[index]]
    }

    /// Those at `range`.
    ///
    /// # Panics
    /// When there are none such.
    #[must_use]
    pub fn range(&self, range: Range<usize>) -> Self {
        Self { start: self.begin(range.start), ends: &self.ends[range], ..*self }
    }

    /// Each string.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let (text, mut begin) = (self.text, self.start);
        self.ends.iter().map(move |end| {
            let from = std::mem::replace(&mut begin, *end);
            &text[from..begin]
        })
    }

    /// All text, as if it were one string.
    pub(super) fn text(&self) -> &'a str {
        &self.text[self.start..self.ends.last().map_or(self.start, |end| *end)]
    }

    /// A copy of its own.
    #[must_use]
    pub fn to_array(&self) -> StringArray {
        StringArray { text: self.text().to_owned(), ends: self.ends.iter().map(|end| end - self.start).collect() }
    }

    fn begin(&self, index: usize) -> usize {
        if index == 0 { self.start } else { self.ends[index - 1] }
    }
}

impl fmt::Debug for StringSlice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_in_their_places() {
        let array: StringArray = ["a", "", "dög", "🐕"].into_iter().collect();
        let all = array.as_slice();
        assert_eq!((all.len(), all.at(0), all.at(1), all.at(2), all.at(3)), (4, "a", "", "dög", "🐕"));
        assert!(all.iter().eq(["a", "", "dög", "🐕"]));
        let some = all.range(2..4);
        assert_eq!((some.len(), some.at(0), some.at(1)), (2, "dög", "🐕"));
        assert!(some.iter().eq(["dög", "🐕"]));
        assert_eq!((some.range(1..2).at(0), some.text(), all.range(1..3).text()), ("🐕", "dög🐕", "dög"));
        assert_eq!((all.range(4..4).text(), StringArray::default().as_slice().text()), ("", ""));
        assert!(all.range(4..4).is_empty());
        assert_eq!(format!("{:?}", some.to_array()), r#"["dög", "🐕"]"#);
    }

    #[test]
    fn bytes_that_are_no_strings_make_no_array() {
        let array = |text: &[u8], ends: &[usize]| StringArray::new(text.to_vec(), ends.to_vec());
        assert_eq!(array("aö".as_bytes(), &[1, 3]), Some(["a", "ö"].into_iter().collect()));
        assert_eq!(array(b"", &[]), Some(StringArray::default()));
        assert_eq!(array(b"", &[0, 0]), Some(["", ""].into_iter().collect()));
        assert_eq!(array(b"a\xff", &[1, 2]), None);
        assert_eq!(array("ö".as_bytes(), &[1, 2]), None, "half a character each");
        assert_eq!(array(b"ab", &[1]), None, "text that is no string's");
        assert_eq!(array(b"ab", &[2, 1, 2]), None, "an end before the one before");
        assert_eq!(array(b"ab", &[3]), None);
    }
}
