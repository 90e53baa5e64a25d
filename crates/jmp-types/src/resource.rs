//! The objects that a controller keeps, in the shape of their custom resources
//! (`jumpstarter.dev/v1alpha1`, facts: controller 1.1): what a store holds as JSON, what
//! `jmp admin get -o json` prints and what `jmp admin apply` reads.
//!
//! Start reading at [`Lease`]. Heartbeats and other live state are not here: they are never stored.

mod access_policy;
mod duration;
mod exporter;
mod identity;
mod lease;
mod metadata;
mod selector;

pub use access_policy::{AccessPolicy, AccessPolicySpec, ClientMatch, PolicyRule};
pub use duration::{GoDuration, GoDurationError};
pub use exporter::{Device, Exporter, ExporterSpec, ExporterStatusRecord};
pub use identity::{Administrator, Client, ClientSpec, ClientStatus, CredentialRecord, Router};
pub use lease::{Lease, LeaseSpec, LeaseStatus};
pub use metadata::{Condition, Key, Kind, Metadata, Reference};
pub use selector::{LabelSelector, Requirement};

/// `apiVersion` of every object.
pub const API_VERSION: &str = "jumpstarter.dev/v1alpha1";
/// Label of a lease that has ended; its absence is what "active" means to clients.
pub const LEASE_ENDED_LABEL: &str = "jumpstarter.dev/lease-ended";
/// What precedes the key of a user's tag among the labels of a lease.
pub const TAG_PREFIX: &str = "metadata.jumpstarter.dev/";
/// Labels that belong to the exporter process and are replaced whenever it registers.
pub const PROCESS_LABEL_PREFIX: &str = "jumpstarter.dev/";
