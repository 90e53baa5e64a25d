//! The signing key of a shipped controller, from its `CONTROLLER_KEY` (facts: controller 5.4).

/// No key follows from the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the CONTROLLER_KEY is empty; a shipped controller without one signs with a key that everybody knows"
)]
pub struct LegacyKeyError;

/// The public key, as an uncompressed point.
pub(crate) fn public_key(_controller_key: &[u8]) -> Result<Vec<u8>, LegacyKeyError> {
    Err(LegacyKeyError)
}
