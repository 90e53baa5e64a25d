//! The keys that tunnel tokens are signed and verified with.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::private_file::{self, FileError};
use crate::{KeyGenerationError, Secret, TokenError};

const WHAT: &str = "key for signing tunnel tokens";
const KEY_BYTES: usize = 32;
/// Keys that may be known at once.
const MAX_KEYS: usize = 16;

/// Keys that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelKeyError {
    /// There is no key.
    #[error("no key for tunnel tokens")]
    None,
    /// One of the keys is empty.
    #[error("a key for tunnel tokens is empty; whoever knows that can open every tunnel")]
    Empty,
    /// There are more keys than anybody needs.
    #[error("more than 16 keys for tunnel tokens")]
    TooMany,
}

/// Keys for tunnel tokens (HMAC): the newest signs, all verify.
///
/// The file holds 32 random bytes in base64 on each line, newest first. Controller and routers share the keys.
#[derive(Clone)]
pub struct TunnelKeys {
    newest_first: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    bytes: Vec<u8>,
    /// For HS256, HS384, HS512.
    macs: [hmac::Key; 3],
}

// === impl TunnelKeys ===

impl TunnelKeys {
    /// The keys of a file, which is made with one random key if there is none.
    ///
    /// # Errors
    ///
    /// If the file is empty, malformed, open to others, or cannot be read or made.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        loop {
            if let Some(text) = private_file::read(path, WHAT)? {
                return Self::from_text(&text)
                    .map_err(|reason| FileError::malformed(path, WHAT, reason));
            }
            let made = Self::generate().map_err(|error| FileError::malformed(path, WHAT, error))?;
            // Another process may have been faster: then its key counts.
            if private_file::create(path, made.to_text().expose())? {
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
            newest_first: vec![Key::generate()?],
        })
    }

    /// Keys that came from elsewhere, newest first: a controller's welcome to its router, or the bytes of
    /// `ROUTER_KEY` of a shipped controller.
    ///
    /// # Errors
    ///
    /// If there is none, one is empty, or there are more than 16.
    pub fn from_secrets<B: AsRef<[u8]>>(
        newest_first: impl IntoIterator<Item = B>,
    ) -> Result<Self, TunnelKeyError> {
        let mut keys = Vec::new();
        for bytes in newest_first.into_iter().take(MAX_KEYS + 1) {
            if bytes.as_ref().is_empty() {
                return Err(TunnelKeyError::Empty);
            }
            keys.push(Key::new(bytes.as_ref().to_vec()));
        }
        match keys.len() {
            0 => Err(TunnelKeyError::None),
            1..=MAX_KEYS => Ok(Self { newest_first: keys }),
            _ => Err(TunnelKeyError::TooMany),
        }
    }

    /// The keys themselves, newest first, for the controller's welcome to a router. Never show them.
    #[must_use]
    pub fn expose(&self) -> Vec<Vec<u8>> {
        self.newest_first
            .iter()
            .map(|key| key.bytes.clone())
            .collect()
    }

    /// Puts a new random key in front, which signs from now on, and writes the file; the others go on verifying.
    /// The oldest ones beyond `keep` are dropped. Routers have to be told before a token is issued.
    ///
    /// # Errors
    ///
    /// If no key can be made or the file not be written; then nothing has changed.
    pub fn rotate(&mut self, path: &Path, keep: usize) -> Result<(), FileError> {
        let new = Key::generate().map_err(|error| FileError::malformed(path, WHAT, error))?;
        let mut changed = self.clone();
        changed.newest_first.insert(0, new);
        changed.newest_first.truncate(keep.clamp(1, MAX_KEYS));
        private_file::replace(path, changed.to_text().expose())?;
        *self = changed;
        Ok(())
    }

    /// How many keys verify.
    #[must_use]
    pub fn count(&self) -> usize {
        self.newest_first.len()
    }

    fn from_text(text: &str) -> Result<Self, &'static str> {
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let bytes = STANDARD.decode(line).map_err(|_| "a line is not base64")?;
            if bytes.len() < KEY_BYTES {
                return Err("a key is shorter than 32 bytes");
            }
            keys.push(bytes);
        }
        Self::from_secrets(keys).map_err(|_| "it holds no key, or more than 16")
    }

    fn to_text(&self) -> Secret {
        let lines = self
            .newest_first
            .iter()
            .map(|key| STANDARD.encode(&key.bytes) + "\n");
        Secret::new(lines.collect::<String>())
    }

    /// HS256 with the newest key.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyGenerationError> {
        let key = self.newest_first.first().ok_or(KeyGenerationError)?;
        Ok(hmac::sign(&key.macs[0], message).as_ref().to_vec())
    }

    pub(crate) fn verify(
        &self,
        algorithm: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let index = match algorithm {
            "HS256" => 0,
            "HS384" => 1,
            "HS512" => 2,
            _ => return Err(TokenError::WrongAlgorithm),
        };
        self.newest_first
            .iter()
            .any(|key| hmac::verify(&key.macs[index], message, signature).is_ok())
            .then_some(())
            .ok_or(TokenError::BadSignature)
    }
}

impl std::fmt::Debug for TunnelKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TunnelKeys({} hidden)", self.newest_first.len())
    }
}

// === impl Key ===

impl Key {
    fn generate() -> Result<Self, KeyGenerationError> {
        let mut bytes = vec![0; KEY_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| KeyGenerationError)?;
        Ok(Self::new(bytes))
    }

    fn new(bytes: Vec<u8>) -> Self {
        let macs = [hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512]
            .map(|algorithm| hmac::Key::new(algorithm, &bytes));
        Self { bytes, macs }
    }
}
