//! Timings of what a request goes through besides the model.

#![allow(clippy::unwrap_used)]

#[path = "operations/mod.rs"]
mod operations;

use std::cell::RefCell;

use divan::{Bencher, counter::ItemsCount};
use operations::CANDIDATES;

fn main() {
    divan::main();
}

#[divan::bench(args = ["encode", "assemble", "queue", "gather", "reply"])]
fn of_32_candidates(bencher: Bencher, name: &str) {
    let (_, operation) = operations::all().into_iter().find(|(known, _)| *known == name).unwrap();
    let operation = RefCell::new(operation);
    bencher.counter(ItemsCount::new(CANDIDATES)).bench_local(|| operation.borrow_mut()());
}
