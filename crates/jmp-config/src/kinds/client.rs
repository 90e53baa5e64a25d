//! Client configuration: `clients/<alias>.yaml`.
//!
//! Every setting is optional in the struct, so that its origin can be told; methods give the defaults.

use std::time::Duration;

use jmp_types::Secret;
use serde_json::{Map, Number, Value};

use crate::decode::{At, Decoder, UnknownKeys};
use crate::diagnostic::{ConfigError, Diagnostic};
use crate::document::Document;
use crate::kinds::common::{
    Expected, GrpcOptions, Metadata, Tls, endpoint, grpc_options, header, header_json, metadata,
    put, put_tls, tls,
};

const EXPECTED: Expected = Expected {
    kinds: &["ClientConfig", "Client"],
    name: "a client configuration",
};
const KEYS: [&str; 12] = [
    "apiVersion",
    "kind",
    "metadata",
    "endpoint",
    "tls",
    "token",
    "refresh_token",
    "grpcOptions",
    "grpcConfig",
    "drivers",
    "shell",
    "leases",
];
/// The shortest acquisition and dial time-out that is accepted.
pub(crate) const SHORTEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client reaches its controller and what it may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// Who the client is.
    pub metadata: Metadata,
    /// `host[:port]` of the controller; the default port is 443.
    pub endpoint: Option<String>,
    /// How the controller's certificate is checked.
    pub tls: Tls,
    /// Bearer token, opaque or JWT.
    pub token: Option<Secret>,
    /// For getting a new token.
    pub refresh_token: Option<Secret>,
    /// Channel options.
    pub grpc_options: GrpcOptions,
    /// Which driver clients may run here.
    pub drivers: DriverAdmission,
    /// Settings of `jmp shell`.
    pub shell: ShellOptions,
    /// Patience.
    pub leases: LeaseOptions,
}

/// Which driver clients may run on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverAdmission {
    /// Globs on client class paths; the member `UNSAFE` allows everything.
    pub allow: Option<Vec<String>>,
    /// Allow everything.
    pub unsafe_all: Option<bool>,
}

/// Settings of `jmp shell`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShellOptions {
    /// Load the shell's own start-up files; off unless set.
    pub use_profiles: Option<bool>,
}

/// How long to wait for leases and exporters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseOptions {
    /// For a lease to become ready, at least 5 s.
    pub acquisition_timeout: Option<Duration>,
    /// For trying other exporters when one is unreachable; zero disables that.
    pub retry_timeout: Option<Duration>,
    /// For reaching an exporter, at least 5 s.
    pub dial_timeout: Option<Duration>,
}

// === impl LeaseOptions ===

impl LeaseOptions {
    /// Two hours, as in 0.9.0.
    pub const DEFAULT_ACQUISITION: Duration = Duration::from_secs(7200);
    /// Five minutes, as in 0.9.0.
    pub const DEFAULT_RETRY: Duration = Duration::from_secs(300);
    /// Thirty seconds, as in 0.9.0.
    pub const DEFAULT_DIAL: Duration = Duration::from_secs(30);
}

// === impl ClientConfig ===

impl ClientConfig {
    /// Reads the document.
    ///
    /// # Errors
    /// [`ConfigError`] with every complaint about the file.
    pub fn from_document(document: &Document) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        let mut decoder = Decoder::new(document);
        header(&mut decoder, document, &EXPECTED);
        if decoder.has_errors() {
            // Complaints about the keys of another kind of file would only distract.
            return decoder.finish(Self::default());
        }
        let root = At::root(document);
        decoder.unknown_keys(
            &root,
            &KEYS,
            UnknownKeys::Reject,
            "the client configuration",
        );
        let config = Self {
            metadata: metadata(&mut decoder, &root, UnknownKeys::Reject),
            endpoint: endpoint(&mut decoder, &root),
            tls: tls(&mut decoder, &root),
            token: decoder.string(&root, "token").map(Secret::new),
            refresh_token: decoder.string(&root, "refresh_token").map(Secret::new),
            grpc_options: grpc_options(&mut decoder, &root),
            drivers: drivers(&mut decoder, &root),
            shell: shell(&mut decoder, &root),
            leases: leases(&mut decoder, &root),
        };
        decoder.finish(config)
    }

    /// The file's content, tokens included: for saving, never for showing (see [`ClientConfig::shown`]).
    /// Keys in the documented order; nulls and defaults are left out, except that `drivers` is always
    /// there, since 0.9.0 requires it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut map = header_json(EXPECTED.kinds[0], &self.metadata);
        put(&mut map, "endpoint", self.endpoint.clone());
        put_tls(&mut map, &self.tls);
        put(&mut map, "token", self.token.as_ref().map(Secret::expose));
        put(
            &mut map,
            "refresh_token",
            self.refresh_token.as_ref().map(Secret::expose),
        );
        if !self.grpc_options.is_empty() {
            map.insert("grpcOptions".into(), self.grpc_options.clone().into());
        }
        let allow = self.drivers.allow.clone().unwrap_or_default();
        let unsafe_all = self.drivers.unsafe_all.unwrap_or_default();
        let drivers = serde_json::json!({"allow": allow, "unsafe": unsafe_all});
        map.insert("drivers".into(), drivers);
        if self.shell.use_profiles == Some(true) {
            map.insert("shell".into(), serde_json::json!({"use_profiles": true}));
        }
        let leases = self.leases.to_json();
        if !leases.is_empty() {
            map.insert("leases".into(), leases.into());
        }
        map.into()
    }

    /// The content with secrets replaced, for `-o json`.
    #[must_use]
    pub fn shown(&self) -> Value {
        crate::redact::json(&self.to_json())
    }
}

impl LeaseOptions {
    fn to_json(&self) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value, default) in [
            (
                "acquisition_timeout",
                self.acquisition_timeout,
                Self::DEFAULT_ACQUISITION,
            ),
            ("retry_timeout", self.retry_timeout, Self::DEFAULT_RETRY),
            ("dial_timeout", self.dial_timeout, Self::DEFAULT_DIAL),
        ] {
            let value = value.filter(|value| *value != default);
            put(&mut map, key, value.and_then(seconds_json));
        }
        map
    }
}

/// Whole seconds as an integer, because 0.9.0 insists on one in places.
pub(crate) fn seconds_json(duration: Duration) -> Option<Number> {
    if duration.subsec_nanos() == 0 {
        Some(Number::from(duration.as_secs()))
    } else {
        Number::from_f64(duration.as_secs_f64())
    }
}

fn drivers(decoder: &mut Decoder, root: &At<'_>) -> DriverAdmission {
    let Some(at) = root.get("drivers") else {
        return DriverAdmission::default();
    };
    if decoder
        .mapping(&at, "a mapping with `allow` and `unsafe`")
        .is_none()
    {
        return DriverAdmission::default();
    }
    decoder.unknown_keys(&at, &["allow", "unsafe"], UnknownKeys::Reject, "`drivers`");
    DriverAdmission {
        allow: decoder.list(&at, "allow"),
        unsafe_all: decoder.boolean(&at, "unsafe"),
    }
}

fn shell(decoder: &mut Decoder, root: &At<'_>) -> ShellOptions {
    let Some(at) = root.get("shell") else {
        return ShellOptions::default();
    };
    if decoder
        .mapping(&at, "a mapping with `use_profiles`")
        .is_none()
    {
        return ShellOptions::default();
    }
    decoder.unknown_keys(&at, &["use_profiles"], UnknownKeys::Warn, "`shell`");
    ShellOptions {
        use_profiles: decoder.boolean(&at, "use_profiles"),
    }
}

fn leases(decoder: &mut Decoder, root: &At<'_>) -> LeaseOptions {
    let Some(at) = root.get("leases") else {
        return LeaseOptions::default();
    };
    if decoder.mapping(&at, "a mapping of time-outs").is_none() {
        return LeaseOptions::default();
    }
    let known = ["acquisition_timeout", "retry_timeout", "dial_timeout"];
    decoder.unknown_keys(&at, &known, UnknownKeys::Reject, "`leases`");
    LeaseOptions {
        acquisition_timeout: decoder.duration(&at, "acquisition_timeout", SHORTEST_TIMEOUT),
        retry_timeout: decoder.duration(&at, "retry_timeout", Duration::ZERO),
        dial_timeout: decoder.duration(&at, "dial_timeout", SHORTEST_TIMEOUT),
    }
}
