//! TLS for both ends: one provider, one place (design: crates, finding 3).

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use tokio_rustls::{TlsAcceptor, TlsConnector};

mod pinned;

pub use pinned::{pinned_client, presented_client};

/// What a client trusts.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// The certificates of the operating system.
    #[default]
    System,
    /// Only the certificates of this PEM bundle.
    Authorities(Vec<u8>),
}

/// Makes ring the provider of the process. Call it first thing in `main`: libraries that bring
/// no provider of their own rely on it. Calling it again does nothing.
pub fn install_provider() {
    // The only failure is that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec()]
}

/// A TLS client for gRPC.
///
/// # Errors
///
/// If the trusted certificates cannot be read or there are none.
pub fn client(trust: &Trust) -> io::Result<TlsConnector> {
    client_for(trust, alpn())
}

/// A TLS client that offers the given application protocols (ALPN), or none.
///
/// # Errors
///
/// If the trusted certificates cannot be read or there are none.
pub fn client_for(trust: &Trust, protocols: Vec<Vec<u8>>) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::System => {
            let loaded = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(loaded.certs);
            if roots.is_empty() {
                return Err(invalid(
                    "the operating system has no trusted certificates; install its \
                     certificate package or name a certificate authority"
                        .into(),
                ));
            }
        }
        Trust::Authorities(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate
                    .map_err(|error| invalid(format!("certificate authority: {error}")))?;
                roots
                    .add(certificate)
                    .map_err(|error| invalid(format!("certificate authority: {error}")))?;
            }
            if roots.is_empty() {
                return Err(invalid("no certificate in the PEM bundle".into()));
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A TLS server for gRPC from a certificate chain and its key, both PEM files.
///
/// # Errors
///
/// If a file cannot be read or the two do not belong together; the message names the file.
pub fn server(certificate: &Path, key: &Path) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| invalid(format!("certificate {}: {error}", certificate.display())))?;
    if chain.is_empty() {
        return Err(invalid(format!(
            "no certificate in {}",
            certificate.display()
        )));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| invalid(format!("private key {}: {error}", key.display())))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            invalid(format!(
                "certificate {} and key {}: {error}",
                certificate.display(),
                key.display()
            ))
        })?;
    config.alpn_protocols = alpn();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The name that a server's certificate must carry.
///
/// # Errors
///
/// If `host` is neither a DNS name nor an address.
pub fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| invalid(format!("host name `{host}`: {error}")))
}
