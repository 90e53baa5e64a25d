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
use rustls::crypto::CryptoProvider;
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
    let chain = Arc::new(Presented::default());
    let mut config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&chain) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = alpn();
    TlsConnector::from(Arc::new(config))
        .connect(name, io)
        .await?;
    let presented = std::mem::take(&mut *chain.0.lock().unwrap_or_else(PoisonError::into_inner));
    client_of(presented)
}

fn builder() -> io::Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(error.to_string()))
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
    let verifier = Pinned {
        authorities,
        certificates,
    };
    let mut config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The usual rules, and the exception described above.
#[derive(Debug)]
struct Pinned {
    authorities: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usual =
            self.authorities
                .verify_server_cert(certificate, intermediates, name, ocsp, now);
        match usual {
            // The period of validity is checked before either of these is found.
            Err(error) if is_about_issuer(&error) && self.certificates.contains(certificate) => {
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
        self.authorities
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
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

/// Remembers what the server presented; the private key is proven all the same.
#[derive(Debug, Default)]
struct Presented(Mutex<Vec<CertificateDer<'static>>>);

// === impl Presented ===

impl ServerCertVerifier for Presented {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(certificate).chain(intermediates);
        let chain = chain
            .take(LONGEST_CHAIN)
            .map(|one| one.clone().into_owned());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = algorithms().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let schemes = algorithms().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn algorithms() -> Arc<CryptoProvider> {
    provider()
}
