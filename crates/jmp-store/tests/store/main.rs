//! The promises of the store, of both implementations and under harm.

mod content;
mod damage;
mod files;
mod full;
mod killed;
mod memory;
mod model;
mod suite;
