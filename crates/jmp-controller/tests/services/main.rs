//! The services for clients and administrators over the real engine and a store in memory, called with
//! the generated clients. Time is virtual.

mod admin;
mod audit;
mod backup;
mod lab;
mod leases;
mod lists;
mod tokens;
mod watches;
