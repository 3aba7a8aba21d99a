//! A store whose rows a test sets.

use std::{
    collections::HashMap,
    panic,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::time;

use crate::{
    Answer, Lookup,
    store::{FeatureStore, Fetch, Rows, StoreError, bytes},
    view::{EntityKey, FeatureRow, FeatureValue, FeatureView},
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Rows that hold one number each.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) rows: Mutex<HashMap<EntityKey, i64>>,
    pub(crate) state: Mutex<State>,
    /// The keys of each query; none where it was for all rows.
    pub(crate) queries: Mutex<Vec<Vec<EntityKey>>>,
    pub(crate) takes: Duration,
}

#[derive(Default, Clone, Copy, PartialEq)]
pub(crate) enum State {
    #[default]
    Up,
    Down,
    Panics,
}

impl Fake {
    async fn answer(&self, view: &FeatureView, keys: &[EntityKey]) -> Result<(), StoreError> {
        self.queries.lock().unwrap().push(keys.to_vec());
        time::sleep(self.takes).await;
        let state = *self.state.lock().unwrap();
        match state {
            State::Down => Err(StoreError::Broken(view.name)),
            State::Panics => panic::resume_unwind(Box::new("as told")),
            State::Up => Ok(()),
        }
    }
}

impl FeatureStore for Fake {
    fn fetch<'a>(&'a self, view: &'a FeatureView, keys: &'a [EntityKey]) -> Fetch<'a> {
        Box::pin(async move {
            self.answer(view, keys).await?;
            let rows = self.rows.lock().unwrap();
            Ok(keys.iter().filter_map(|key| Some((key.clone(), row(*rows.get(key)?)))).collect())
        })
    }

    fn fetch_all<'a>(&'a self, view: &'a FeatureView, most: u64, _: Duration) -> Fetch<'a> {
        Box::pin(async move {
            self.answer(view, &[]).await?;
            let rows: Rows =
                self.rows.lock().unwrap().iter().map(|(key, number)| (key.clone(), row(*number))).collect();
            if rows.iter().map(|(key, row)| bytes(key, row)).sum::<u64>() > most {
                return Err(StoreError::TooLarge { view: view.name, table: view.table, most });
            }
            Ok(rows)
        })
    }
}

fn row(number: i64) -> FeatureRow {
    let values = Arc::new([FeatureValue::Integer(number)]);
    FeatureRow { computed_at: SystemTime::UNIX_EPOCH, values }
}

pub(crate) fn key(number: usize) -> EntityKey {
    EntityKey::new(&format!("camp_{number}")).unwrap()
}

/// Answers in short: P or S and the number, A, or E.
pub(crate) fn seen(answers: &[Answer<'_>]) -> Vec<String> {
    let number = |row: &FeatureRow| match row.values[0] {
        FeatureValue::Integer(number) => number,
        _ => panic!("{row:?}"),
    };
    let one = |answer: &Answer<'_>| match answer {
        Ok(Lookup::Present(row)) => format!("P{}", number(row)),
        Ok(Lookup::Stale(row)) => format!("S{}", number(row)),
        Ok(Lookup::Absent) => "A".to_owned(),
        Err(_) => "E".to_owned(),
    };
    answers.iter().map(one).collect()
}
