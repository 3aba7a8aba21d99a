//! The dual problem: the price of money at which the campaigns' own best spends add up to the budget.

use super::response::Response;

/// One spend to decide on.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) response: Response,
    pub(super) lo: f64,
    pub(super) hi: f64,
    /// Parts of `[lo, hi]` where the response is concave, in order.
    parts: Vec<(f64, f64)>,
}

impl Item {
    /// Spend that brings nothing at all is not offered: it stays unspent.
    pub(super) fn new(response: Response, lo: f64, hi: f64) -> Self {
        let hi = if response.value(hi) > response.value(lo) { hi } else { lo };
        let parts = response.concave_parts(lo, hi);
        Self { response, lo, hi, parts }
    }

    /// The range of the concave part around `x`; the point itself where the curve is convex.
    pub(super) fn part_around(&self, x: f64, within: Range) -> Range {
        let around = self.parts.iter().find(|(from, to)| *from <= x && x <= *to);
        around.map_or(Range { lo: x, hi: x }, |(from, to)| Range { lo: from.max(within.lo), hi: to.min(within.hi) })
    }
}

/// Least and greatest spend of an item, inside the item's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) lo: f64,
    pub(super) hi: f64,
}

/// The solution of the problem with every curve replaced by its concave envelope.
pub(super) struct Relaxed {
    /// The price of money.
    pub(super) price: f64,
    /// No plan within the ranges has a greater response.
    pub(super) upper: f64,
    /// A plan that keeps ranges and budget, and its response.
    pub(super) spends: Vec<f64>,
    pub(super) value: f64,
    /// The item whose spend lies on a straight part of its envelope, between two that are best at this price.
    pub(super) split: Option<Split>,
    /// How often an item's best spend was asked for.
    pub(super) evaluations: u64,
}

/// An item that would rather have either end than what is left for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    pub(super) item: usize,
    pub(super) low: f64,
    pub(super) at: f64,
    pub(super) high: f64,
}

/// An item in a range, with what every price needs to know.
struct Face<'a> {
    item: &'a Item,
    range: Range,
    shape: Shape,
}

/// What a response looks like in a range.
enum Shape {
    /// Concave as a whole.
    Concave(Part),
    /// Concave in parts only; the responses at the ends of the range.
    Mixed { parts: Vec<Part>, at_lo: f64, at_hi: f64 },
}

/// A part in which the response is concave, with the slopes at its ends.
struct Part {
    range: Range,
    first: f64,
    last: f64,
}

impl Part {
    fn new(response: &Response, range: Range) -> Self {
        Self { range, first: response.slope(range.lo), last: response.slope(range.hi) }
    }

    /// The best spend within. `near` is a guess, or 0.
    fn best(&self, response: &Response, price: f64, near: f64) -> f64 {
        let Range { lo, hi } = self.range;
        if self.last >= price {
            hi
        } else if self.first <= price {
            lo
        } else {
            response.spend_at_slope(price, lo, hi, near)
        }
    }
}

impl<'a> Face<'a> {
    fn new(item: &'a Item, range: Range) -> Self {
        let response = &item.response;
        let whole = item.parts.iter().any(|(from, to)| *from <= range.lo && range.hi <= *to);
        let shape = if whole {
            Shape::Concave(Part::new(response, range))
        } else {
            let inside = item.parts.iter().map(|(from, to)| Range { lo: from.max(range.lo), hi: to.min(range.hi) });
            let parts = inside.filter(|part| part.lo < part.hi).map(|part| Part::new(response, part)).collect();
            Shape::Mixed { parts, at_lo: response.value(range.lo), at_hi: response.value(range.hi) }
        };
        Self { item, range, shape }
    }

    /// The spend that maximises `f(x) - price x`; at price 0 the greatest. `near` is a guess, or 0.
    fn best(&self, price: f64, near: f64) -> f64 {
        let Range { lo, hi } = self.range;
        if price <= 0.0 || lo >= hi {
            return hi;
        }
        let response = &self.item.response;
        match &self.shape {
            Shape::Concave(part) => part.best(response, price, near),
            Shape::Mixed { parts, at_lo, at_hi } => {
                let (mut best, mut most) = (lo, at_lo - price * lo);
                for part in parts {
                    // A guess from another part would lead astray.
                    let near = if part.range.lo < near && near < part.range.hi { near } else { 0.0 };
                    let x = part.best(response, price, near);
                    let gain = response.value(x) - price * x;
                    if gain > most {
                        (best, most) = (x, gain);
                    }
                }
                if at_hi - price * hi > most { hi } else { best }
            }
        }
    }

    /// The best spend at a price between those at which `low` and `high` are best. Spends only fall as the price rises, so
    /// it lies between them; `near` is a guess.
    fn best_between(&self, price: f64, low: f64, high: f64, near: f64) -> f64 {
        if low >= high {
            return low;
        }
        if let Shape::Mixed { parts, .. } = &self.shape
            && let Some(part) = parts.iter().find(|part| part.range.lo <= low && high <= part.range.hi)
        {
            return part.best(&self.item.response, price, near);
        }
        self.best(price, near)
    }
}

/// The items' best spends at one price.
struct Offer {
    price: f64,
    spends: Vec<f64>,
    total: f64,
}

/// The faces with a count of their evaluations.
struct Market<'a> {
    faces: Vec<Face<'a>>,
    evaluations: u64,
}

impl Market<'_> {
    fn at(&mut self, price: f64) -> Offer {
        self.evaluations += self.faces.len() as u64;
        let spends: Vec<f64> = self.faces.iter().map(|f| f.best(price, 0.0)).collect();
        let total = spends.iter().sum();
        Offer { price, spends, total }
    }

    /// The offer at a price between those of two others, from which each item's spend can be guessed.
    fn between(&mut self, price: f64, cheap: &Offer, dear: &Offer) -> Offer {
        self.evaluations += self.faces.len() as u64;
        let way = (dear.price / price).ln() / (dear.price / cheap.price).ln();
        let ends = cheap.spends.iter().zip(&dear.spends);
        let spends: Vec<f64> =
            self.faces.iter().zip(ends).map(|(f, (c, d))| f.best_between(price, *d, *c, d + way * (c - d))).collect();
        let total = spends.iter().sum();
        Offer { price, spends, total }
    }

    /// At an infinite price everyone spends the least.
    fn least(&self) -> Offer {
        let spends: Vec<f64> = self.faces.iter().map(|f| f.range.lo).collect();
        let total = spends.iter().sum();
        Offer { price: f64::INFINITY, spends, total }
    }

    fn response(&self, spends: &[f64]) -> f64 {
        self.faces.iter().zip(spends).map(|(f, x)| f.item.response.value(*x)).sum()
    }

    /// The Lagrangian bound at an offer's price: any price gives one.
    fn bound(&self, offer: &Offer, budget: f64) -> f64 {
        if offer.price.is_infinite() {
            return f64::INFINITY;
        }
        self.response(&offer.spends) + offer.price * (budget - offer.total)
    }

    /// A price in the right order of magnitude: the median slope where all take the same part of their range.
    fn guess(&self, budget: f64) -> f64 {
        let (least, room) =
            self.faces.iter().fold((0.0, 0.0), |(l, r), f| (l + f.range.lo, r + f.range.hi - f.range.lo));
        let part = ((budget - least) / room).clamp(0.0, 1.0);
        let slope = |f: &Face<'_>| f.item.response.slope(f.range.lo + part * (f.range.hi - f.range.lo));
        let free = self.faces.iter().filter(|f| f.range.lo < f.range.hi);
        let mut slopes: Vec<f64> = free.map(slope).filter(|s| *s > 0.0 && s.is_finite()).collect();
        let middle = slopes.len() / 2;
        if slopes.is_empty() { 1.0 } else { *slopes.select_nth_unstable_by(middle, f64::total_cmp).1 }
    }
}

/// How near, relative to the budget, a total must come.
const NEAR: f64 = 1e-14;
/// Prices beyond these are as good as infinite and 0.
const PRICES: (f64, f64) = (1e-290, 1e290);

/// Solves the relaxed problem on `ranges`; `None` where their lower ends exceed `budget`. A known price of a
/// neighbouring problem, `near`, saves time.
pub(super) fn relax(items: &[Item], ranges: &[Range], budget: f64, near: Option<f64>) -> Option<Relaxed> {
    let faces = items.iter().zip(ranges).map(|(item, &range)| Face::new(item, range));
    let mut market = Market { faces: faces.collect(), evaluations: 0 };
    let (most, least) = (market.at(0.0), market.least());
    if least.total > budget * (1.0 + 1e-12) {
        return None;
    }
    if most.total <= budget {
        let value = market.response(&most.spends);
        let evaluations = market.evaluations;
        return Some(Relaxed { price: 0.0, upper: value, spends: most.spends, value, split: None, evaluations });
    }
    let (cheap, dear) = bracket(&mut market, budget, most, least, near);
    let upper = market.bound(&cheap, budget).min(market.bound(&dear, budget));
    let nearer = if cheap.total - budget < budget - dear.total || dear.price.is_infinite() { &cheap } else { &dear };
    let price = nearer.price;
    let (spends, split) = fill(&market.faces, &cheap.spends, dear.spends, budget - dear.total);
    let value = market.response(&spends);
    Some(Relaxed { price, upper: upper.max(value), spends, value, split, evaluations: market.evaluations })
}

/// Two neighbouring offers: the first spends the budget or more, the second the budget or less.
fn bracket(market: &mut Market<'_>, budget: f64, most: Offer, least: Offer, near: Option<f64>) -> (Offer, Offer) {
    let (mut cheap, mut dear) = (most, least);
    let enough = |offer: &Offer| (offer.total - budget).abs() <= NEAR * budget;
    let mut price = near.filter(|p| *p > PRICES.0 && *p < PRICES.1).unwrap_or_else(|| market.guess(budget));
    let mut factor: f64 = if near.is_some() { 1.05 } else { 2.0 };
    // Outwards, in growing steps, until the budget lies between.
    while cheap.price <= 0.0 || dear.price.is_infinite() {
        let offer = market.at(price);
        let (near, over) = (enough(&offer), offer.total >= budget);
        if over {
            (cheap, price) = (offer, price * factor);
        } else {
            (dear, price) = (offer, price / factor);
        }
        if near || price < PRICES.0 || price > PRICES.1 {
            return (cheap, dear);
        }
        factor = (factor * factor).min(1e30);
    }
    // Inwards, by the false position in the logarithm of the price (Illinois), halving where that is slow: totals jump
    // where curves are not strictly concave.
    let (mut over, mut under) = (cheap.total - budget, dear.total - budget);
    let (mut a, mut b) = (cheap.price.ln(), dear.price.ln());
    let mut halved = b - a;
    for step in 1..300 {
        let width = b - a;
        let mut t = (a * under - b * over) / (under - over);
        if step % 4 == 0 {
            if width > 0.5 * halved {
                t = 0.5 * (a + b);
            }
            halved = width;
        }
        if !(t > a && t < b) {
            t = 0.5 * (a + b);
        }
        let price = t.exp();
        if price <= cheap.price || price >= dear.price || width <= 4.0 * f64::EPSILON * (1.0 + a.abs()) {
            break;
        }
        let offer = market.between(price, &cheap, &dear);
        let (done, excess) = (enough(&offer), offer.total - budget);
        if excess >= 0.0 {
            (a, over, cheap) = (t, excess, offer);
            under *= 0.5;
        } else {
            (b, under, dear) = (t, excess, offer);
            over *= 0.5;
        }
        if done {
            break;
        }
    }
    (cheap, dear)
}

/// Spends `rest` on the way from the dear offer's spends to the cheap one's. Items that jump go first, one by one, as
/// far as each fits as a whole; those that only grow share what is left in proportion; if they cannot take it all, one
/// item that jumps is left half-way.
fn fill(faces: &[Face<'_>], cheap: &[f64], dear: Vec<f64>, rest: f64) -> (Vec<f64>, Option<Split>) {
    let (mut spends, mut rest) = (dear, rest.max(0.0));
    let jumps = |i: usize, low: f64, high: f64| {
        let face = &faces[i];
        matches!(face.shape, Shape::Mixed { .. })
            && !face.item.parts.iter().any(|(from, to)| *from <= low && high <= *to)
    };
    let mut smooth = 0.0;
    let mut waiting = None;
    for (i, &high) in cheap.iter().enumerate() {
        let low = spends[i];
        if high <= low {
            continue;
        }
        if !jumps(i, low, high) {
            smooth += high - low;
        } else if high - low <= rest {
            (spends[i], rest) = (high, rest - (high - low));
        } else if waiting.is_none() {
            waiting = Some(i);
        }
    }
    let share = if smooth > 0.0 { (rest / smooth).min(1.0) } else { 0.0 };
    rest -= share * smooth;
    for (i, &high) in cheap.iter().enumerate() {
        let low = spends[i];
        if high > low && !jumps(i, low, high) {
            spends[i] = (low + share * (high - low)).min(high);
        }
    }
    let split = waiting.filter(|_| rest > 0.0).map(|item| {
        let (low, high) = (spends[item], cheap[item]);
        Split { item, low, at: (low + rest).min(high), high }
    });
    if let Some(split) = split {
        spends[split.item] = split.at;
    }
    (spends, split)
}
