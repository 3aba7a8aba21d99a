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
use aibuyer_proto::serving::v1 as pb;
use prost::Message as _;

pub(crate) const CANDIDATES: usize = 32;

/// By name, what runs once when called.
pub(crate) type Operation = (&'static str, Box<dyn FnMut()>);

/// All of them, ready to run.
pub(crate) fn all() -> Vec<Operation> {
    vec![
        ("decode", Box::new(decode())),
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

/// A message of named columns: lists of words, numbers, and what all candidates share.
fn named() -> pb::PredictCtrRequest {
    let words = ["a", "dog", "learns", "to", "fly", "and", "nobody", "in", "town", "is", "surprised"];
    let values = words.iter().cycle().take(CANDIDATES * words.len()).collect();
    let lengths = vec![11; CANDIDATES];
    let column = |name: &str, values| pb::Column { name: name.to_owned(), values: Some(values), missing: vec![] };
    let week = pb::StringValues { values: ["201303"].iter().collect() };
    let chars = pb::Int64Values { values: (40..).take(CANDIDATES).collect() };
    pb::PredictCtrRequest {
        context: vec![column("week", pb::column::Values::Strings(week))],
        candidates: vec![
            column("headline", pb::column::Values::StringLists(pb::StringListValues { values, lengths })),
            column("headline_chars", pb::column::Values::Int64s(chars)),
        ],
        ..Default::default()
    }
}

/// Bytes to a message of named columns, dropped again.
fn decode() -> impl FnMut() {
    let wire = named().encode_to_vec();
    move || assert_eq!(pb::PredictCtrRequest::decode(&*wire).unwrap().candidates.len(), 2)
}

/// Named columns to rows.
fn encode() -> impl FnMut() {
    use pb::column::Values as V;
    let (encoder, request) = (model().encoder, named());
    move || {
        let columns = request.context.iter().chain(&request.candidates);
        let columns: Vec<Column> = columns
            .map(|column| {
                let values = match column.values.as_ref().unwrap() {
                    V::Strings(v) => Values::Strings(v.values.as_slice()),
                    V::Int64s(v) => Values::Int64s(&v.values),
                    V::StringLists(v) => Values::StringLists { values: v.values.as_slice(), lengths: &v.lengths },
                    V::Doubles(_) | V::Bools(_) => panic!("the request has none"),
                };
                Column { name: &column.name, values, missing: &[] }
            })
            .collect();
        let (context, candidates) = columns.split_at(request.context.len());
        let encoded = encoder.encode(context, candidates, CANDIDATES).unwrap();
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
