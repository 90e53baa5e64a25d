//! What lets an administrator, or a router, in at a controller: `admin.yaml` and join files.

use std::fs;
use std::path::Path;

use jmp_types::Secret;
use serde_json::Value;

use crate::decode::{At, Decoder, UnknownKeys};
use crate::diagnostic::{ConfigError, Diagnostic};
use crate::document::{Document, path_name};
use crate::error::Error;
use crate::kinds::common::{
    Expected, Metadata, Tls, endpoint, header, header_json, metadata, put, put_tls, tls,
};
use crate::save;

const KEYS: [&str; 6] = ["apiVersion", "kind", "metadata", "endpoint", "tls", "token"];

/// Whom a file lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// An administrator; `kind: AdminConfig`.
    Admin,
    /// A router that joins a controller; `kind: RouterConfig`.
    Router,
}

/// Where a controller is, how it is recognised, and the token that lets the holder in.
///
/// `jmp controller run` writes one for the administrator (`admin.yaml` in the user's directory, see
/// [`crate::Paths::admin_config`]) and one for its own router. Such a file can be carried to another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whom it lets in.
    pub kind: AccessKind,
    /// Name of the administrator or router.
    pub name: String,
    /// `host:port` of the controller.
    pub endpoint: String,
    /// How the controller's certificate is checked.
    pub tls: Tls,
    /// The bearer token.
    pub token: Secret,
}

/// The administrator's file.
pub type AdminConfig = AccessConfig;

// === impl AccessKind ===

impl AccessKind {
    fn expected(self) -> Expected {
        match self {
            Self::Admin => Expected {
                kinds: &["AdminConfig"],
                name: "an administrator's configuration",
            },
            Self::Router => Expected {
                kinds: &["RouterConfig"],
                name: "a router's join file",
            },
        }
    }
}

// === impl AccessConfig ===

impl AccessConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Config`] when it is not such a file or lacks the
    /// endpoint or the token.
    pub fn load(path: &Path, kind: AccessKind) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let document = Document::parse(&path_name(path), &bytes)?;
        Ok(Self::from_document(&document, kind)?.0)
    }

    /// Reads the document.
    ///
    /// # Errors
    /// [`ConfigError`] with every complaint about the file.
    pub fn from_document(
        document: &Document,
        kind: AccessKind,
    ) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        let expected = kind.expected();
        let mut decoder = Decoder::new(document);
        header(&mut decoder, document, &expected);
        let root = At::root(document);
        if !decoder.has_errors() {
            decoder.unknown_keys(&root, &KEYS, UnknownKeys::Reject, expected.name);
        }
        let name = metadata(&mut decoder, &root, UnknownKeys::Reject).name;
        let endpoint = endpoint(&mut decoder, &root).unwrap_or_default();
        let tls = tls(&mut decoder, &root);
        let token = decoder.string(&root, "token").unwrap_or_default();
        if !decoder.has_errors() {
            for (key, value) in [("endpoint", &endpoint), ("token", &token)] {
                if value.is_empty() {
                    let message = format!("`{key}` is missing or empty");
                    let complaint = Diagnostic::error(document.source(), None, message);
                    decoder.push(complaint.with_help("get a new file from the controller"));
                }
            }
        }
        decoder.finish(Self {
            kind,
            name: name.unwrap_or_default(),
            endpoint,
            tls,
            token: Secret::new(token),
        })
    }

    /// Replaces the file in one step, mode 0600.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let text = save::to_yaml(&self.to_json()).map_err(|source| Error::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })?;
        save::replace(path, &text)
    }

    /// The file's content, the token included: for saving, never for showing.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let who = Metadata {
            name: Some(self.name.clone()).filter(|name| !name.is_empty()),
            namespace: None,
        };
        let mut map = header_json(self.kind.expected().kinds[0], &who);
        map.insert("endpoint".into(), self.endpoint.clone().into());
        put_tls(&mut map, &self.tls);
        put(&mut map, "token", Some(self.token.expose()));
        map.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: AccessKind) -> AccessConfig {
        AccessConfig {
            kind,
            name: "root".into(),
            endpoint: "controller.example:8082".into(),
            tls: Tls {
                ca: Some("Y2E=".into()),
                insecure: None,
            },
            token: Secret::new("a.b.c"),
        }
    }

    #[test]
    fn what_was_saved_is_read_back_and_only_as_its_kind() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deep/admin.yaml");
        for (kind, other) in [
            (AccessKind::Admin, AccessKind::Router),
            (AccessKind::Router, AccessKind::Admin),
        ] {
            config(kind).save(&path).expect("saved");
            assert_eq!(
                AccessConfig::load(&path, kind).expect("loaded"),
                config(kind)
            );
            assert!(AccessConfig::load(&path, other).is_err());
        }
    }

    #[test]
    fn a_file_without_a_token_is_refused_and_a_token_never_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.yaml");
        let mut without = config(AccessKind::Admin);
        assert!(!format!("{without:?}").contains("a.b.c"));
        without.token = Secret::new("");
        without.save(&path).expect("saved");
        let error = AccessConfig::load(&path, AccessKind::Admin).expect_err("refused");
        assert!(error.to_string().contains("`token` is missing"), "{error}");
    }
}
