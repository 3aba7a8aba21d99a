//! Batches for a model in process.

use aibuyer_domain::ctr::Rows;

/// Numbers that spread.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn id(&mut self, low: u32, high: u32) -> u32 {
        low + self.next() % (high - low + 1)
    }

    fn dense(&mut self) -> f32 {
        self.next() as f32 / 8e6 - 1.0
    }
}

/// Batches of rows within the bounds of each slot.
pub(crate) fn random(bounds: &[(i64, i64)], columns: usize, rows: usize, batches: usize) -> Vec<Rows> {
    let mut random = Random(7);
    let narrow = |id: i64| u32::try_from(id).unwrap();
    let mut batch = || {
        let mut batch = Rows { len: rows, ..Rows::default() };
        for _ in 0..rows {
            batch.ids.extend(bounds.iter().map(|(low, high)| i64::from(random.id(narrow(*low), narrow(*high)))));
            batch.dense.extend((0..columns).map(|_| random.dense()));
        }
        batch
    };
    (0..batches).map(|_| batch()).collect()
}
