//! Exporter configuration: `exporters/<alias>.yaml`.

use std::fmt;
use std::time::Duration;

use jmp_types::Secret;
use serde_json::{Map, Value, json};

use crate::decode::{At, Decoder, UnknownKeys};
use crate::diagnostic::{ConfigError, Diagnostic};
use crate::document::{Document, Location, Spot};
use crate::kinds::client::seconds_json;
use crate::kinds::common::{
    Expected, GrpcOptions, Metadata, Tls, endpoint, grpc_options, header, header_json, metadata,
    one_of, put, put_tls, tls,
};
use crate::kinds::export::{ExportMap, export};

const EXPECTED: Expected = Expected {
    kinds: &["ExporterConfig", "Exporter"],
    name: "an exporter configuration",
};
/// Keys as they are written, in the documented order.
const KEYS: [&str; 16] = [
    "apiVersion",
    "kind",
    "metadata",
    "endpoint",
    "token",
    "tls",
    "grpcOptions",
    "grpcConfig",
    "description",
    "motd",
    "export",
    "hooks",
    "failureDetection",
    "failure_detection",
    "exitOnLeaseEnd",
    "exit_on_lease_end",
];

/// What an exporter serves and where it registers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExporterConfig {
    /// Who the exporter is.
    pub metadata: Metadata,
    /// `host[:port]` of the controller; absent or empty for local use.
    pub endpoint: Option<String>,
    /// Bearer token; absent or empty for local use.
    pub token: Option<Secret>,
    /// How the controller's certificate is checked.
    pub tls: Tls,
    /// Channel options.
    pub grpc_options: GrpcOptions,
    /// Help text of the root of the device tree.
    pub description: Option<String>,
    /// Printed before interactive shells.
    pub motd: Option<String>,
    /// The drivers.
    pub export: ExportMap,
    /// Commands around a lease.
    pub hooks: Hooks,
    /// When to give up restarting.
    pub failure_detection: FailureDetection,
    /// End the process when a lease ends.
    pub exit_on_lease_end: bool,
}

/// Commands that run around a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before the client is let in.
    pub before_lease: Option<Hook>,
    /// After it has gone.
    pub after_lease: Option<Hook>,
}

/// One hook.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// One line naming an existing file, or a script for `exec`.
    pub script: String,
    /// The interpreter; `/bin/sh` unless set (or the script file's own).
    pub exec: Option<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// What a failure means.
    pub on_failure: OnFailure,
}

/// What the failure of a hook means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// A warning to the client; the lease goes on.
    #[default]
    Warn,
    /// The lease ends.
    EndLease,
    /// The exporter ends.
    Exit,
}

/// How many children ending within the window make `jmp run` give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureDetection {
    /// Rapid failures in a row.
    pub max_rapid_failures: u32,
    /// A child that lives shorter than this failed rapidly.
    pub rapid_failure_window: Duration,
}

impl Default for FailureDetection {
    fn default() -> Self {
        Self {
            max_rapid_failures: 5,
            rapid_failure_window: Duration::from_secs(60),
        }
    }
}

// === impl Hook ===

impl Hook {
    /// Two minutes, as in 0.9.0.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("script".into(), self.script.as_str().into());
        put(&mut map, "exec", self.exec.clone());
        if self.timeout != Self::DEFAULT_TIMEOUT {
            put(&mut map, "timeout", seconds_json(self.timeout));
        }
        if self.on_failure != OnFailure::Warn {
            map.insert("onFailure".into(), self.on_failure.as_str().into());
        }
        map.into()
    }
}

/// The script is left out: it may hold credentials.
impl fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Hook")
            .field("exec", &self.exec)
            .field("timeout", &self.timeout)
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}

// === impl OnFailure ===

impl OnFailure {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::EndLease => "endLease",
            Self::Exit => "exit",
        }
    }
}

// === impl ExporterConfig ===

impl ExporterConfig {
    /// Reads the document.
    ///
    /// # Errors
    /// [`ConfigError`] with every complaint about the file.
    pub fn from_document(document: &Document) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        let mut decoder = Decoder::new(document);
        if let Some(diagnostic) = lone_driver(document) {
            decoder.push(diagnostic);
            return decoder.finish(Self::default());
        }
        header(&mut decoder, document, &EXPECTED);
        if decoder.has_errors() {
            // Complaints about the keys of another kind of file would only distract.
            return decoder.finish(Self::default());
        }
        let root = At::root(document);
        let place = "the exporter configuration";
        decoder.unknown_keys(&root, &KEYS, UnknownKeys::RejectNear, place);
        let config = Self {
            metadata: metadata(&mut decoder, &root, UnknownKeys::RejectNear),
            endpoint: endpoint(&mut decoder, &root),
            token: decoder.string(&root, "token").map(Secret::new),
            tls: tls(&mut decoder, &root),
            grpc_options: grpc_options(&mut decoder, &root),
            description: decoder.string(&root, "description"),
            motd: decoder.string(&root, "motd"),
            export: export(&mut decoder, document, &root),
            hooks: hooks(&mut decoder, &root),
            failure_detection: failure_detection(&mut decoder, &root),
            exit_on_lease_end: decoder
                .boolean(&root, "exitOnLeaseEnd")
                .or_else(|| decoder.boolean(&root, "exit_on_lease_end"))
                .unwrap_or_default(),
        };
        decoder.finish(config)
    }

    /// The file's content, secrets included: for saving, never for showing (see
    /// [`ExporterConfig::shown`]). Keys in the documented order, nulls and defaults left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut map = header_json(EXPECTED.kinds[0], &self.metadata);
        put(&mut map, "endpoint", self.endpoint.clone());
        put(&mut map, "token", self.token.as_ref().map(Secret::expose));
        put_tls(&mut map, &self.tls);
        if !self.grpc_options.is_empty() {
            map.insert("grpcOptions".into(), self.grpc_options.clone().into());
        }
        put(&mut map, "description", self.description.clone());
        put(&mut map, "motd", self.motd.clone());
        map.insert("export".into(), self.export.to_json());
        let mut hooks = Map::new();
        put(
            &mut hooks,
            "beforeLease",
            self.hooks.before_lease.as_ref().map(Hook::to_json),
        );
        put(
            &mut hooks,
            "afterLease",
            self.hooks.after_lease.as_ref().map(Hook::to_json),
        );
        if !hooks.is_empty() {
            map.insert("hooks".into(), hooks.into());
        }
        if self.failure_detection != FailureDetection::default() {
            let detection = json!({
                "maxRapidFailures": self.failure_detection.max_rapid_failures,
                "rapidFailureWindow": seconds_json(self.failure_detection.rapid_failure_window),
            });
            map.insert("failureDetection".into(), detection);
        }
        if self.exit_on_lease_end {
            map.insert("exitOnLeaseEnd".into(), true.into());
        }
        map.into()
    }

    /// The content with secrets replaced, for `-o json`.
    #[must_use]
    pub fn shown(&self) -> Value {
        crate::redact::json(&self.to_json())
    }

    /// Where a parameter of a driver stands: `node_path` are the names from the export root
    /// (`["nested", "p1"]`), `config_path` the keys within its `config` (`["address", "txid"]`, members of
    /// lists numbered from 0). For a parameter that is missing, the nearest thing above it that is there.
    #[must_use]
    pub fn locate<N: AsRef<str>, C: AsRef<str>>(
        document: &Document,
        node_path: &[N],
        config_path: &[C],
    ) -> Option<Location> {
        document.locate(&config_keys(node_path, config_path), Spot::Value)
    }

    /// A message about a parameter of a driver, pointing at its key or its value.
    #[must_use]
    pub fn parameter_error<N: AsRef<str>, C: AsRef<str>>(
        document: &Document,
        node_path: &[N],
        config_path: &[C],
        spot: Spot,
        message: impl Into<String>,
    ) -> Diagnostic {
        document.error_at(&config_keys(node_path, config_path), spot, message)
    }

    /// A message about a driver entry itself, pointing at one of its keys, such as `type` or `ref`.
    #[must_use]
    pub fn entry_error<N: AsRef<str>>(
        document: &Document,
        node_path: &[N],
        key: &str,
        message: impl Into<String>,
    ) -> Diagnostic {
        let mut path = entry_keys(node_path);
        path.push(key.to_owned());
        document.error_at(&path, Spot::Value, message)
    }

    /// The text of a scalar parameter exactly as written (`007` where the JSON says 7), for a parameter
    /// that should be text.
    #[must_use]
    pub fn source_text<'d, N: AsRef<str>, C: AsRef<str>>(
        document: &'d Document,
        node_path: &[N],
        config_path: &[C],
    ) -> Option<&'d str> {
        let node = document.get(&config_keys(node_path, config_path))?;
        node.as_scalar().map(|scalar| scalar.text.as_str())
    }
}

/// `["nested", "p1"]` to `["export", "nested", "children", "p1"]`.
fn entry_keys<N: AsRef<str>>(node_path: &[N]) -> Vec<String> {
    let mut keys = Vec::with_capacity(2 * node_path.len() + 2);
    for (depth, name) in node_path.iter().enumerate() {
        keys.push(if depth == 0 { "export" } else { "children" }.to_owned());
        keys.push(name.as_ref().to_owned());
    }
    keys
}

fn config_keys<N: AsRef<str>, C: AsRef<str>>(node_path: &[N], config_path: &[C]) -> Vec<String> {
    let mut keys = entry_keys(node_path);
    keys.push("config".to_owned());
    keys.extend(config_path.iter().map(|key| key.as_ref().to_owned()));
    keys
}

/// The documentation of some drivers shows the bare entry; say where it goes.
fn lone_driver(document: &Document) -> Option<Diagnostic> {
    let root = document.root().as_mapping()?;
    let entry = root.entry("type")?;
    let header = ["apiVersion", "kind", "export"];
    if header.iter().any(|key| root.get(key).is_some()) {
        return None;
    }
    let shown = entry.value.as_scalar().map_or("…", |scalar| &scalar.text);
    Some(
        document
            .error_at(
                &["type"],
                Spot::Key,
                "this is one driver entry, not an exporter configuration",
            )
            .with_help(format!(
                "give it a name under `export:`, indented:\n  export:\n    NAME:\n      type: {shown}"
            )),
    )
}

fn hooks(decoder: &mut Decoder, root: &At<'_>) -> Hooks {
    let Some(at) = root.get("hooks") else {
        return Hooks::default();
    };
    if decoder
        .mapping(&at, "a mapping with `beforeLease` and `afterLease`")
        .is_none()
    {
        return Hooks::default();
    }
    let known = ["beforeLease", "afterLease", "before_lease", "after_lease"];
    decoder.unknown_keys(&at, &known, UnknownKeys::RejectNear, "`hooks`");
    Hooks {
        before_lease: hook(decoder, &at, ["beforeLease", "before_lease"]),
        after_lease: hook(decoder, &at, ["afterLease", "after_lease"]),
    }
}

fn hook(decoder: &mut Decoder, hooks: &At<'_>, keys: [&str; 2]) -> Option<Hook> {
    let at = keys.iter().find_map(|key| hooks.get(key))?;
    decoder.mapping(&at, "a mapping with `script`")?;
    let name = format!("`hooks.{}`", keys[0]);
    let known = ["script", "exec", "timeout", "onFailure", "on_failure"];
    decoder.unknown_keys(&at, &known, UnknownKeys::RejectNear, &name);
    let words = [
        ("warn", OnFailure::Warn),
        ("endLease", OnFailure::EndLease),
        ("exit", OnFailure::Exit),
    ];
    let on_failure = one_of(decoder, &at, "onFailure", &words)
        .or_else(|| one_of(decoder, &at, "on_failure", &words))
        .unwrap_or_default();
    let exec = decoder.string(&at, "exec");
    let timeout = decoder
        .duration(&at, "timeout", Duration::ZERO)
        .unwrap_or(Hook::DEFAULT_TIMEOUT);
    let Some(script) = decoder.string(&at, "script") else {
        if at.get("script").is_none() {
            let diagnostic = decoder
                .at(&at, at.node.span, format!("{name} has no `script`"))
                .with_help("write `script:` with a command, or the path of a script");
            decoder.push(diagnostic);
        }
        return None;
    };
    Some(Hook {
        script,
        exec,
        timeout,
        on_failure,
    })
}

fn failure_detection(decoder: &mut Decoder, root: &At<'_>) -> FailureDetection {
    let default = FailureDetection::default();
    let at = ["failureDetection", "failure_detection"]
        .iter()
        .find_map(|key| root.get(key));
    let Some(at) = at else { return default };
    if decoder
        .mapping(&at, "a mapping with `maxRapidFailures`")
        .is_none()
    {
        return default;
    }
    let known = [
        "maxRapidFailures",
        "rapidFailureWindow",
        "max_rapid_failures",
        "rapid_failure_window",
    ];
    decoder.unknown_keys(&at, &known, UnknownKeys::RejectNear, "`failureDetection`");
    FailureDetection {
        max_rapid_failures: decoder
            .integer(&at, "maxRapidFailures")
            .or_else(|| decoder.integer(&at, "max_rapid_failures"))
            .unwrap_or(default.max_rapid_failures),
        rapid_failure_window: decoder
            .duration(&at, "rapidFailureWindow", Duration::ZERO)
            .or_else(|| decoder.duration(&at, "rapid_failure_window", Duration::ZERO))
            .unwrap_or(default.rapid_failure_window),
    }
}
