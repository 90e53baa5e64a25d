//! Bodies of fuzz targets: what no input may do.

use std::sync::{Arc, LazyLock};

use jmp_types::Timestamp;
use rustls::pki_types::CertificateDer;

use crate::pki::AuthorityPin;
use crate::{
    IdentityIssuer, IdentityKeys, IdentityVerifier, Subject, TunnelEnds, TunnelIssuer, TunnelKeys,
    TunnelVerifier, peek, peek_expiry,
};

/// Verifiers with keys that nobody knows, and good tokens for them.
struct Fixture {
    identity: IdentityVerifier,
    tunnel: TunnelVerifier,
    good: [String; 2],
}

static FIXTURE: LazyLock<Option<Fixture>> = LazyLock::new(|| {
    let identity = Arc::new(IdentityKeys::generate().ok()?);
    let tunnel = TunnelKeys::generate().ok()?;
    let ends = TunnelEnds {
        lease: "lease",
        client: "client:lab:hello",
        exporter: "exporter:lab:bench",
    };
    let subject = Subject::client("lab", "hello", "1");
    let identity_token = IdentityIssuer::new(identity.clone())
        .issue(&subject, 1, moment())
        .ok()?;
    let tunnel_tokens = TunnelIssuer::new(Arc::new(tunnel.clone()))
        .issue(ends, moment())
        .ok()?;
    Some(Fixture {
        identity: IdentityVerifier::new(identity),
        tunnel: TunnelVerifier::new(tunnel),
        good: [
            identity_token.token.expose().to_owned(),
            tunnel_tokens.client.token.expose().to_owned(),
        ],
    })
});

fn moment() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// No input is accepted as a token, and no change of a good token is.
///
/// # Panics
///
/// When one is.
pub fn fuzz_token(data: &[u8]) {
    let Some(fixture) = FIXTURE.as_ref() else {
        return;
    };
    if let Ok(text) = std::str::from_utf8(data) {
        fixture.refuses(text);
    }
    for good in &fixture.good {
        let mutated = mutated(good, data);
        if mutated == *good {
            let accepted = fixture.identity.verify(good, moment()).is_ok()
                || fixture.tunnel.verify(good, moment()).is_ok();
            assert!(accepted, "a good token was refused");
        } else {
            fixture.refuses(&mutated);
        }
    }
}

// === impl Fixture ===

impl Fixture {
    fn refuses(&self, token: &str) {
        if let Some(seen) = peek(token) {
            assert_eq!(seen.expires_at, peek_expiry(token));
        }
        assert!(self.identity.verify(token, moment()).is_err());
        assert!(self.tunnel.verify(token, moment()).is_err());
    }
}

/// The token changed by the data: each three bytes replace, insert or remove one character.
fn mutated(good: &str, data: &[u8]) -> String {
    const CHARACTERS: &[u8] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= ";
    let mut token = good.as_bytes().to_vec();
    for change in data.chunks_exact(3).take(16) {
        let position = (usize::from(change[0]) << 8 | usize::from(change[1])) % token.len();
        let character = CHARACTERS[usize::from(change[2] & 0x3f) % CHARACTERS.len()];
        match change[2] >> 6 {
            0 | 1 => token[position] = character,
            2 => token.insert(position, character),
            _ => drop(token.remove(position)),
        }
    }
    String::from_utf8_lossy(&token).into_owned()
}

/// Presented certificates are read without panic.
pub fn fuzz_certificate(data: &[u8]) {
    let certificate = CertificateDer::from(data);
    let _ = crate::pki::validity(&certificate);
    if let Some(pin) = AuthorityPin::of(&certificate) {
        assert_eq!(pin.to_string().parse(), Ok(pin));
    }
}
