//! From headers to what a caller presents.

use jmp_auth::metadata::{Attributes, Code, MetadataError, Presented, bearer, name_of_user};
use jmp_auth::{IdentityKind, Subject};

type Header<'a> = (&'a str, &'a [u8]);

const COMPLETE: [Header<'_>; 4] = [
    ("authorization", b"Bearer abc"),
    ("jumpstarter-kind", b"Client"),
    ("jumpstarter-namespace", b"lab"),
    ("jumpstarter-name", b"hello"),
];

fn read(headers: &[Header<'_>]) -> Result<Presented, MetadataError> {
    Presented::read(headers.iter().copied())
}

fn changed(name: &str, value: Option<&'static [u8]>) -> Vec<Header<'static>> {
    COMPLETE
        .into_iter()
        .filter_map(|(key, old)| match (key == name, value) {
            (false, _) => Some((key, old)),
            (true, new) => Some((key, new?)),
        })
        .collect()
}

#[test]
fn complete_headers_are_read() {
    let presented = read(&COMPLETE).unwrap();
    assert_eq!(presented.token.expose(), "abc");
    assert_eq!(presented.attributes.kind, IdentityKind::Client);
    assert_eq!(presented.attributes.namespace, "lab");
    assert_eq!(presented.attributes.name.as_deref(), Some("hello"));
}

#[test]
fn the_scheme_may_be_in_any_case() {
    for value in [&b"bearer abc"[..], b"BEARER abc", b"bEaReR abc"] {
        assert_eq!(bearer([("authorization", value)]).unwrap().expose(), "abc");
    }
    // Empty tokens are refused by whoever verifies them, as by shipped controllers.
    assert!(
        bearer([("authorization", &b"Bearer "[..])])
            .unwrap()
            .is_empty()
    );
    for value in [
        &b""[..],
        b"Bearer",
        b"Basic abc",
        b"abcdefghij",
        b"Bearer\xff",
        b"Bear\xc3\xa9r x",
    ] {
        assert_eq!(
            bearer([("authorization", value)]),
            Err(MetadataError::MalformedAuthorization)
        );
    }
}

#[test]
fn each_fault_has_its_code_and_text() {
    let twice = |header: Header<'static>| [&COMPLETE[..], &[header]].concat();
    let long: &[u8] = &[b'a'; 254];
    let with_long = [&COMPLETE[..3], &[("jumpstarter-name", long)]].concat();
    let cases: Vec<(Vec<Header<'_>>, Code, &str)> = vec![
        (
            vec![],
            Code::Unauthenticated,
            "missing authorization header",
        ),
        (
            changed("authorization", None),
            Code::Unauthenticated,
            "missing authorization header",
        ),
        (
            twice(COMPLETE[0]),
            Code::InvalidArgument,
            "multiple authorization headers",
        ),
        (
            changed("authorization", Some(b"x")),
            Code::InvalidArgument,
            "malformed authorization header",
        ),
        (
            changed("jumpstarter-kind", None),
            Code::InvalidArgument,
            "missing metadata: jumpstarter-kind",
        ),
        (
            changed("jumpstarter-kind", Some(b"client")),
            Code::InvalidArgument,
            "object kind mismatch",
        ),
        (
            changed("jumpstarter-namespace", None),
            Code::InvalidArgument,
            "missing metadata: jumpstarter-namespace",
        ),
        (
            changed("jumpstarter-namespace", Some(b"")),
            Code::InvalidArgument,
            "missing metadata: jumpstarter-namespace",
        ),
        (
            changed("jumpstarter-name", Some(b"a\nb")),
            Code::InvalidArgument,
            "malformed metadata: jumpstarter-name",
        ),
        (
            changed("jumpstarter-name", Some(b"\xff")),
            Code::InvalidArgument,
            "malformed metadata: jumpstarter-name",
        ),
        (
            with_long,
            Code::InvalidArgument,
            "malformed metadata: jumpstarter-name",
        ),
        (
            twice(COMPLETE[1]),
            Code::InvalidArgument,
            "multiple metadata: jumpstarter-kind",
        ),
        (
            twice(COMPLETE[2]),
            Code::InvalidArgument,
            "multiple metadata: jumpstarter-namespace",
        ),
        (
            twice(COMPLETE[3]),
            Code::InvalidArgument,
            "multiple metadata: jumpstarter-name",
        ),
    ];
    for (headers, code, text) in cases {
        let error = read(&headers).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_token_is_good_for_its_own_identity_only() {
    let attributes = read(&COMPLETE).unwrap().attributes;
    assert_eq!(
        attributes.permits(&Subject::client("lab", "hello", "1")),
        Ok(())
    );
    for other in [
        Subject::client("lab", "other", "1"),
        Subject::client("other", "hello", "1"),
        Subject::exporter("lab", "hello", "1"),
        Subject::administrator("hello", "1"),
    ] {
        let error = attributes.permits(&other).unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
        assert_eq!(error.to_string(), "permission denied for client lab/hello");
    }
    let nameless = Attributes {
        name: None,
        ..attributes.clone()
    };
    let error = nameless
        .permits(&Subject::client("lab", "hello", "1"))
        .unwrap_err();
    assert_eq!(error.to_string(), "missing metadata: jumpstarter-name");
    assert_eq!(attributes.require_kind(IdentityKind::Client), Ok(()));
    let error = attributes.require_kind(IdentityKind::Exporter).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(
        error.to_string().contains("object kind mismatch"),
        "{error}"
    );

    let administrator = Attributes {
        kind: IdentityKind::Administrator,
        ..attributes
    };
    assert_eq!(
        administrator.permits(&Subject::administrator("hello", "1")),
        Ok(())
    );
}

#[test]
fn names_follow_from_the_users_of_other_issuers() {
    let long = format!("dex:{}", "x".repeat(62) + "@example.com");
    for (user, name) in [
        ("dex:a@b.c", "a-b-c"),
        ("dex:Some.One+Else@Example.COM", "some-one-else-example-com"),
        ("dex:system:serviceaccount:lab:ci", "lab-ci"),
        (
            "dex:system:serviceaccount:lab:ci:x",
            "system-serviceaccount-lab-ci-x",
        ),
        ("plain", "plain"),
        ("dex:--__a", "a"),
        ("dex:é", ""),
        (long.as_str(), &"x".repeat(62)),
    ] {
        assert_eq!(name_of_user(user), name);
    }
    let said = |name: Option<&str>| Attributes {
        kind: IdentityKind::Client,
        namespace: "lab".into(),
        name: name.map(Into::into),
    };
    assert_eq!(said(None).external_name("dex:a@b.c").unwrap(), "a-b-c");
    assert_eq!(
        said(Some("a-b-c")).external_name("dex:a@b.c").unwrap(),
        "a-b-c"
    );
    let account = "dex:system:serviceaccount:lab:ci";
    assert_eq!(said(Some("any")).external_name(account).unwrap(), "any");
    assert!(said(None).external_name(account).is_err());
    for (name, user) in [(Some("other"), "dex:a@b.c"), (None, "dex:@")] {
        assert_eq!(
            said(name).external_name(user),
            Err(MetadataError::NameMismatch)
        );
    }
}
