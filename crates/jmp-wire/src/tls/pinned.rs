//! Certificates that are trusted because they were given to us, whoever issued them.
//!
//! Controllers of other implementations make a certificate that signs itself, often one marked
//! as an authority, and put it into the client's configuration as the authority. The usual rules
//! refuse such a certificate as a server's; clients of the released programs accept it (facts:
//! protocol 11). So does this verifier: byte for byte the trusted certificate, in its time, for
//! the right host, with proof of the private key.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::{alpn, invalid, provider};

/// Certificates of one chain that are looked at; no honest server sends more.
const LONGEST_CHAIN: usize = 16;

/// A TLS client for gRPC that trusts the authorities of a PEM bundle, and a server that presents
/// one of these very certificates.
///
/// # Errors
///
/// If the bundle cannot be read or holds no certificate.
pub fn pinned_client(bundle: &[u8]) -> io::Result<TlsConnector> {
    let certificates = CertificateDer::pem_slice_iter(bundle)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(format!("certificate authority: {error}")))?;
    client_of(certificates)
}

/// A TLS client for gRPC that trusts what the server presents now. Nothing is sent to the
/// server but the handshake; `io` is not used after it.
///
/// # Errors
///
/// If the handshake fails or the server presents nothing that can be trusted.
pub async fn presented_client<IO>(io: IO, name: ServerName<'static>) -> io::Result<TlsConnector>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let chain = Arc::default();
    connector(Rule::Presented(Arc::clone(&chain)))?
        .connect(name, io)
        .await?;
    let presented = std::mem::take(&mut *chain.lock().unwrap_or_else(PoisonError::into_inner));
    client_of(presented)
}

fn client_of(certificates: Vec<CertificateDer<'static>>) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| invalid(format!("certificate authority: {error}")))?;
    }
    if roots.is_empty() {
        return Err(invalid("no certificate in the PEM bundle".into()));
    }
    let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    connector(Rule::Pinned {
        authorities,
        certificates,
    })
}

/// A TLS client for gRPC with that rule.
fn connector(rule: Rule) -> io::Result<TlsConnector> {
    let provider = provider();
    let verifier = Verifier {
        rule,
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Which certificates are good.
#[derive(Debug)]
enum Rule {
    /// The usual ones, and the exception described above.
    Pinned {
        authorities: Arc<WebPkiServerVerifier>,
        certificates: Vec<CertificateDer<'static>>,
    },
    /// Any; what the server presented is remembered.
    Presented(Arc<Mutex<Vec<CertificateDer<'static>>>>),
}

/// A rule of ours for certificates; the server has to prove its private key as always.
#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

// === impl Verifier ===

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (authorities, certificates) = match &self.rule {
            Rule::Pinned {
                authorities,
                certificates,
            } => (authorities, certificates),
            Rule::Presented(chain) => {
                let presented = std::iter::once(certificate).chain(intermediates);
                let presented = presented.take(LONGEST_CHAIN);
                *chain.lock().unwrap_or_else(PoisonError::into_inner) =
                    presented.map(|one| one.clone().into_owned()).collect();
                return Ok(ServerCertVerified::assertion());
            }
        };
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The period of validity is checked before either of these is found.
            Err(error) if is_about_issuer(&error) && certificates.contains(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            usual => usual,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn is_about_issuer(error: &Error) -> bool {
    match error {
        // A bad signature: an authority of the same name, but another one, is trusted, too.
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => true,
        // The library has no name of its own for it.
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.to_string().contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}
