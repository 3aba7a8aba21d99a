//! What is wrong with a budget problem, and what to do about it.

use crate::ErrorKind;

/// A problem that cannot be solved as it was put.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BudgetError {
    /// Nothing to spend on.
    #[error("no campaigns: name at least one")]
    NoCampaigns,
    /// Not an amount.
    #[error("budget {0} must be a finite amount, 0 or more")]
    Budget(f64),
    /// Two campaigns of one name: a reply could not tell them apart.
    #[error("campaign {0:?} stands twice: merge its entries or rename one")]
    Duplicate(String),
    /// A field of a campaign that is out of range or contradicts another.
    #[error("campaign {campaign:?}: {field}: {reason}")]
    Field {
        /// The campaign's id.
        campaign: String,
        /// Path of the field, as `curve.components[2].curve.kappa`.
        field: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The minima alone cost more than there is.
    #[error("the campaigns' minimum spends add up to {needed}, the budget is {budget}: raise it or lower minima")]
    Infeasible {
        /// Sum of the minima.
        needed: f64,
        /// The budget.
        budget: f64,
    },
}

impl BudgetError {
    /// What the failure means to the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
