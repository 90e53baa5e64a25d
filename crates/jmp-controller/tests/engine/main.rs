//! What exporters and routers see of the controller, over the real engine and real connections. Time is
//! virtual but where a thread of a store or a socket of the system takes part.

#[path = "../services/lab.rs"]
#[allow(
    dead_code,
    reason = "shared with the tests of the services for clients"
)]
mod lab;

mod world;

mod admission;
mod dial;
mod failures;
mod figures;
mod legacy;
mod listen;
mod reports;
mod restarts;
mod routers;
mod status;
mod takeover;
mod tokens;
mod upkeep;
