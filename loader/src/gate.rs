//! Stub.
use crate::{error::LoadError, servable::Servable, stages::Warmed};

/// Gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// Factor.
    pub max_slowdown: f64,
    /// Rule.
    pub signature: SignatureRule,
}
/// Rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureRule {
    /// A.
    Compatible,
    /// B.
    Any,
}
/// Check.
///
/// # Errors
/// Never.
pub fn check(_candidate: &Warmed, _serving: &Servable, _gate: &Gate) -> Result<(), LoadError> {
    Ok(())
}
