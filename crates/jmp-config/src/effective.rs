//! What finally counts: flag, then environment, then the user's file, then the system's, each value with
//! where it came from.
//!
//! One rule of 0.9.0 is kept on top of that: when `JMP_NAMESPACE` and `JMP_NAME` are both set and no
//! configuration is named, no client file is read at all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jmp_types::Secret;

use crate::decode::{comma_list, seconds};
use crate::document::{Document, Spot};
use crate::environment::Environment;
use crate::error::Error;
use crate::kinds::client::{ClientConfig, LeaseOptions, SHORTEST_TIMEOUT};
use crate::kinds::common::{GrpcOptions, Metadata, Tls};
use crate::kinds::exporter::ExporterConfig;
use crate::provenance::{Origin, Sourced};
use crate::store::{Loaded, Place, Store};

/// Command-line options that choose or override configuration.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--client` or `--exporter`.
    pub alias: Option<String>,
    /// `--client-config` or `--exporter-config`.
    pub path: Option<PathBuf>,
    /// `--endpoint`.
    pub endpoint: Option<String>,
    /// `--token`.
    pub token: Option<Secret>,
    /// `--name`.
    pub name: Option<String>,
    /// `--namespace`.
    pub namespace: Option<String>,
    /// `-k`, `--insecure-tls`, `--insecure-tls-config`.
    pub insecure_tls: bool,
    /// `--lease`.
    pub lease: Option<String>,
    /// `--acquisition-timeout`.
    pub acquisition_timeout: Option<Duration>,
    /// `--retry-timeout`.
    pub retry_timeout: Option<Duration>,
    /// `--dial-timeout`.
    pub dial_timeout: Option<Duration>,
}

/// A client's configuration as it counts.
#[derive(Debug, Clone)]
pub struct EffectiveClient {
    /// The file it is based on, if one was read.
    pub file: Option<Loaded<ClientConfig>>,
    /// Name in the controller.
    pub name: Sourced<Option<String>>,
    /// Namespace in the controller.
    pub namespace: Sourced<Option<String>>,
    /// The controller; empty counts as absent.
    pub endpoint: Sourced<Option<String>>,
    /// Bearer token; empty counts as absent.
    pub token: Sourced<Option<Secret>>,
    /// For getting a new token.
    pub refresh_token: Sourced<Option<Secret>>,
    /// Base64 of a PEM bundle.
    pub tls_ca: Sourced<Option<String>>,
    /// Whether the server's certificate is trusted unseen.
    pub tls_insecure: Sourced<bool>,
    /// Channel options.
    pub grpc_options: Sourced<GrpcOptions>,
    /// Globs on client class paths.
    pub drivers_allow: Sourced<Vec<String>>,
    /// Allow all driver clients.
    pub drivers_unsafe: Sourced<bool>,
    /// Load start-up files in `jmp shell`.
    pub use_profiles: Sourced<bool>,
    /// For a lease to become ready.
    pub acquisition_timeout: Sourced<Duration>,
    /// For trying other exporters; zero disables that.
    pub retry_timeout: Sourced<Duration>,
    /// For reaching an exporter.
    pub dial_timeout: Sourced<Duration>,
    /// The lease to borrow.
    pub lease: Sourced<Option<String>>,
}

/// An exporter's configuration as it counts; what only a file can say is in `file`.
#[derive(Debug, Clone)]
pub struct EffectiveExporter {
    /// The file it is based on.
    pub file: Loaded<ExporterConfig>,
    /// Name in the controller.
    pub name: Sourced<Option<String>>,
    /// Namespace in the controller.
    pub namespace: Sourced<Option<String>>,
    /// The controller; empty counts as absent.
    pub endpoint: Sourced<Option<String>>,
    /// Bearer token; empty counts as absent.
    pub token: Sourced<Option<Secret>>,
    /// Base64 of a PEM bundle.
    pub tls_ca: Sourced<Option<String>>,
    /// Whether the server's certificate is trusted unseen.
    pub tls_insecure: Sourced<bool>,
    /// Channel options.
    pub grpc_options: Sourced<GrpcOptions>,
}

/// What the two kinds of file have in common.
struct Base<'a> {
    file: Option<FileFields<'a>>,
    environment: &'a dyn Environment,
    flags: &'a Flags,
}

struct FileFields<'a> {
    path: &'a Path,
    place: Place,
    document: &'a Document,
    metadata: &'a Metadata,
    endpoint: Option<&'a String>,
    token: Option<&'a Secret>,
    tls: &'a Tls,
    grpc_options: &'a GrpcOptions,
}

// === impl FileFields ===

impl FileFields<'_> {
    fn origin(&self, key: &[&str]) -> Origin {
        let path = self.path.to_owned();
        let line = self
            .document
            .get(key)
            .and_then(|_| self.document.locate(key, Spot::Key))
            .map(|location| location.line);
        match self.place {
            Place::User => Origin::UserFile { path, line },
            Place::System => Origin::SystemFile { path, line },
        }
    }
}

// === impl Base ===

impl Base<'_> {
    fn pick<T>(
        &self,
        flag: (&'static str, Option<T>),
        variable: (&'static str, Option<T>),
        key: &[&str],
        file: Option<T>,
        default: T,
    ) -> Sourced<T> {
        let (value, origin) = match (flag, variable, file, &self.file) {
            ((name, Some(value)), ..) => (value, Origin::Flag(name)),
            (_, (name, Some(value)), ..) => (value, Origin::Environment(name)),
            (_, _, Some(value), Some(fields)) => (value, fields.origin(key)),
            _ => (default, Origin::Default),
        };
        Sourced { value, origin }
    }

    fn text(
        &self,
        flag: (&'static str, Option<&String>),
        variable: &'static str,
        key: &[&str],
        file: Option<&String>,
    ) -> Sourced<Option<String>> {
        self.pick(
            (flag.0, flag.1.cloned().map(Some)),
            (variable, self.environment.filled(variable).map(Some)),
            key,
            file.filter(|text| !text.is_empty()).cloned().map(Some),
            None,
        )
    }

    fn name(&self) -> Sourced<Option<String>> {
        let file = self
            .file
            .as_ref()
            .and_then(|file| file.metadata.name.as_ref());
        let flag = ("--name", self.flags.name.as_ref());
        self.text(flag, "JMP_NAME", &["metadata", "name"], file)
    }

    fn namespace(&self) -> Sourced<Option<String>> {
        let file = self
            .file
            .as_ref()
            .and_then(|file| file.metadata.namespace.as_ref());
        let flag = ("--namespace", self.flags.namespace.as_ref());
        self.text(flag, "JMP_NAMESPACE", &["metadata", "namespace"], file)
    }

    fn endpoint(&self) -> Sourced<Option<String>> {
        let file = self.file.as_ref().and_then(|file| file.endpoint);
        let flag = ("--endpoint", self.flags.endpoint.as_ref());
        self.text(flag, "JMP_ENDPOINT", &["endpoint"], file)
    }

    fn token(&self) -> Sourced<Option<Secret>> {
        let file = self.file.as_ref().and_then(|file| file.token);
        let flag = ("--token", self.flags.token.as_ref());
        self.secret(flag, "JMP_TOKEN", "token", file)
    }

    fn secret(
        &self,
        flag: (&'static str, Option<&Secret>),
        variable: &'static str,
        key: &str,
        file: Option<&Secret>,
    ) -> Sourced<Option<Secret>> {
        let from_environment = self.environment.filled(variable).map(Secret::new);
        self.pick(
            (flag.0, flag.1.cloned().map(Some)),
            (variable, from_environment.map(Some)),
            &[key],
            file.filter(|secret| !secret.is_empty()).cloned().map(Some),
            None,
        )
    }

    fn tls_ca(&self) -> Sourced<Option<String>> {
        let file = self.file.as_ref().and_then(|file| file.tls.ca.clone());
        let file = file.filter(|ca| !ca.is_empty()).map(Some);
        self.pick(("", None), ("", None), &["tls", "ca"], file, None)
    }

    fn tls_insecure(&self) -> Sourced<bool> {
        let file = self.file.as_ref().and_then(|file| file.tls.insecure);
        let variable = ["JUMPSTARTER_GRPC_INSECURE", "JMP_GRPC_INSECURE"]
            .into_iter()
            .find(|name| self.environment.filled(name).as_deref() == Some("1"));
        let flag = ("--insecure-tls", self.flags.insecure_tls.then_some(true));
        let variable = (variable.unwrap_or_default(), variable.map(|_| true));
        self.pick(flag, variable, &["tls", "insecure"], file, false)
    }

    fn grpc_options(&self) -> Sourced<GrpcOptions> {
        let options = self.file.as_ref().map(|file| file.grpc_options.clone());
        let options = options.filter(|options| !options.is_empty());
        let key = match &self.file {
            Some(file) if file.document.get(&["grpcOptions"]).is_some() => "grpcOptions",
            _ => "grpcConfig",
        };
        self.pick(("", None), ("", None), &[key], options, GrpcOptions::new())
    }

    fn duration(
        &self,
        flag: (&'static str, Option<Duration>),
        variable: &'static str,
        minimum: Duration,
        key: &str,
        file: Option<Duration>,
        default: Duration,
    ) -> Result<Sourced<Duration>, Error> {
        let found = match self.environment.filled(variable) {
            None => None,
            Some(text) => match seconds(&text) {
                Some(duration) if duration >= minimum => Some(duration),
                _ => {
                    let expected = "a number of seconds, at least 5 (0 for JMP_RETRY_TIMEOUT)";
                    return Err(Error::Variable { variable, expected });
                }
            },
        };
        Ok(self.pick(flag, (variable, found), &["leases", key], file, default))
    }

    fn client(&self, config: Option<&ClientConfig>) -> Result<EffectiveClient, Error> {
        let (drivers_allow, drivers_unsafe) = self.drivers(config);
        let flags = self.flags;
        let leases = config
            .map(|config| config.leases.clone())
            .unwrap_or_default();
        let refresh = config.and_then(|config| config.refresh_token.as_ref());
        Ok(EffectiveClient {
            name: self.name(),
            namespace: self.namespace(),
            endpoint: self.endpoint(),
            token: self.token(),
            refresh_token: self.secret(("", None), "JMP_REFRESH_TOKEN", "refresh_token", refresh),
            tls_ca: self.tls_ca(),
            tls_insecure: self.tls_insecure(),
            grpc_options: self.grpc_options(),
            drivers_allow,
            drivers_unsafe,
            use_profiles: self.pick(
                ("", None),
                ("", None),
                &["shell", "use_profiles"],
                config.and_then(|config| config.shell.use_profiles),
                false,
            ),
            acquisition_timeout: self.pick(
                ("--acquisition-timeout", flags.acquisition_timeout),
                ("", None),
                &["leases", "acquisition_timeout"],
                leases.acquisition_timeout,
                LeaseOptions::DEFAULT_ACQUISITION,
            ),
            retry_timeout: self.duration(
                ("--retry-timeout", flags.retry_timeout),
                "JMP_RETRY_TIMEOUT",
                Duration::ZERO,
                "retry_timeout",
                leases.retry_timeout,
                LeaseOptions::DEFAULT_RETRY,
            )?,
            dial_timeout: self.duration(
                ("--dial-timeout", flags.dial_timeout),
                "JMP_DIAL_TIMEOUT",
                SHORTEST_TIMEOUT,
                "dial_timeout",
                leases.dial_timeout,
                LeaseOptions::DEFAULT_DIAL,
            )?,
            lease: self.text(("--lease", flags.lease.as_ref()), "JMP_LEASE", &[], None),
            file: None,
        })
    }

    fn drivers(&self, config: Option<&ClientConfig>) -> (Sourced<Vec<String>>, Sourced<bool>) {
        let variable = |name| self.environment.filled(name);
        let allow = self.pick(
            ("", None),
            (
                "JMP_DRIVERS_ALLOW",
                variable("JMP_DRIVERS_ALLOW").map(|text| comma_list(&text)),
            ),
            &["drivers", "allow"],
            config.and_then(|config| config.drivers.allow.clone()),
            Vec::new(),
        );
        // The word in the list is as good as the flag, from wherever the list came.
        if allow.value.iter().any(|glob| glob == "UNSAFE") {
            let origin = allow.origin.clone();
            let value = true;
            return (allow, Sourced { value, origin });
        }
        // A list in the environment is meant to limit what runs, also where the file allows everything.
        let narrowed = matches!(allow.origin, Origin::Environment(_));
        let truth = |text: String| {
            matches!(
                text.to_ascii_lowercase().as_str(),
                "1" | "true" | "yes" | "on" | "unsafe"
            )
        };
        let unsafe_all = self.pick(
            ("", None),
            (
                "JMP_DRIVERS_UNSAFE",
                variable("JMP_DRIVERS_UNSAFE").map(truth),
            ),
            &["drivers", "unsafe"],
            config
                .and_then(|config| config.drivers.unsafe_all)
                .filter(|_| !narrowed),
            false,
        );
        (allow, unsafe_all)
    }
}

// === impl Store ===

impl Store {
    /// The client configuration that counts.
    ///
    /// The file is the one named by flag, by `JMP_CLIENT_CONFIG` or `JMP_CLIENT`, else the current
    /// client; with `JMP_NAMESPACE` and `JMP_NAME` both set and none named, no file is read.
    ///
    /// # Errors
    /// [`Error`] when the file is missing or wrong, or a variable holds no number where one is needed.
    pub fn effective_client(
        &self,
        environment: &dyn Environment,
        flags: &Flags,
    ) -> Result<EffectiveClient, Error> {
        let file = self.choose_client(environment, flags)?;
        let fields = file.as_ref().map(|file| FileFields {
            path: &file.path,
            place: file.place,
            document: &file.document,
            metadata: &file.config.metadata,
            endpoint: file.config.endpoint.as_ref(),
            token: file.config.token.as_ref(),
            tls: &file.config.tls,
            grpc_options: &file.config.grpc_options,
        });
        let base = Base {
            file: fields,
            environment,
            flags,
        };
        let mut effective = base.client(file.as_ref().map(|file| &file.config))?;
        effective.file = file;
        Ok(effective)
    }

    fn choose_client(
        &self,
        environment: &dyn Environment,
        flags: &Flags,
    ) -> Result<Option<Loaded<ClientConfig>>, Error> {
        if let Some(path) = &flags.path {
            return self.load_client_file(path).map(Some);
        }
        if let Some(alias) = &flags.alias {
            return self.load_client(alias).map(Some);
        }
        if let Some(path) = environment.filled("JMP_CLIENT_CONFIG") {
            return self.load_client_file(Path::new(&path)).map(Some);
        }
        if let Some(alias) = environment.filled("JMP_CLIENT") {
            return self.load_client(&alias).map(Some);
        }
        let identity = ["JMP_NAMESPACE", "JMP_NAME"];
        if identity
            .iter()
            .all(|name| environment.filled(name).is_some())
        {
            return Ok(None);
        }
        match self.current_client()? {
            Some(alias) => self.load_client(alias.as_str()).map(Some),
            None => Ok(None),
        }
    }

    /// The exporter configuration that counts: the file named by flag, or `None` when none is named.
    ///
    /// # Errors
    /// [`Error`] when the file is missing or wrong.
    pub fn effective_exporter(
        &self,
        environment: &dyn Environment,
        flags: &Flags,
    ) -> Result<Option<EffectiveExporter>, Error> {
        let file = match (&flags.path, &flags.alias) {
            (Some(path), _) => self.load_exporter_file(path)?,
            (None, Some(alias)) => self.load_exporter(alias)?,
            (None, None) => return Ok(None),
        };
        let base = Base {
            file: Some(FileFields {
                path: &file.path,
                place: file.place,
                document: &file.document,
                metadata: &file.config.metadata,
                endpoint: file.config.endpoint.as_ref(),
                token: file.config.token.as_ref(),
                tls: &file.config.tls,
                grpc_options: &file.config.grpc_options,
            }),
            environment,
            flags,
        };
        Ok(Some(EffectiveExporter {
            name: base.name(),
            namespace: base.namespace(),
            endpoint: base.endpoint(),
            token: base.token(),
            tls_ca: base.tls_ca(),
            tls_insecure: base.tls_insecure(),
            grpc_options: base.grpc_options(),
            file,
        }))
    }
}
