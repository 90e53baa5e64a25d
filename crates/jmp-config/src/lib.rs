//! Configuration: files, environment, precedence with provenance, and errors that point.
//!
//! From outside in: [`Store`] finds and writes files below [`Paths`]; [`Store::effective_client`] and
//! [`Store::effective_exporter`] put flags and environment on top and say where each value came from;
//! [`ClientConfig`], [`ExporterConfig`] and [`UserConfig`] are what a file says; [`Document`] is the located
//! tree they are read from, with which a driver's complaint about a parameter becomes a line and a column
//! ([`ExporterConfig::locate`], [`ExporterConfig::parameter_error`]).
//!
//! Invariants: nothing here reads the process's environment ([`Environment`] is handed in); no secret is in
//! a message, a `Debug` or a listing; no misspelt key loses a driver; reading creates no file.
//! Whether a driver's parameters fit the driver is not decided here but in the driver SDK.

mod decode;
mod diagnostic;
mod document;
mod effective;
mod environment;
mod error;
mod kinds;
mod nearest;
mod node;
mod provenance;
mod reader;
mod redact;
mod save;
mod store;

pub use diagnostic::{ConfigError, Diagnostic, Severity};
pub use document::{Document, Location, Source, Span, Spot};
pub use effective::{EffectiveClient, EffectiveExporter, Flags};
pub use environment::{Environment, Paths, ProcessEnvironment, SYSTEM_EXPORTERS};
pub use error::{Error, Kind};
pub use jmp_types::Secret;
pub use kinds::access::{AccessConfig, AccessKind, AdminConfig};
pub use kinds::client::{ClientConfig, DriverAdmission, LeaseOptions, ShellOptions};
pub use kinds::common::{API_VERSION, GrpcOptions, Metadata, Tls};
pub use kinds::export::{ExportMap, ExportNode};
pub use kinds::exporter::{ExporterConfig, FailureDetection, Hook, Hooks, OnFailure};
pub use kinds::user::UserConfig;
pub use nearest::{nearest, ranked};
pub use node::{Entry, Key, Mapping, Node, Scalar, Value};
pub use provenance::{Origin, ShownValue, Sourced};
pub use redact::{is_secret_key, json as redact_json};
pub use store::{Deleted, Listed, Loaded, Place, Store};

/// Body of the fuzz target: any bytes are read, complained about, written and shown without a panic, and
/// what was written is read back as the same configuration.
///
/// # Panics
/// When a saved configuration does not come back as it was, which is a bug.
#[doc(hidden)]
pub fn fuzz_exporter_yaml(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let document = Document::parse("fuzz.yaml", bytes)?;
        let read = ExporterConfig::from_document(&document)?;
        Ok::<_, ConfigError>((document, read))
    };
    match read(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok((document, (config, warnings))) => {
            for warning in warnings {
                assert!(!warning.to_string().is_empty());
            }
            for (name, _) in config.export.iter() {
                assert!(ExporterConfig::locate(&document, &[name], &["x", "0"]).is_some());
            }
            let saved = save::to_yaml(&config.to_json()).expect("every configuration can be saved");
            let (_, (again, _)) = read(saved.as_bytes())
                .unwrap_or_else(|error| panic!("cannot read back:\n{saved}\n{error}"));
            assert_eq!(again.to_json(), config.to_json(), "{saved}");
        }
    }
}
