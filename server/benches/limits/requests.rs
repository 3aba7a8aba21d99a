//! The requests that the load is made of.

use std::path::Path;

use aibuyer_loadtest::requests::{Entities, Form, Keys, Pool, Synthetic};

/// One kind of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) model: &'static str,
    pub(crate) form: Form,
    /// Features that a request's candidates share.
    pub(crate) context: &'static [&'static str],
    /// In each request.
    pub(crate) candidates: u32,
    /// At once.
    pub(crate) callers: usize,
}

impl Scenario {
    /// Requests, all different, for the version in `folder`. Uniform keys: caches meet their worst case.
    pub(crate) fn pool(self, folder: &Path) -> Pool {
        let context = self.context.iter().map(|name| (*name).to_owned()).collect();
        let (form, candidates) = (self.form, self.candidates);
        let (keys, entities) = (Keys::Uniform, Entities::default());
        let wanted = Synthetic { form, keys, candidates, context, entities, count: 256, seed: 7 };
        wanted.pool(folder).unwrap_or_else(|e| panic!("{e}"))
    }
}
