//! Where to put a budget: the spend of each campaign, or of each campaign and day, that maximises the summed response.
//!
//! [`Problem::new`] checks budget, bounds and response [`Curve`]s; [`optimise`] answers with a [`Plan`]: spend, response
//! and marginal response of each campaign, the shadow price of the budget, which bounds bind, and a gap between the
//! objective and a proven upper bound. [`fit()`] reads a curve from a campaign's history where nobody gives one.
//!
//! The method is Lagrangian duality for separable problems (Everett, "Generalized Lagrange multiplier method", 1963;
//! Patriksson, "A survey on the continuous nonlinear resource allocation problem", 2008). At a price `lambda` of money
//! each campaign alone maximises `f(x) - lambda x`; the price at which these spends add up to the budget solves the
//! problem where all curves are concave, and bounds it elsewhere: the dual is the problem with each curve replaced by
//! its concave envelope. For S-shaped curves branch and bound splits the campaign whose spend lies on a straight part of
//! its envelope, until bound and best plan meet (Horst and Tuy, "Global Optimization", 1996, chapter 4).
//!
//! What does not live here: forecasts (a campaign's daily potential comes as numbers) and everything on a wire.

mod branch;
mod curve;
mod error;
mod family;
mod fit;
mod plan;
mod problem;
mod relax;
mod response;

pub use curve::{Component, Curve};
pub use error::BudgetError;
pub use fit::{Fit, FitError, Model, Observation, Warning, fit};
pub use plan::{Binding, CampaignPlan, Effort, Plan, Spend, optimise};
pub use problem::{Campaign, Problem, Schedule, SpendBounds};
