//! Branch and bound over the campaigns whose curves are not concave.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{
    plan::Effort,
    relax::{Item, Range, Relaxed, Split, relax},
};

/// The best plan found and what is proven of it.
pub(super) struct Solved {
    pub(super) spends: Vec<f64>,
    pub(super) value: f64,
    /// No plan has a greater response.
    pub(super) upper: f64,
}

/// A part of the problem that may hold a better plan.
struct Node {
    ranges: Vec<Range>,
    relaxed: Relaxed,
    split: Split,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Node {}
impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Node {
    fn cmp(&self, other: &Self) -> Ordering {
        self.relaxed.upper.total_cmp(&other.relaxed.upper)
    }
}

struct Search<'a> {
    items: &'a [Item],
    budget: f64,
    gap: f64,
    evaluations: u64,
    best: Option<Solved>,
    open: BinaryHeap<Node>,
    /// Greatest bound among the parts that were given up.
    closed: f64,
}

/// The best spends of `items` within `budget`; the items' lower ends are known to fit. Asks `go_on` before each further
/// part of the problem.
pub(super) fn solve(items: &[Item], budget: f64, effort: Effort, go_on: &dyn Fn() -> bool) -> Solved {
    let ranges: Vec<Range> = items.iter().map(|i| Range { lo: i.lo, hi: i.hi }).collect();
    let mut search =
        Search { items, budget, gap: effort.gap, evaluations: 0, best: None, open: BinaryHeap::new(), closed: 0.0 };
    search.visit(ranges, None);
    while let Some(node) = search.open.pop() {
        let tired = || search.evaluations > effort.evaluations || !go_on();
        if search.is_closed(node.relaxed.upper) || tired() {
            // The others have no greater bound.
            search.closed = search.closed.max(node.relaxed.upper);
            break;
        }
        let Split { item, at, .. } = node.split;
        let [mut below, mut above] = [node.ranges.clone(), node.ranges];
        below[item].hi = at;
        above[item].lo = at;
        let price = Some(node.relaxed.price);
        search.visit(below, price);
        search.visit(above, price);
    }
    let upper = search.closed;
    let least = || items.iter().map(|i| i.lo).collect::<Vec<_>>();
    let best = search.best.unwrap_or_else(|| Solved { spends: least(), value: 0.0, upper });
    Solved { upper: upper.max(best.value), ..best }
}

impl Search<'_> {
    fn is_closed(&self, upper: f64) -> bool {
        self.best.as_ref().is_some_and(|best| upper - best.value <= self.gap * best.value)
    }

    fn relax(&mut self, ranges: &[Range], near: Option<f64>) -> Option<Relaxed> {
        let relaxed = relax(self.items, ranges, self.budget, near)?;
        self.evaluations += relaxed.evaluations;
        Some(relaxed)
    }

    fn offer(&mut self, found: &Relaxed) {
        if self.best.as_ref().is_none_or(|best| found.value > best.value) {
            let Relaxed { value, upper, .. } = *found;
            self.best = Some(Solved { spends: found.spends.clone(), value, upper });
        }
    }

    /// Bounds a part of the problem, looks for a better plan in it, and keeps it if it may hold a better one still.
    fn visit(&mut self, ranges: Vec<Range>, near: Option<f64>) {
        let Some(mut relaxed) = self.relax(&ranges, near) else { return };
        self.offer(&relaxed);
        if let Some(split) = relaxed.split.filter(|_| !self.is_closed(relaxed.upper)) {
            self.round(&ranges, &relaxed, split);
        }
        match relaxed.split {
            Some(split) if !self.is_closed(relaxed.upper) && split.low < split.at && split.at < split.high => {
                relaxed.spends = Vec::new();
                self.open.push(Node { ranges, relaxed, split });
            }
            _ => self.closed = self.closed.max(relaxed.upper),
        }
    }

    /// Solves for the plans in which the split item has either end and all others stay on their concave part.
    fn round(&mut self, ranges: &[Range], relaxed: &Relaxed, split: Split) {
        let near = |x: &f64, (item, range): (&Item, &Range)| item.part_around(*x, *range);
        let mut parts: Vec<Range> =
            relaxed.spends.iter().zip(self.items.iter().zip(ranges)).map(|(x, of)| near(x, of)).collect();
        for end in [split.low, split.high] {
            parts[split.item] = near(&end, (&self.items[split.item], &ranges[split.item]));
            if let Some(rounded) = self.relax(&parts, Some(relaxed.price)) {
                self.offer(&rounded);
            }
        }
    }
}
