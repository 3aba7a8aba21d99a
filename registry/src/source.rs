//! What every registry can be asked.

use aibuyer_domain::model::DesiredState;

/// A registry that can be looked at. Blocking: called on the watcher's thread.
pub trait Registry: Send {
    /// Looks at the registry.
    ///
    /// # Errors
    /// [`ScanError`] when nothing is known about any model: what was known before stands. A model that cannot be
    /// understood is a problem in the result.
    fn scan(&mut self) -> Result<Scan, ScanError>;

    /// Looks at what it has of one model; the rest is as in the last look. Looks at everything where that is as cheap.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    fn scan_model(&mut self, _name: &str, _last: &Scan) -> Result<Scan, ScanError> {
        self.scan()
    }
}

impl Registry for Box<dyn Registry> {
    fn scan(&mut self) -> Result<Scan, ScanError> {
        (**self).scan()
    }

    fn scan_model(&mut self, name: &str, last: &Scan) -> Result<Scan, ScanError> {
        (**self).scan_model(name, last)
    }
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// What should serve.
    pub desired: DesiredState,
    /// What could not be understood, for a person to read. Models named here may be absent from `desired`;
    /// the loader keeps serving what it has of them.
    pub problems: Vec<String>,
}

/// The registry cannot be looked at; the text says why and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScanError(pub String);
