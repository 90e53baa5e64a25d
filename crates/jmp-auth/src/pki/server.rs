//! What a server presents, and keeping it fresh.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jmp_types::Timestamp;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Authority, Leaf, PkiError, ServerNames, der};
use crate::{Secret, private_file};

/// Certificates of our own are renewed when less than this is left: 30 days.
const RENEWAL_MARGIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const WHAT: &str = "certificate of the server";
const KEY: &str = "key of the server's certificate";
/// How the line of the file begins that says for which names a certificate was made.
const NAMES: &str = "Names: ";

/// Application protocols that a server offers (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// gRPC only: `h2`.
    Grpc,
    /// gRPC or plain HTTP: `h2`, `http/1.1`.
    GrpcOrHttp,
}

/// What a server presents. Configurations made from it follow every [`ServerCertificate::refresh`] without a restart;
/// connections that are open keep what they have.
#[derive(Debug)]
pub struct ServerCertificate {
    source: Source,
    slot: Arc<Slot>,
}

/// Whether a refresh changed what is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It is as before.
    Unchanged,
    /// New connections get another certificate.
    Replaced {
        /// When that one ends.
        expires_at: Timestamp,
    },
}

#[derive(Debug)]
enum Source {
    Authority {
        authority: Arc<Authority>,
        directory: PathBuf,
        names: RwLock<ServerNames>,
    },
    Files {
        chain: PathBuf,
        key: PathBuf,
        endpoint_host: String,
    },
    Given,
}

#[derive(Debug)]
struct Slot(RwLock<Leaf>);

// === impl ServerCertificate ===

impl ServerCertificate {
    /// A certificate of our own authority, kept in `server.pem` and `server.key` of `directory`, for `names`.
    ///
    /// # Errors
    ///
    /// If it can be neither read nor made.
    pub fn from_authority(
        authority: Arc<Authority>,
        directory: &Path,
        names: ServerNames,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let leaf = kept_or_new(&authority, directory, &names, now)?;
        Ok(Self::with(
            Source::Authority {
                authority,
                directory: directory.to_owned(),
                names: RwLock::new(names),
            },
            leaf,
        ))
    }

    /// The administrator's certificate: PEM files of the chain (the server's own first) and of its key.
    /// `endpoint_host` is the host of the configured endpoint, without its port. Who may read the key is left to the
    /// administrator: secrets that are mounted into containers have modes of their own.
    ///
    /// # Errors
    ///
    /// If a file is missing or unusable, they do not belong together, the certificate is not valid at `now`, or not
    /// for that host.
    pub fn from_files(
        chain: &Path,
        key: &Path,
        endpoint_host: &str,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let leaf = read_files(chain, key, endpoint_host, now)?;
        Ok(Self::with(
            Source::Files {
                chain: chain.to_owned(),
                key: key.to_owned(),
                endpoint_host: endpoint_host.to_owned(),
            },
            leaf,
        ))
    }

    /// A certificate that somebody else keeps fresh: a router's, from its controller's welcome.
    #[must_use]
    pub fn given(leaf: Leaf) -> Self {
        Self::with(Source::Given, leaf)
    }

    fn with(source: Source, leaf: Leaf) -> Self {
        Self {
            source,
            slot: Arc::new(Slot(RwLock::new(leaf))),
        }
    }

    /// Looks whether the certificate must be renewed (less than 30 days left, or other names) or was exchanged by
    /// the administrator, and presents the new one. Call it daily or so.
    ///
    /// # Errors
    ///
    /// If there should be a new one but it is unusable; the old one stays.
    pub fn refresh(&self, now: Timestamp) -> Result<Refreshed, PkiError> {
        let leaf = match &self.source {
            Source::Authority {
                authority,
                directory,
                names,
            } => {
                let names = names.read().unwrap_or_else(PoisonError::into_inner).clone();
                kept_or_new(authority, directory, &names, now)?
            }
            Source::Files {
                chain,
                key,
                endpoint_host,
            } => read_files(chain, key, endpoint_host, now)?,
            Source::Given => return Ok(Refreshed::Unchanged),
        };
        Ok(self.replace(leaf))
    }

    /// Like [`ServerCertificate::refresh`], for other names from now on. Certificates that are not of our own
    /// authority have the names that they have.
    ///
    /// # Errors
    ///
    /// As for `refresh`.
    pub fn rename(&self, wanted: ServerNames, now: Timestamp) -> Result<Refreshed, PkiError> {
        if let Source::Authority { names, .. } = &self.source {
            *names.write().unwrap_or_else(PoisonError::into_inner) = wanted;
        }
        self.refresh(now)
    }

    /// Presents another certificate from now on.
    pub fn replace(&self, leaf: Leaf) -> Refreshed {
        let mut present = self.slot.0.write().unwrap_or_else(PoisonError::into_inner);
        if present.certified.cert == leaf.certified.cert {
            return Refreshed::Unchanged;
        }
        let expires_at = leaf.expires_at;
        *present = leaf;
        Refreshed::Replaced { expires_at }
    }

    /// What is presented now.
    #[must_use]
    pub fn leaf(&self) -> Leaf {
        self.slot
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A TLS server that presents it.
    ///
    /// # Errors
    ///
    /// If rustls refuses the configuration.
    pub fn server_config(&self, protocols: Protocols) -> Result<Arc<ServerConfig>, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| PkiError::unusable("TLS configuration", error))?
            .with_no_client_auth()
            .with_cert_resolver(self.slot.clone());
        config.alpn_protocols = match protocols {
            Protocols::Grpc => vec![b"h2".to_vec()],
            Protocols::GrpcOrHttp => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        Ok(Arc::new(config))
    }
}

// === impl Slot ===

impl ResolvesServerCert for Slot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let leaf = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(leaf.certified.clone())
    }
}

/// The certificate of the directory if it is still good for exactly these names, otherwise a new one.
fn kept_or_new(
    authority: &Authority,
    directory: &Path,
    names: &ServerNames,
    now: Timestamp,
) -> Result<Leaf, PkiError> {
    let chain_path = directory.join("server.pem");
    let key_path = directory.join("server.key");
    let line = format!("{NAMES}{}\n", names.to_texts().join(" "));
    if let Some(chain) = private_file::read_public(&chain_path)?
        && chain.starts_with(&line)
        && let Some(key) = private_file::read(&key_path, KEY)?
        && let Ok(leaf) = Leaf::from_pem(&chain[line.len()..], &Secret::new(key))
        && !leaf.ends_within(RENEWAL_MARGIN, now)
        && authority.vouches_for(&leaf, names, now)
    {
        return Ok(leaf);
    }
    let leaf = authority.issue(names, now)?;
    // Both can be made again: a crash between the two leaves a pair that does not fit and is replaced.
    private_file::replace(&key_path, leaf.key_pem.expose())?;
    private_file::replace(&chain_path, &(line + &leaf.chain_pem))?;
    Ok(leaf)
}

fn read_files(
    chain_path: &Path,
    key_path: &Path,
    endpoint_host: &str,
    now: Timestamp,
) -> Result<Leaf, PkiError> {
    let missing = |what, path: &Path| PkiError::Missing {
        what,
        path: path.to_owned(),
    };
    let chain = private_file::read_public(chain_path)?.ok_or_else(|| missing(WHAT, chain_path))?;
    let key = private_file::read_public(key_path)?.ok_or_else(|| missing(KEY, key_path))?;
    let leaf = Leaf::from_pem(&chain, &Secret::new(key)).map_err(|error| match error {
        PkiError::Unusable {
            what: "private key",
            reason,
        } => PkiError::malformed(key_path, KEY, reason),
        PkiError::Unusable { reason, .. } if reason.contains("KeyMismatch") => {
            PkiError::KeyMismatch {
                certificate: chain_path.to_owned(),
                key: key_path.to_owned(),
            }
        }
        other => PkiError::malformed(chain_path, WHAT, other),
    })?;
    check_given(&leaf, chain_path, endpoint_host, now)?;
    Ok(leaf)
}

fn check_given(
    leaf: &Leaf,
    path: &Path,
    endpoint_host: &str,
    now: Timestamp,
) -> Result<(), PkiError> {
    let unreadable = || PkiError::malformed(path, WHAT, "its fields cannot be read");
    let end = leaf.certified.cert.first().ok_or_else(unreadable)?;
    let validity = der::validity(end).ok_or_else(unreadable)?;
    if now >= validity.until {
        return Err(PkiError::Expired {
            path: path.to_owned(),
            at: validity.until,
        });
    }
    if now < validity.from {
        return Err(PkiError::NotYetValid {
            path: path.to_owned(),
            from: validity.from,
        });
    }
    let bare = endpoint_host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare).map_err(|_| PkiError::BadName {
        name: endpoint_host.to_owned(),
    })?;
    let parsed = ParsedCertificate::try_from(end).map_err(|_| unreadable())?;
    verify_server_name(&parsed, &name).map_err(|_| PkiError::WrongName {
        path: path.to_owned(),
        name: endpoint_host.to_owned(),
    })
}
