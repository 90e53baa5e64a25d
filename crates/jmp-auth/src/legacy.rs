//! The signing key of a shipped controller, from its `CONTROLLER_KEY` (facts: controller 5.4): only its public half,
//! so that tokens issued before a migration stay good for a while.
//!
//! SHA-256 of the text seeds the first generator of Go's `math/rand`, whose output becomes the private key. That
//! generator knows some two thousand million seeds, which is why nothing is ever signed with such a key here.

mod curve;
mod generator;

use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use generator::Generator;

/// Bytes that are taken from the generator for one private key.
const STREAM_BYTES: usize = 40;

/// No key follows from the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LegacyKeyError {
    /// There is no text.
    #[error(
        "the CONTROLLER_KEY is empty; a shipped controller without one signs with a key that everybody knows"
    )]
    Empty,
    /// The derived key is none.
    #[error("no signing key follows from this CONTROLLER_KEY")]
    Refused,
}

/// The public key, as an uncompressed point. Takes some hundredths of a second.
pub(crate) fn public_key(controller_key: &[u8]) -> Result<Vec<u8>, LegacyKeyError> {
    key_pair(controller_key).map(|(_, public)| public)
}

fn key_pair(controller_key: &[u8]) -> Result<(EcdsaKeyPair, Vec<u8>), LegacyKeyError> {
    if controller_key.is_empty() {
        return Err(LegacyKeyError::Empty);
    }
    let private = curve::scalar_from_stream(&stream(controller_key));
    let public = curve::public_point(private);
    // Computes the point a second time, with code that others have proven, and compares.
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &private.to_bytes(),
        &public,
        &SystemRandom::new(),
    )
    .map_err(|_| LegacyKeyError::Refused)?;
    Ok((pair, public))
}

fn stream(controller_key: &[u8]) -> [u8; STREAM_BYTES] {
    let hash = digest::digest(&digest::SHA256, controller_key);
    let mut seed = [0; 8];
    seed.copy_from_slice(&hash.as_ref()[..8]);
    let mut generator = Generator::new(i64::from_be_bytes(seed));
    let mut stream = [0; STREAM_BYTES];
    // Of every 63-bit number the seven low bytes count.
    for chunk in stream.chunks_mut(7) {
        chunk.copy_from_slice(&generator.next_u64().to_le_bytes()[..chunk.len()]);
    }
    stream
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jmp_types::Timestamp;
    use ring::rand::SystemRandom;

    use super::{LegacyKeyError, curve, key_pair, public_key, stream};
    use crate::{IdentityKeys, IdentityVerifier, Secret, Subject, TokenError, jws};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_first_vector_of_the_facts() {
        let stream = stream(b"test-seed-value");
        assert_eq!(
            hex(&stream),
            "9ef934f7e7e5713e9816c4e9120446b26ac50fc2eb9ac41319fd5675f13ef8390601e1cb22d23d8f"
        );
        assert_eq!(
            hex(&curve::scalar_from_stream(&stream).to_bytes()),
            "7ffc36268b25a07c946fd244243e002549d84addea020143efb383ff60567eb0"
        );
        assert_eq!(
            hex(&public_key(b"test-seed-value").unwrap()),
            "04d4a0f6414f3264896e728c71aa5ec8ba228ea32306aa43a54d8d39f819d0b111\
             9fb1ee393cdd1c567754ffac92c60c6fa7425454feee76ab6dae6e8b0c73a441"
        );
    }

    #[test]
    fn the_second_vector_of_the_facts() {
        assert_eq!(
            hex(&curve::scalar_from_stream(&stream(b"jumpstarter")).to_bytes()),
            "e3d8af6285549244a1281bc4e1b00c1323c833d4875490fce22a86e0fba42914"
        );
        assert!(public_key(b"jumpstarter").is_ok());
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert_eq!(public_key(b""), Err(LegacyKeyError::Empty));
    }

    #[test]
    fn tokens_of_a_shipped_controller_verify_where_its_key_is_known() {
        let claims = serde_json::json!({
            "iss": "https://localhost:8085", "aud": ["jumpstarter"], "sub": "client:lab:hello:1",
            "iat": 1_800_000_000, "exp": 1_800_000_100,
        });
        let input = jws::signing_input("ES256", &claims);
        let (pair, _) = key_pair(b"jumpstarter").unwrap();
        let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        let token = jws::signed(&input, signature.as_ref());
        let now = Timestamp::from_second(1_800_000_001).unwrap();

        let keys = || IdentityKeys::generate().unwrap();
        let verifier = |keys| IdentityVerifier::new(Arc::new(keys));
        let known = keys().with_legacy(&Secret::new("jumpstarter")).unwrap();
        let found = verifier(known).verify(&token, now).unwrap();
        assert_eq!(found.subject, Subject::client("lab", "hello", "1"));
        assert_eq!(
            (found.legacy, found.generation, found.token_id),
            (true, None, None)
        );
        let other = keys().with_legacy(&Secret::new("another")).unwrap();
        for keys in [keys(), other] {
            assert_eq!(
                verifier(keys).verify(&token, now),
                Err(TokenError::BadSignature)
            );
        }
    }
}
