//! An authority of our own, and the certificates that it signs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jmp_types::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use ring::digest;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use super::{AuthorityPin, PkiError, ServerNames, der};
use crate::{Secret, private_file};

const CERTIFICATE: &str = "certificate of the authority";
const KEY: &str = "key of the authority";
/// Ten years.
const AUTHORITY_SECONDS: i64 = 3652 * DAY;
/// A year: what clients that limit the length of certificates accept.
const LEAF_SECONDS: i64 = 365 * DAY;
/// Certificates begin this long before they are made, for peers whose clocks are late.
const BACKDATED_SECONDS: i64 = DAY;
const DAY: i64 = 24 * 60 * 60;

/// An authority of our own: `ca.pem` and `ca.key` in the data directory, valid for ten years.
///
/// Its name and key identifier follow from its key, so that certificates can be signed without reading them back
/// from the certificate, and a lost `ca.pem` comes back with the same pin.
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    expires_at: Timestamp,
}

/// A certificate of a server, with its chain and key.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// PEM: the certificate and the authority's. Both are sent, since shipped clients that were told to trust
    /// anything take the presented chain as their roots.
    pub chain_pem: String,
    /// PEM.
    pub key_pem: Secret,
    /// When the certificate ends.
    pub expires_at: Timestamp,
    /// The same for rustls.
    pub certified: Arc<CertifiedKey>,
}

// === impl Authority ===

impl Authority {
    /// The authority in `directory`, which is made if there is none.
    ///
    /// # Errors
    ///
    /// If its files cannot be read or made, do not belong together, or it has ended.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let certificate_path = directory.join("ca.pem");
        let key_path = directory.join("ca.key");
        let key = Self::open_key(&certificate_path, &key_path)?;
        let pem = match private_file::read_public(&certificate_path)? {
            Some(pem) => pem,
            None => {
                let pem = self_signed(&key, now)?;
                private_file::create(&certificate_path, &pem)?;
                pem
            }
        };
        Self::from_parts(key, pem, now, &certificate_path, &key_path)
    }

    /// The key is made before the certificate: a crash between them leaves what the next start completes.
    fn open_key(certificate_path: &Path, key_path: &Path) -> Result<KeyPair, PkiError> {
        loop {
            if let Some(pem) = private_file::read(key_path, KEY)? {
                return KeyPair::from_pem_and_sign_algo(&pem, &PKCS_ECDSA_P256_SHA256)
                    .map_err(|_| PkiError::malformed(key_path, KEY, "it is no P-256 key in PEM"));
            }
            if certificate_path.exists() {
                return Err(PkiError::KeyLost {
                    certificate: certificate_path.to_owned(),
                    key: key_path.to_owned(),
                });
            }
            let key = new_key()?;
            if private_file::create(key_path, &key.serialize_pem())? {
                return Ok(key);
            }
        }
    }

    /// An authority that is in no file.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn in_memory(now: Timestamp) -> Result<Self, PkiError> {
        let key = new_key()?;
        let pem = self_signed(&key, now)?;
        let nowhere = PathBuf::from("(memory)");
        Self::from_parts(key, pem, now, &nowhere, &nowhere)
    }

    fn from_parts(
        key: KeyPair,
        certificate_pem: String,
        now: Timestamp,
        path: &Path,
        key_path: &Path,
    ) -> Result<Self, PkiError> {
        let malformed = || PkiError::malformed(path, CERTIFICATE, "it is no certificate in PEM");
        let certificate =
            CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| malformed())?;
        let validity = der::validity(&certificate).ok_or_else(malformed)?;
        let public = der::public_key_info(&certificate).ok_or_else(malformed)?;
        if public != key.subject_public_key_info() {
            return Err(PkiError::KeyMismatch {
                certificate: path.to_owned(),
                key: key_path.to_owned(),
            });
        }
        if now >= validity.until {
            return Err(PkiError::Expired {
                path: path.to_owned(),
                at: validity.until,
            });
        }
        Ok(Self {
            key,
            certificate,
            certificate_pem,
            expires_at: validity.until,
        })
    }

    /// Its certificate in PEM: what clients trust (`tls.ca`).
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When it ends, and with it everything that it signed.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// How people recognise it.
    #[must_use]
    pub fn ca_pin(&self) -> AuthorityPin {
        AuthorityPin::of_public_key(&self.key.subject_public_key_info())
    }

    /// A new key and a certificate for it, good for a year and under all of these names.
    ///
    /// # Errors
    ///
    /// If there is no name, or the authority's files do not fit together.
    pub fn issue(&self, names: &ServerNames, now: Timestamp) -> Result<Leaf, PkiError> {
        let key = new_key()?;
        let until = now
            .as_second()
            .saturating_add(LEAF_SECONDS)
            .min(self.expires_at.as_second());
        let params = leaf_params(names, now, until)?;
        let issuer_params = authority_params(&self.key, now);
        let issuer = Issuer::from_params(&issuer_params, &self.key);
        let certificate = params
            .signed_by(&key, &issuer)
            .map_err(|error| PkiError::unusable("new certificate", error))?;
        let chain_pem = certificate.pem() + &self.certificate_pem;
        let leaf = Leaf::from_pem(&chain_pem, &Secret::new(key.serialize_pem()))?;
        // Proves in passing that ca.pem has the name and the key that were signed with.
        self.vouches_for(&leaf, names, now)
            .then_some(leaf)
            .ok_or_else(|| {
                PkiError::unusable(
                    "new certificate",
                    "the authority's own certificate refuses it",
                )
            })
    }

    /// Whether a client that trusts this authority would accept the certificate under each name.
    #[must_use]
    pub fn vouches_for(&self, leaf: &Leaf, names: &ServerNames, now: Timestamp) -> bool {
        let mut roots = RootCertStore::empty();
        if roots.add(self.certificate.clone()).is_err() {
            return false;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let Ok(verifier) =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
        else {
            return false;
        };
        let Some((end, rest)) = leaf.certified.cert.split_first() else {
            return false;
        };
        let time = unix_time(now);
        let accepted = |name: String| {
            ServerName::try_from(name).is_ok_and(|name| {
                verifier
                    .verify_server_cert(end, rest, &name, &[], time)
                    .is_ok()
            })
        };
        let texts = names.to_texts();
        !texts.is_empty() && texts.into_iter().all(accepted)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Authority({})", self.ca_pin())
    }
}

// === impl Leaf ===

impl Leaf {
    /// A certificate that came from elsewhere: PEM of the chain, the server's own first, and of its key (PKCS #8,
    /// PKCS #1 or SEC 1).
    ///
    /// # Errors
    ///
    /// If one is unreadable or they do not belong together.
    pub fn from_pem(chain_pem: &str, key_pem: &Secret) -> Result<Self, PkiError> {
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PkiError::unusable("certificate", error))?;
        let end = chain
            .first()
            .ok_or_else(|| PkiError::unusable("certificate", "there is none in the PEM text"))?;
        let validity = der::validity(end)
            .ok_or_else(|| PkiError::unusable("certificate", "its fields cannot be read"))?;
        // The reader's message could quote the key.
        let key = PrivateKeyDer::from_pem_slice(key_pem.expose().as_bytes())
            .map_err(|_| PkiError::unusable("private key", "there is none in the PEM text"))?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| PkiError::unusable("certificate or its key", error))?;
        Ok(Self {
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.clone(),
            expires_at: validity.until,
            certified: Arc::new(certified),
        })
    }

    /// Whether it ends within `margin` of `now`, or has ended.
    #[must_use]
    pub fn ends_within(&self, margin: Duration, now: Timestamp) -> bool {
        let left = self.expires_at.as_second().saturating_sub(now.as_second());
        left <= i64::try_from(margin.as_secs()).unwrap_or(i64::MAX)
    }
}

fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|error| PkiError::unusable("new key", error))
}

fn self_signed(key: &KeyPair, now: Timestamp) -> Result<String, PkiError> {
    authority_params(key, now)
        .self_signed(key)
        .map(|certificate| certificate.pem())
        .map_err(|error| PkiError::unusable("new authority", error))
}

fn authority_params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    let hash = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    let identifier = hash.as_ref()[..20].to_vec();
    let short: String = identifier[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut params = CertificateParams::default();
    // Two authorities never have the same name: some clients find the issuer by name alone.
    params.distinguished_name = common_name(&format!("Jumpstarter authority {short}"));
    params.key_identifier_method = KeyIdMethod::PreSpecified(identifier);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, now.as_second() + AUTHORITY_SECONDS);
    params
}

fn leaf_params(
    names: &ServerNames,
    now: Timestamp,
    until: i64,
) -> Result<CertificateParams, PkiError> {
    let texts = names.to_texts();
    if texts.is_empty() {
        return Err(PkiError::BadName {
            name: String::new(),
        });
    }
    let mut params = CertificateParams::new(texts)
        .map_err(|error| PkiError::unusable("list of names", error))?;
    params.distinguished_name = common_name("Jumpstarter server");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, until);
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, until: i64) {
    let moment = |second: i64| {
        let second = u64::try_from(second).unwrap_or(0);
        // 9999-12-31, the last day that a certificate can name.
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(second.min(253_402_214_400))
    };
    params.not_before = moment(now.as_second() - BACKDATED_SECONDS);
    params.not_after = moment(until);
}

fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(
        u64::try_from(now.as_second()).unwrap_or(0),
    ))
}
