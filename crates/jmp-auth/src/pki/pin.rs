//! Recognising an authority by a text that a person was given.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::{PkiError, der};

const PREFIX: &str = "sha256:";

/// SHA-256 of an authority's public key (its SubjectPublicKeyInfo), written `sha256:` and 64 hexadecimal digits.
///
/// It survives a renewal of the authority's certificate with the same key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityPin([u8; 32]);

/// A text is not a pin, or no certificate fits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Not a pin.
    #[error("a certificate pin is written `sha256:` and 64 hexadecimal digits")]
    Malformed,
    /// No certificate of the chain fits.
    #[error(
        "the server's authority is not the one that the pin names: it is another server, \
         or somebody is between; compare the pin with what the controller prints at its start"
    )]
    Mismatch,
}

// === impl AuthorityPin ===

impl AuthorityPin {
    pub(crate) fn of_public_key(info: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, info);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_ref());
        Self(bytes)
    }

    /// The pin of a certificate; `None` if it is malformed.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        der::public_key_info(certificate).map(|info| Self::of_public_key(&info))
    }

    /// The certificate of a presented chain that fits. It is to be the only root by which the chain's first
    /// certificate is then verified: fitting alone proves nothing, since anybody can append the certificate.
    ///
    /// # Errors
    ///
    /// If none fits.
    pub fn find<'a, 'b>(
        &self,
        chain: &'a [CertificateDer<'b>],
    ) -> Result<&'a CertificateDer<'b>, PinError> {
        chain
            .iter()
            .find(|certificate| Self::of(certificate).as_ref() == Some(self))
            .ok_or(PinError::Mismatch)
    }
}

impl fmt::Display for AuthorityPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(PREFIX)?;
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for AuthorityPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for AuthorityPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digits = text
            .trim()
            .strip_prefix(PREFIX)
            .ok_or(PinError::Malformed)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(PinError::Malformed);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or(PinError::Malformed)?;
        }
        Ok(Self(bytes))
    }
}

/// A TLS client that trusts only the authority with this pin, which the server has to send along. Name and dates
/// are verified as always.
///
/// Afterwards `find` on the connection's peer certificates gives the authority's certificate, to be kept as `tls.ca`.
///
/// # Errors
///
/// If rustls refuses the configuration.
pub fn pinned_client_config(
    pin: AuthorityPin,
    protocols: Vec<Vec<u8>>,
) -> Result<ClientConfig, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(PinnedVerifier {
        pin,
        provider: provider.clone(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PkiError::unusable("TLS configuration", error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = protocols;
    Ok(config)
}

#[derive(Debug)]
struct PinnedVerifier {
    pin: AuthorityPin,
    provider: Arc<CryptoProvider>,
}

// === impl PinnedVerifier ===

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = self.pin.find(intermediates).map_err(|error| {
            rustls::Error::from(CertificateError::Other(rustls::OtherError(Arc::new(error))))
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
