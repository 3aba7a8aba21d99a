//! How stored features are kept and waited for.

use std::time::Duration;

use aibuyer_domain::feature_view::FeatureView;
use aibuyer_features::CacheOptions;

use super::{ConfigError, reader::Reader};

/// How stored features are kept and waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeaturesConfig {
    /// Ages and size of each view's cache.
    pub cache: CacheOptions,
    /// Names of the views that are kept whole.
    pub mirror: Vec<String>,
    /// How often those are fetched.
    pub mirror_interval: Duration,
    /// How long a query may take.
    pub query_timeout: Duration,
    /// How long a request waits for a query.
    pub max_wait: Duration,
}

impl FeaturesConfig {
    pub(super) fn new(r: &Reader) -> Result<Self, ConfigError> {
        let least = Duration::from_millis(1);
        let cache = CacheOptions {
            soft_age: r.duration("features.soft_age", least)?,
            hard_age: r.duration("features.hard_age", least)?,
            absent_age: r.duration("features.absent_age", least)?,
            capacity: r.integer("features.cache_bytes", 1 << 20, usize::MAX)? as u64,
        };
        if cache.hard_age < cache.soft_age {
            return Err(r.fail("features.hard_age", "needs at least features.soft_age"));
        }
        let mirror: Vec<String> = r.list("features.mirror")?;
        let views = FeatureView::all();
        if let Some(unknown) = mirror.iter().find(|name| views.iter().all(|view| view.name != *name)) {
            let known: Vec<_> = views.iter().map(|view| view.name).collect();
            let needs = format!("there is no view {unknown:?}; there are {}", known.join(", "));
            return Err(r.fail("features.mirror", &needs));
        }
        Ok(Self {
            cache,
            mirror,
            mirror_interval: r.duration("features.mirror_interval", Duration::from_secs(1))?,
            query_timeout: r.duration("features.query_timeout", least)?,
            max_wait: r.duration("features.max_wait", Duration::ZERO)?,
        })
    }
}
