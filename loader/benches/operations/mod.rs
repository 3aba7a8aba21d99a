//! What a request goes through besides the model, for 32 candidates of the demo model.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use aibuyer_domain::{
    ctr::{Assembler, Column, Level, SplitTensor, Values, estimate},
    model::{ServableId, Version},
};
use aibuyer_loader::{
    batch::{
        BatchLimits,
        cost::CostModel,
        queue::{Dropped, Entry, Priority},
        scheduler::{Poll, Scheduler},
    },
    stages::{Checked, CtrFiles, Fetched, Kind},
    tensor::{Elements, Tensor},
};

pub(crate) const CANDIDATES: usize = 32;

/// By name, what runs once when called.
pub(crate) type Operation = (&'static str, Box<dyn FnMut()>);

/// All of them, ready to run.
pub(crate) fn all() -> Vec<Operation> {
    vec![
        ("encode", Box::new(encode())),
        ("assemble", Box::new(assemble())),
        ("queue", Box::new(queue())),
        ("gather", Box::new(gather())),
        ("reply", Box::new(reply())),
    ]
}

fn model() -> Box<CtrFiles> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/ctr-upworthy/1");
    let id = ServableId { name: "ctr-upworthy".parse().unwrap(), version: Version::new(1).unwrap() };
    match Fetched::local(id, folder).verify().unwrap() {
        Checked::Graph(verified) => match verified.kind {
            Kind::Ctr(files) => files,
            Kind::Window(_) | Kind::Plain => panic!("the demo model is a CTR model"),
        },
        Checked::Forecast(_) => panic!("the demo model is a CTR model"),
    }
}

/// Named columns to rows: lists of words, numbers, and what all candidates share.
fn encode() -> impl FnMut() {
    let encoder = model().encoder;
    let words: Vec<String> = ["a", "dog", "learns", "to", "fly", "and", "nobody", "in", "town", "is", "surprised"]
        .map(str::to_owned)
        .into_iter()
        .cycle()
        .take(CANDIDATES * 11)
        .collect();
    let lengths = vec![11u32; CANDIDATES];
    let chars: Vec<i64> = (40..).take(CANDIDATES).collect();
    let week = vec!["201303".to_owned()];
    move || {
        let context = [Column { name: "week", values: Values::Strings(&week), missing: &[] }];
        let columns = [
            Column {
                name: "headline",
                values: Values::StringLists { values: &words, lengths: &lengths },
                missing: &[],
            },
            Column { name: "headline_chars", values: Values::Int64s(&chars), missing: &[] },
        ];
        let encoded = encoder.encode(&context, &columns, CANDIDATES).unwrap();
        assert_eq!(encoded.rows.len, CANDIDATES);
    }
}

/// Tensors that the caller encoded to rows.
fn assemble() -> impl FnMut() {
    let spec = model().spec;
    let assembler = Assembler::new(&spec);
    let row: Vec<u8> =
        spec.id_bounds().iter().flat_map(|(low, _)| u32::try_from(*low).unwrap().to_le_bytes()).collect();
    let (ids, dense) = (row.repeat(CANDIDATES), vec![0; spec.columns() * 4 * CANDIDATES]);
    move || {
        let tensor = |candidates| SplitTensor { context_columns: &[], context: &[], candidates };
        let encoded = assembler.assemble(tensor(&ids), tensor(&dense), CANDIDATES).unwrap();
        assert_eq!(encoded.rows.len, CANDIDATES);
    }
}

struct Row(Instant);

impl Entry for Row {
    fn rows(&self) -> usize {
        1
    }
    fn deadline(&self) -> Instant {
        self.0
    }
    fn priority(&self) -> Priority {
        Priority::Normal
    }
    fn abandoned(&self) -> bool {
        false
    }
    fn cut(&mut self, _: usize) -> Self {
        Self(self.0)
    }
}

/// Single rows into a queue in which a thousand others wait, and a batch of as many out of it.
fn queue() -> impl FnMut() {
    let now = Instant::now();
    let limits = BatchLimits {
        max_batch_rows: CANDIDATES,
        preferred_batch_rows: CANDIDATES,
        queue_rows: 10_000,
        inline: Duration::ZERO,
        padded: false,
    };
    let cost = CostModel::new(&[1, 2, 4, 8, 16, 32].map(|rows| (rows, Duration::from_nanos(rows as u64)))).unwrap();
    let mut scheduler = Scheduler::new(1, limits, cost, now);
    // Deadlines from 1 to 2 s, not in the order of arrival.
    let mut deadlines = (0u64..).map(move |n| now + Duration::from_millis(1000 + n * 7919 % 1000));
    let mut push = move |scheduler: &mut Scheduler<Row>| {
        let entry = Row(deadlines.next().unwrap());
        scheduler.arrived(now);
        scheduler.push(entry, now, &mut Dropped::default()).unwrap();
    };
    (0..1000).for_each(|_| push(&mut scheduler));
    move || {
        (0..CANDIDATES).for_each(|_| push(&mut scheduler));
        let Poll::Run(batch) = scheduler.poll(now, &mut Dropped::default()) else { panic!("nothing to run") };
        assert_eq!(batch.len(), CANDIDATES);
    }
}

/// Single rows of several requests into a batch's tensor.
fn gather() -> impl FnMut() {
    let row = Tensor::matrix(1, Elements::I64(vec![7; 26]));
    let mut batch = row.empty_like(CANDIDATES);
    move || {
        batch.clear();
        (0..CANDIDATES).for_each(|_| batch.append(&row, 0..1));
        assert_eq!(batch.rows(), CANDIDATES);
    }
}

/// Logits and variances to rates and intervals.
fn reply() -> impl FnMut() {
    let level = Level::new(0.9).unwrap();
    let logits: Vec<f32> = (0u8..).take(CANDIDATES).map(|n| -4.0 + f32::from(n) / 16.0).collect();
    move || {
        let upper: f64 = logits.iter().map(|z| estimate(*z, Some(0.2), level).unwrap().bounds.unwrap().1).sum();
        assert!(upper > 0.0);
    }
}
