//! A load generator for gRPC servers that share a machine with it: cheap in processor time, honest about latency.
//!
//! What lives here: a client of bare HTTP/2 ([`client`]), arrival times ([`schedule`]), the open and the closed loop
//! ([`load`]), what they measured ([`tally`]), requests to send ([`requests`]), verdicts ([`slo`]) and reports
//! ([`report`]). What does not: decoding of replies; only their status is read.
//!
//! ```text
//! requests ─┐
//! schedule ─┴→ load ─→ client ─gRPC→ server
//!               └→ tally ─→ slo, report
//! ```
//!
//! An open loop sends when the schedule says so, whether or not earlier calls were answered, and measures each call
//! from the moment it was due. A closed loop waits for each answer before the next call, as the benchmark of ceilings
//! wants it.

pub mod client;
pub mod code;
pub mod load;
pub mod machine;
pub mod process;
pub mod report;
pub mod requests;
pub mod schedule;
pub mod slo;
pub mod tally;
mod timer;
