//! The keys that identity tokens are signed and verified with.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use crate::private_file::{self, FileError};
use crate::{Secret, TokenError, legacy};

const WHAT: &str = "key for signing tokens";
/// Keys that a file may hold: one signs, the others were replaced and still verify.
const MAX_KEYS: usize = 16;

/// The system gave no random bytes, or a key made from them was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot make a key: the system's random number generator failed")]
pub struct KeyGenerationError;

/// Keys for identity tokens: the newest signs, all verify.
///
/// The file holds PKCS #8 private keys (P-256) in PEM, newest first. Tokens carry no key identifier, as those of
/// shipped controllers, so that a verifier tries each key.
#[derive(Debug)]
pub struct IdentityKeys {
    newest_first: Vec<SigningKey>,
    legacy: Option<PublicKey>,
}

struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    pkcs8: Vec<u8>,
}

/// A point of the curve, uncompressed.
type PublicKey = Vec<u8>;

// === impl IdentityKeys ===

impl IdentityKeys {
    /// The keys of a file, which is made with one random key if there is none.
    ///
    /// # Errors
    ///
    /// If the file is empty, malformed, open to others, or cannot be read or made.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        loop {
            if let Some(text) = private_file::read(path, WHAT)? {
                return Self::from_pem(&text)
                    .map_err(|reason| FileError::malformed(path, WHAT, reason));
            }
            let made = Self::generate().map_err(|error| FileError::malformed(path, WHAT, error))?;
            // Another process may have been faster: then its key counts.
            if private_file::create(path, made.to_pem().expose())? {
                return Ok(made);
            }
        }
    }

    /// A new random key that is in no file.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyGenerationError> {
        Ok(Self {
            newest_first: vec![SigningKey::generate()?],
            legacy: None,
        })
    }

    /// Also verifies tokens of an installation of the shipped controller, by its `CONTROLLER_KEY`
    /// (facts: controller 5.4). There are only some two thousand million such keys, so that they can be guessed:
    /// for the time of a migration, never to sign.
    ///
    /// # Errors
    ///
    /// If the key is empty.
    pub fn with_legacy(mut self, controller_key: &Secret) -> Result<Self, legacy::LegacyKeyError> {
        self.legacy = Some(legacy::public_key(controller_key.expose().as_bytes())?);
        Ok(self)
    }

    /// Puts a new random key in front, which signs from now on, and writes the file; the others go on verifying.
    /// The oldest ones beyond `keep` are dropped: tokens that they signed end.
    ///
    /// # Errors
    ///
    /// If no key can be made or the file not be written; then nothing has changed.
    pub fn rotate(&mut self, path: &Path, keep: usize) -> Result<(), FileError> {
        let new =
            SigningKey::generate().map_err(|error| FileError::malformed(path, WHAT, error))?;
        let kept = keep.clamp(1, MAX_KEYS);
        let pem = pem_of(std::iter::once(&new).chain(&self.newest_first).take(kept));
        private_file::replace(path, pem.expose())?;
        self.newest_first.insert(0, new);
        self.newest_first.truncate(kept);
        Ok(())
    }

    /// How many keys verify, the legacy one aside.
    #[must_use]
    pub fn count(&self) -> usize {
        self.newest_first.len()
    }

    fn from_pem(text: &str) -> Result<Self, &'static str> {
        let mut newest_first = Vec::new();
        for key in PrivatePkcs8KeyDer::pem_slice_iter(text.as_bytes()) {
            let key = key.map_err(|_| "it is not PEM")?;
            newest_first.push(SigningKey::from_pkcs8(key.secret_pkcs8_der())?);
        }
        match newest_first.len() {
            0 => Err("there is no `BEGIN PRIVATE KEY` in it"),
            1..=MAX_KEYS => Ok(Self {
                newest_first,
                legacy: None,
            }),
            _ => Err("it holds more than 16 keys"),
        }
    }

    fn to_pem(&self) -> Secret {
        pem_of(self.newest_first.iter())
    }

    /// The signature of the newest key.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyGenerationError> {
        let key = self.newest_first.first().ok_or(KeyGenerationError)?;
        key.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| KeyGenerationError)
    }

    /// Says whether the signature is of the legacy key.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<bool, TokenError> {
        let ours = self.newest_first.iter().map(|key| (&key.public, false));
        let legacy = self.legacy.iter().map(|key| (key, true));
        ours.chain(legacy)
            .find(|(key, _)| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
                    .verify(message, signature)
                    .is_ok()
            })
            .map(|(_, is_legacy)| is_legacy)
            .ok_or(TokenError::BadSignature)
    }
}

fn pem_of<'a>(keys: impl Iterator<Item = &'a SigningKey>) -> Secret {
    let mut pem = String::new();
    for key in keys {
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        let text = STANDARD.encode(&key.pkcs8);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
    }
    Secret::new(pem)
}

// === impl SigningKey ===

impl SigningKey {
    fn generate() -> Result<Self, KeyGenerationError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyGenerationError)?;
        Self::from_pkcs8(pkcs8.as_ref()).map_err(|_| KeyGenerationError)
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, &'static str> {
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            pkcs8,
            &SystemRandom::new(),
        )
        .map_err(|_| "it is not a P-256 key in PKCS #8 with its public key")?;
        Ok(Self {
            public: pair.public_key().as_ref().to_vec(),
            pkcs8: pkcs8.to_vec(),
            pair,
        })
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKey(hidden)")
    }
}
