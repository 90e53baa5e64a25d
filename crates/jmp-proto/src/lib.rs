//! Wire messages of Jumpstarter and the code generated from them.
//!
//! The text in `proto/` is our own; field numbers, names and service paths are those observed on
//! the released 0.9.0 peers. [`jumpstarter::v1`] is the shared wire contract, [`jmp::v1`] holds
//! what only this implementation answers. Nothing outside this crate and `jmp-wire` should need
//! to know how the code is generated.

#![allow(missing_docs, clippy::all, clippy::disallowed_methods)]

/// Services and messages that every Jumpstarter implementation shares.
pub mod jumpstarter {
    /// Package `jumpstarter.v1`.
    pub mod v1 {
        tonic::include_proto!("jumpstarter.v1");
    }

    /// Package `jumpstarter.client`.
    pub mod client {
        /// Package `jumpstarter.client.v1`.
        pub mod v1 {
            tonic::include_proto!("jumpstarter.client.v1");
        }
    }
}

/// The standard health service of gRPC.
pub mod health {
    /// Package `grpc.health.v1`.
    pub mod v1 {
        tonic::include_proto!("grpc.health.v1");
    }
}

/// Services and messages of this implementation only.
pub mod jmp {
    /// Package `jmp.v1`.
    pub mod v1 {
        tonic::include_proto!("jmp.v1");
    }
}

pub use jumpstarter::v1;
