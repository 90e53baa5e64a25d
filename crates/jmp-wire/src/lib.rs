//! How bytes and values travel: frames, streams, connections, resources and the value codec.
//!
//! Start reading at [`stream`]: everything else makes, carries or transforms a
//! [`stream::ByteStream`]. [`rpc`] puts streams on the wire, [`connection`] owns the HTTP/2
//! connections, [`value`] turns Rust values into what driver calls carry.

pub mod authority;
pub mod backoff;
pub mod compression;
pub mod connection;
pub mod endpoint;
pub mod frame;
mod held;
pub mod read_ahead;
pub mod resource;
pub mod rpc;
pub mod stream;
pub mod tls;
pub mod value;
