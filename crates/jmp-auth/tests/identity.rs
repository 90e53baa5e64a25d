//! Identity tokens: issued, verified, refused.

use std::sync::Arc;
use std::time::Duration;

use jmp_auth::{
    IDENTITY_ISSUER, IdentityIssuer, IdentityKeys, IdentityVerifier, Subject, TokenError, peek,
    peek_expiry,
};
use jmp_types::Timestamp;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn pair() -> (IdentityIssuer, IdentityVerifier) {
    let keys = Arc::new(IdentityKeys::generate().unwrap());
    (
        IdentityIssuer::new(keys.clone()),
        IdentityVerifier::new(keys),
    )
}

#[test]
fn a_token_says_what_was_issued() {
    let (issuer, verifier) = pair();
    let subject = Subject::exporter("lab", "bench", "b8a7");
    let issued = issuer.issue(&subject, 7, at(0)).unwrap();
    let claims = verifier.verify(issued.token.expose(), at(5)).unwrap();
    assert_eq!(claims.subject, subject);
    assert_eq!(claims.token_id, Some(issued.token_id.clone()));
    assert_eq!(claims.generation, Some(7));
    assert_eq!(claims.issued_at, Some(at(0)));
    assert_eq!(claims.expires_at, at(365 * 24 * 3600));
    assert!(!claims.legacy);

    let seen = peek(issued.token.expose()).unwrap();
    assert_eq!(seen.subject.as_deref(), Some("exporter:lab:bench:b8a7"));
    assert_eq!(seen.issuer.as_deref(), Some(IDENTITY_ISSUER));
    assert_eq!(peek_expiry(issued.token.expose()), Some(issued.expires_at));
    assert_eq!(peek_expiry("opaque"), None);
}

#[test]
fn a_token_ends_on_time_and_says_the_words_that_clients_look_for() {
    let (issuer, verifier) = pair();
    let issuer = issuer.with_lifetime(Duration::from_secs(100));
    let token = issuer
        .issue(&Subject::client("lab", "a", "1"), 0, at(0))
        .unwrap()
        .token;
    assert!(verifier.verify(token.expose(), at(99)).is_ok());
    let error = verifier.verify(token.expose(), at(100)).unwrap_err();
    assert_eq!(error, TokenError::Expired { since: at(100) });
    assert!(error.to_string().contains("token is expired"), "{error}");
    assert!(verifier.verify(token.expose(), at(-60)).is_ok());
    let error = verifier.verify(token.expose(), at(-61)).unwrap_err();
    assert_eq!(error, TokenError::NotYetValid { from: at(0) });
}

#[test]
fn foreign_keys_do_not_verify() {
    let token = pair()
        .0
        .issue(&Subject::client("lab", "a", "1"), 0, at(0))
        .unwrap()
        .token;
    assert_eq!(
        pair().1.verify(token.expose(), at(0)),
        Err(TokenError::BadSignature)
    );
}

#[test]
fn keys_are_kept_rotated_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/identity.key");
    let mut keys = IdentityKeys::open(&path).unwrap();
    let issue = |keys: IdentityKeys| {
        IdentityIssuer::new(Arc::new(keys))
            .issue(&Subject::administrator("root", "1"), 0, at(0))
            .unwrap()
            .token
    };
    let old = issue(IdentityKeys::open(&path).unwrap());
    keys.rotate(&path, 2).unwrap();
    assert_eq!(keys.count(), 2);
    let new = issue(IdentityKeys::open(&path).unwrap());
    let verifier = IdentityVerifier::new(Arc::new(IdentityKeys::open(&path).unwrap()));
    for token in [&old, &new] {
        assert!(verifier.verify(token.expose(), at(0)).is_ok());
    }
    keys.rotate(&path, 2).unwrap();
    let verifier = IdentityVerifier::new(Arc::new(keys));
    assert_eq!(
        verifier.verify(old.expose(), at(0)),
        Err(TokenError::BadSignature)
    );
    assert!(verifier.verify(new.expose(), at(0)).is_ok());

    let pem = std::fs::read_to_string(&path).unwrap();
    for text in ["x", &pem[..60], &pem.replace("PRIVATE", "PUBLIC")] {
        jmp_auth::private_file::replace(&path, text).unwrap();
        let error = IdentityKeys::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("identity.key") && error.contains("restore it"),
            "{error}"
        );
        assert!(!error.contains(&pem[30..60]), "{error}");
    }
    jmp_auth::private_file::replace(&path, "\n").unwrap();
    let error = IdentityKeys::open(&path).unwrap_err().to_string();
    assert!(error.contains("is empty"), "{error}");
}

#[test]
fn nothing_of_a_key_or_token_is_shown() {
    let (issuer, _) = pair();
    let issued = issuer.issue(&Subject::router("r", "1"), 0, at(0)).unwrap();
    let shown = format!("{issued:?} {issuer:?}");
    assert!(!shown.contains(issued.token.expose()), "{shown}");
    assert!(shown.contains("hidden"), "{shown}");
}
