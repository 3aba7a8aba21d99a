//! Runs one operation so many times: `instructions <operation> <times>`. `scripts/instructions.sh` counts its
//! instructions; without arguments the operations' names are printed.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "operations/mod.rs"]
mod operations;

fn main() {
    // What cargo adds begins with a dash.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut operations = operations::all();
    let [name, times] = &arguments[..] else {
        return operations.iter().for_each(|(name, _)| println!("{name}"));
    };
    let (_, operation) = operations.iter_mut().find(|(known, _)| known == name).unwrap();
    (0..times.parse().unwrap()).for_each(|_: u32| operation());
}
