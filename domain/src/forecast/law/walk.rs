//! The laws of future rows one after another, so that each builds on the last.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{
    Drift, Form, Kind, Law,
    contour::{Contour, Path},
    fourier::{Grid, Series, Size, last_node},
    mixture::{Mixture, Noisy},
    root::{Bounds, Curve, solve},
    shifts::{NEGLIGIBLE, Shifts},
};

/// Nodes of a grid for all rows, at most; beyond that the closed form is tried first.
const MANY: f64 = 2048.0;

/// Rows whose noise is larger against the drift than this many times the least get nodes of their own.
const UNLIKE: f64 = 3.0;

/// Goes over future rows in order.
#[derive(Debug)]
pub(in crate::forecast) struct Walk {
    shifts: Shifts,
    /// Noise of the rows against their drift's unit; infinite where there is no drift.
    ratios: Vec<f64>,
    /// Minus the logarithm of the least tail probability asked for.
    rarity: f64,
    /// Standard deviations from the centre to the nearest quantile asked for, or less.
    nearest: f64,
    rows: usize,
    /// What the nodes are good for: arguments, and noise.
    reach: f64,
    alike: f64,
    state: State,
}

#[derive(Debug)]
enum State {
    Nodes(Grid),
    Closed(Mixture),
    /// Good up to a row.
    Path(Contour, usize),
}

/// The law of one row of a walk.
enum Shape<'a> {
    Shared(&'a Series),
    Own(Series),
    Closed(Noisy<'a>),
    Path(&'a Path, f64),
}

impl Curve for Shape<'_> {
    fn at(&self, x: f64) -> (f64, f64, f64) {
        match self {
            Self::Shared(series) => series.at(x),
            Self::Own(series) => series.at(x),
            Self::Closed(noisy) => noisy.at(x),
            Self::Path(path, _) => path.at(x),
        }
    }

    fn jump(&self) -> f64 {
        match self {
            Self::Closed(noisy) => noisy.jump(),
            Self::Path(_, jump) => *jump,
            Self::Shared(_) | Self::Own(_) => 0.0,
        }
    }
}

impl Walk {
    /// `ratios` are the noise's standard deviations in units of the drift, one a future row; `targets` what will be
    /// asked for, [`Walk::law`] aside.
    pub(in crate::forecast) fn new(shifts: Shifts, ratios: Vec<f64>, targets: &Targets) -> Self {
        let (rarity, nearest) = (targets.rarity(), targets.nearest());
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let alike = ratios.iter().copied().filter(|r| *r <= UNLIKE * least).fold(least, f64::max);
        let mut walk = Self {
            shifts,
            ratios,
            rarity,
            nearest,
            rows: 0,
            reach: 0.0,
            alike,
            state: State::Closed(Mixture::new(shifts)),
        };
        if least > 0.0 && least.is_finite() {
            let (size, reach) = walk.size(walk.ratios.len(), alike, (2.0 * NEGLIGIBLE).sqrt() / least);
            if size.nodes() <= MANY {
                walk.state = State::Nodes(Grid::new(shifts, size));
                walk.reach = reach;
            }
        }
        walk
    }

    fn size(&self, rows: usize, r: f64, last: f64) -> (Size, f64) {
        let reach = self.shifts.reach(rows, r, self.rarity);
        let tail = self.shifts.reach(rows, r, NEGLIGIBLE);
        (Size::new(reach, tail, last), reach)
    }

    /// Goes to the next row.
    fn advance(&mut self) {
        self.rows += 1;
        let usable = match &mut self.state {
            State::Nodes(grid) => {
                grid.advance();
                true
            }
            State::Closed(mixture) => mixture.advance(),
            State::Path(contour, last) => {
                contour.advance();
                self.rows <= *last
            }
        };
        if !usable {
            self.state = self.later();
        }
    }

    /// How to go on where the closed form does not: with nodes for all rows where they are few, or where it is so
    /// unlikely that nothing changed that the function falls off by itself; else along a path.
    fn later(&mut self) -> State {
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let changed = self.shifts.rarity_of_none(self.rows) > 20.0;
        if least > 0.0 || changed {
            let (size, reach) = self.size(self.ratios.len(), self.alike, last_node(self.shifts, self.rows, least));
            if size.nodes() <= MANY || changed {
                self.reach = reach;
                return State::Nodes(self.grid(size));
            }
        }
        let last = self.rows + self.rows / 4;
        let smallest = self.nearest * self.shifts.variance(self.rows).sqrt();
        State::Path(Contour::new(self.shifts, self.rows, last, smallest), last)
    }

    /// A grid that has come as far as the walk.
    fn grid(&self, size: Size) -> Grid {
        let mut grid = Grid::new(self.shifts, size);
        (0..self.rows).for_each(|_| grid.advance());
        grid
    }

    /// The law of the row that the walk has come to, and what bounds it.
    fn shape(&mut self) -> (Shape<'_>, Bounds) {
        let r = self.ratios[self.rows - 1];
        let spread = (self.shifts.variance(self.rows) + r * r).sqrt();
        let bounds = |reach| Bounds { spread, grain: r, reach };
        if matches!(self.state, State::Nodes(_)) && r > self.alike {
            let (size, reach) = self.size(self.rows, r, (2.0 * NEGLIGIBLE).sqrt() / r);
            let series = self.grid(size).series(r).clone();
            return (Shape::Own(series), bounds(reach));
        }
        match &mut self.state {
            State::Nodes(grid) => (Shape::Shared(grid.series(r)), bounds(self.reach)),
            State::Closed(mixture) => (Shape::Closed(mixture.with_noise(r)), bounds(f64::INFINITY)),
            State::Path(contour, _) => {
                let jump = if r > 0.0 { 0.0 } else { 0.5 * (-self.shifts.rarity_of_none(self.rows)).exp() };
                (Shape::Path(contour.path(r), jump), Bounds { grain: spread, ..bounds(f64::INFINITY) })
            }
        }
    }

    /// The row's noise against its drift, once the walk has come to it; `None` where it does not drift.
    fn next(&mut self) -> Option<f64> {
        self.advance();
        Some(self.ratios[self.rows - 1]).filter(|r| r.is_finite())
    }

    /// Goes to the next row: how far its quantiles are from the centre, in units of its drift, one for each target;
    /// `None` where it does not drift.
    pub(in crate::forecast) fn quantiles<'a>(&mut self, targets: &'a mut Targets) -> Option<&'a [f64]> {
        self.next()?;
        let (shape, bounds) = self.shape();
        for target in &mut targets.targets {
            let x = match target.distance {
                0.0 => 0.0,
                distance => solve(&shape, distance, bounds.spread * target.guess(), bounds),
            };
            target.found(x / bounds.spread);
            target.x = x;
        }
        targets.found.clear();
        targets.found.extend(targets.targets.iter().map(|target| target.x));
        Some(&targets.found)
    }

    /// Goes to the next row: its law around `centre`, the drift's unit being `unit`; `None` where it does not drift.
    pub(in crate::forecast) fn law(&mut self, centre: f64, unit: f64) -> Option<Law> {
        let r = self.next()?;
        let (shifts, rows) = (self.shifts, self.rows);
        let (shape, bounds) = self.shape();
        let form = match shape {
            Shape::Shared(series) => Form::Series(series.clone()),
            Shape::Own(series) => Form::Series(series),
            Shape::Closed(noisy) => Form::Mixture(noisy.mixture().clone()),
            Shape::Path(..) => Form::Path,
        };
        let drift = Drift { shifts, rows, r, reach: bounds.reach, form };
        Some(Law { centre, kind: Kind::Drift { unit, drift } })
    }
}

/// Distances of probabilities from one half, and where their quantiles were in the rows before.
#[derive(Debug, Clone)]
pub(in crate::forecast) struct Targets {
    targets: Vec<Target>,
    found: Vec<f64>,
}

#[derive(Debug, Clone)]
struct Target {
    distance: f64,
    /// Quantiles of the last three rows in standard deviations, newest first.
    before: [f64; 3],
    x: f64,
}

impl Targets {
    /// One for each distance of a probability from one half, from 0 to below one half.
    pub(in crate::forecast) fn new(distances: &[f64]) -> Self {
        let target = |distance: &f64| {
            let normal = Normal::standard().inverse_cdf(0.5 + distance);
            Target { distance: *distance, before: [normal; 3], x: 0.0 }
        };
        Self { targets: distances.iter().map(target).collect(), found: Vec::with_capacity(distances.len()) }
    }

    /// Minus the logarithm of the least tail probability; of none, what is negligible.
    fn rarity(&self) -> f64 {
        let furthest = self.targets.iter().map(|target| target.distance).fold(f64::NAN, f64::max);
        if furthest.is_nan() { NEGLIGIBLE } else { -(0.5 - furthest).ln() }
    }

    /// Less than half the normal quantile next to the centre: a drift of few changes keeps quantiles nearer than that.
    fn nearest(&self) -> f64 {
        let away = self.targets.iter().filter(|target| target.distance > 0.0);
        away.map(|target| 0.4 * target.before[0]).fold(0.4, f64::min)
    }
}

impl Target {
    /// In standard deviations: from row to row it moves smoothly.
    fn guess(&self) -> f64 {
        let [last, before, first] = self.before;
        3.0 * (last - before) + first
    }

    fn found(&mut self, x: f64) {
        self.before = [x, self.before[0], self.before[1]];
    }
}
