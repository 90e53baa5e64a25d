//! The router with real HTTP/2 peers: in memory, over TLS, and from Python.

mod control;
mod ends;
mod flow;
mod limits;
mod network;
mod python;
mod support;
