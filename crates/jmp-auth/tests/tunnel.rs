//! Tunnel tokens: issued, verified, refused.

use std::sync::Arc;

use jmp_auth::{
    IdentityIssuer, IdentityKeys, IdentityVerifier, IssuedToken, Subject, TokenError, TunnelEnds,
    TunnelIssuer, TunnelKeyError, TunnelKeys, TunnelRole, TunnelTokens, TunnelVerifier, UseError,
    UsedTokens,
};
use jmp_types::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

const ENDS: TunnelEnds<'_> = TunnelEnds {
    lease: "lab/lease-1",
    client: "client:lab:hello",
    exporter: "exporter:lab:bench",
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn issued(keys: &TunnelKeys) -> TunnelTokens {
    TunnelIssuer::new(Arc::new(keys.clone()))
        .issue(ENDS, at(0))
        .unwrap()
}

/// A token as another program would sign it.
fn signed(algorithm: &str, mac: hmac::Algorithm, key: &[u8], claims: &Value) -> String {
    let encode = |bytes: &[u8]| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    };
    let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
    let input = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let signature = hmac::sign(&hmac::Key::new(mac, key), input.as_bytes());
    format!("{input}.{}", encode(signature.as_ref()))
}

/// What a shipped controller says.
fn shipped() -> Value {
    json!({
        "iss": "https://jumpstarter.dev/stream", "aud": ["https://jumpstarter.dev/router"],
        "sub": "b2c6", "jti": "d4e8",
        "iat": at(0).as_second(), "nbf": at(0).as_second(), "exp": at(1800).as_second(),
    })
}

#[test]
fn both_ends_get_a_token_of_their_own_for_one_stream() {
    let keys = TunnelKeys::generate().unwrap();
    let (tokens, verifier) = (issued(&keys), TunnelVerifier::new(keys));
    let check = |token: &IssuedToken, role, owner| {
        let claims = verifier.verify(token.token.expose(), at(1)).unwrap();
        assert_eq!(claims.stream, tokens.stream);
        assert_eq!(claims.role, Some(role));
        assert_eq!(claims.lease.as_deref(), Some(ENDS.lease));
        assert_eq!(claims.owner.as_deref(), Some(owner));
        assert_eq!(claims.token_id.as_ref(), Some(&token.token_id));
        assert_eq!(claims.expires_at, at(1800));
        claims
    };
    let client = check(&tokens.client, TunnelRole::Client, ENDS.client);
    let exporter = check(&tokens.exporter, TunnelRole::Exporter, ENDS.exporter);
    assert_ne!(client.token_id, exporter.token_id);

    let mut used = UsedTokens::new(10);
    for claims in [&client, &exporter] {
        assert_eq!(used.admit(claims, at(1)), Ok(()));
        assert_eq!(used.admit(claims, at(2)), Err(UseError::AlreadyUsed));
    }
}

#[test]
fn clocks_may_differ_by_a_minute_and_by_what_the_router_learned() {
    let keys = TunnelKeys::generate().unwrap();
    let token = issued(&keys).client.token;
    let verifier = TunnelVerifier::new(keys);
    let verify = |local| verifier.verify(token.expose(), local).map(drop);
    assert_eq!(verify(at(-60)), Ok(()));
    assert_eq!(
        verify(at(-61)),
        Err(TokenError::NotYetValid { from: at(0) })
    );
    assert_eq!(verify(at(1859)), Ok(()));
    assert_eq!(
        verify(at(1860)),
        Err(TokenError::Expired { since: at(1800) })
    );
    // The router's clock is an hour late.
    verifier.learn_time(at(0), at(-3600));
    assert_eq!(verify(at(-3600)), Ok(()));
    assert!(verify(at(0)).is_err());
}

#[test]
fn tokens_of_shipped_controllers_verify_with_their_key() {
    let key = b"a ROUTER_KEY as it stands in the environment";
    let verifier = TunnelVerifier::new(TunnelKeys::from_secrets([key]).unwrap());
    let mut used = UsedTokens::new(10);
    for (algorithm, mac) in [
        ("HS256", hmac::HMAC_SHA256),
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
    ] {
        let token = signed(algorithm, mac, key, &shipped());
        let claims = verifier.verify(&token, at(0)).unwrap();
        assert_eq!((claims.stream.as_str(), claims.role), ("b2c6", None));
        let _ = used.admit(&claims, at(0));
    }
    // Both ends show the same token, nobody a third time.
    let claims = verifier
        .verify(&signed("HS256", hmac::HMAC_SHA256, key, &shipped()), at(0))
        .unwrap();
    assert_eq!(used.admit(&claims, at(0)), Err(UseError::AlreadyUsed));
}

#[test]
fn each_wrong_claim_is_named() {
    let key = [7; 32];
    let verifier = TunnelVerifier::new(TunnelKeys::from_secrets([key]).unwrap());
    let verify = |change: &dyn Fn(&mut Value)| {
        let mut claims = shipped();
        change(&mut claims);
        verifier.verify(&signed("HS256", hmac::HMAC_SHA256, &key, &claims), at(0))
    };
    assert!(verify(&|_| ()).is_ok());
    assert!(verify(&|claims| claims["aud"] = json!("https://jumpstarter.dev/router")).is_ok());
    assert!(verify(&|claims| claims["exp"] = json!(at(9).as_second() as f64 + 0.5)).is_ok());
    let cases: [(&str, Value, TokenError); 9] = [
        (
            "iss",
            json!("https://localhost:8085"),
            TokenError::WrongIssuer,
        ),
        ("iss", Value::Null, TokenError::WrongIssuer),
        ("aud", json!(["jumpstarter"]), TokenError::WrongAudience),
        ("aud", json!([]), TokenError::WrongAudience),
        ("exp", Value::Null, TokenError::Malformed("it has no end")),
        ("sub", json!(""), TokenError::UnknownSubject),
        ("role", json!("router"), TokenError::UnknownSubject),
        (
            "exp",
            json!("soon"),
            TokenError::Malformed("its claims cannot be read"),
        ),
        (
            "lease",
            json!("l".repeat(1025)),
            TokenError::Malformed("one of its claims is too long"),
        ),
    ];
    for (claim, value, error) in cases {
        assert_eq!(
            verify(&|claims| claims[claim] = value.clone()),
            Err(error),
            "{claim}"
        );
    }
}

#[test]
fn no_algorithm_is_taken_from_the_token() {
    let key = [7; 32];
    let verifier = TunnelVerifier::new(TunnelKeys::from_secrets([key]).unwrap());
    for algorithm in ["none", "None", "hs256", "ES256", "HS1", ""] {
        let token = signed(algorithm, hmac::HMAC_SHA256, &key, &shipped());
        assert_eq!(
            verifier.verify(&token, at(0)),
            Err(TokenError::WrongAlgorithm),
            "{algorithm}"
        );
    }
    let token = signed("HS512", hmac::HMAC_SHA256, &key, &shipped());
    assert_eq!(
        verifier.verify(&token, at(0)),
        Err(TokenError::BadSignature)
    );
    // A token for the controller is none for a router, nor the other way round.
    let keys = Arc::new(IdentityKeys::generate().unwrap());
    let identity = IdentityIssuer::new(keys.clone())
        .issue(&Subject::client("lab", "hello", "1"), 0, at(0))
        .unwrap();
    assert!(verifier.verify(identity.token.expose(), at(0)).is_err());
    let token = signed("HS256", hmac::HMAC_SHA256, &key, &shipped());
    assert_eq!(
        IdentityVerifier::new(keys).verify(&token, at(0)),
        Err(TokenError::WrongAlgorithm)
    );
}

#[test]
fn keys_are_kept_rotated_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tunnel.key");
    let mut keys = TunnelKeys::open(&path).unwrap();
    let old = issued(&keys).client.token;
    keys.rotate(&path, 2).unwrap();
    let new = issued(&keys).client.token;
    let opened = TunnelKeys::open(&path).unwrap();
    assert_eq!(opened.expose(), keys.expose());
    assert_eq!(opened.expose()[0].len(), 32);
    let verifier = TunnelVerifier::new(opened);
    for token in [&old, &new] {
        assert!(verifier.verify(token.expose(), at(0)).is_ok());
    }
    keys.rotate(&path, 2).unwrap();
    verifier.replace_keys(TunnelKeys::open(&path).unwrap());
    assert_eq!(
        verifier.verify(old.expose(), at(0)),
        Err(TokenError::BadSignature)
    );
    assert!(verifier.verify(new.expose(), at(0)).is_ok());

    for text in ["?", "c2hvcnQ=\n"] {
        jmp_auth::private_file::replace(&path, text).unwrap();
        let error = TunnelKeys::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("tunnel.key") && error.contains("restore it"),
            "{error}"
        );
    }
    let none: [&[u8]; 0] = [];
    assert_eq!(
        TunnelKeys::from_secrets(none).unwrap_err(),
        TunnelKeyError::None
    );
    assert_eq!(
        TunnelKeys::from_secrets([b""]).unwrap_err(),
        TunnelKeyError::Empty
    );
    let many = vec![[1; 32]; 17];
    assert_eq!(
        TunnelKeys::from_secrets(many).unwrap_err(),
        TunnelKeyError::TooMany
    );
}
