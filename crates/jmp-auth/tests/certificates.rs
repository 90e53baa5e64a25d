//! The authority's certificates in real handshakes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use jmp_auth::pki::{
    Authority, AuthorityPin, Leaf, PinError, PkiError, Protocols, Refreshed, ServerCertificate,
    ServerNames, pinned_client_config,
};
use jmp_types::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

fn now() -> Timestamp {
    // The clients of these tests verify at the system's time.
    Timestamp::now()
}

fn handshake(
    server: Arc<ServerConfig>,
    client: ClientConfig,
    name: &str,
) -> Result<ClientConnection, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..10 {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(client);
        }
    }
    panic!("the handshake does not end");
}

fn trusting<'a>(roots: impl IntoIterator<Item = CertificateDer<'a>>) -> ClientConfig {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.into_owned()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[test]
fn clients_that_trust_the_authority_or_the_presented_chain_connect() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::open(folder.path(), now()).unwrap());
    let names = ServerNames::of_this_machine(["lab.example.com"]).unwrap();
    let certificate =
        ServerCertificate::from_authority(authority.clone(), folder.path(), names, now()).unwrap();
    let server = certificate.server_config(Protocols::Grpc).unwrap();
    let authority_pem = authority.certificate_pem().as_bytes();
    for name in ["lab.example.com", "localhost", "127.0.0.1", "::1"] {
        let root = CertificateDer::from_pem_slice(authority_pem).unwrap();
        let done = handshake(server.clone(), trusting([root]), name).unwrap();
        assert_eq!(done.alpn_protocol(), Some(&b"h2"[..]));
        let presented = done.peer_certificates().unwrap().to_vec();
        assert_eq!(presented.len(), 2, "leaf and root");
        handshake(server.clone(), trusting(presented), name).unwrap();
    }
    let root = CertificateDer::from_pem_slice(authority_pem).unwrap();
    assert!(handshake(server, trusting([root]), "other.example.com").is_err());
    assert_eq!(certificate.refresh(now()).unwrap(), Refreshed::Unchanged);
}

fn later(days: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + days * 24 * 3600).unwrap()
}

fn authority_in(folder: &Path) -> Arc<Authority> {
    Arc::new(Authority::open(folder, now()).unwrap())
}

fn names(names: &[&str]) -> ServerNames {
    ServerNames::new(names).unwrap()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_authority_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
    let first = authority_in(folder.path());
    assert_eq!(mode(&key), 0o600);
    let again = authority_in(folder.path());
    assert_eq!(again.certificate_pem(), first.certificate_pem());
    assert_eq!(again.ca_pin(), first.ca_pin());
    assert!(!format!("{first:?}").contains("PRIVATE"));

    // A crash between the two files, or a certificate lost: the same authority comes back, also by name.
    fs::remove_file(&certificate).unwrap();
    let restored = authority_in(folder.path());
    assert_eq!(restored.ca_pin(), first.ca_pin());
    let leaf = first.issue(&names(&["localhost"]), now()).unwrap();
    assert!(restored.vouches_for(&leaf, &names(&["localhost"]), now()));

    // Somebody else's certificate beside our key.
    let other = tempfile::tempdir().unwrap();
    let foreign = authority_in(other.path());
    assert!(!foreign.vouches_for(&leaf, &names(&["localhost"]), now()));
    fs::write(&certificate, foreign.certificate_pem()).unwrap();
    let error = Authority::open(folder.path(), now()).unwrap_err();
    assert!(matches!(error, PkiError::KeyMismatch { .. }), "{error}");

    fs::remove_file(&key).unwrap();
    let error = Authority::open(folder.path(), now()).unwrap_err();
    assert!(matches!(error, PkiError::KeyLost { .. }), "{error}");

    for (path, text) in [("ca.pem", "nothing"), ("ca.key", "nothing")] {
        let path = other.path().join(path);
        let good = fs::read_to_string(&path).unwrap();
        jmp_auth::private_file::replace(&path, text).unwrap();
        let error = Authority::open(other.path(), now()).unwrap_err();
        assert!(
            error.to_string().contains("does not hold a usable"),
            "{error}"
        );
        jmp_auth::private_file::replace(&path, &good).unwrap();
    }
    let error = Authority::open(other.path(), later(3653)).unwrap_err();
    assert!(matches!(error, PkiError::Expired { .. }), "{error}");
}

#[test]
fn the_certificate_is_renewed_in_time_and_for_other_names_and_swapped_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority_in(folder.path());
    let wanted = names(&["a.example.com", "b.example.com"]);
    let open = |when| {
        ServerCertificate::from_authority(authority.clone(), folder.path(), wanted.clone(), when)
            .unwrap()
    };
    let certificate = open(now());
    assert_eq!(mode(&folder.path().join("server.key")), 0o600);
    let first = certificate.leaf();
    assert_eq!(
        open(now()).leaf().chain_pem,
        first.chain_pem,
        "kept over a restart"
    );
    assert_eq!(
        certificate.refresh(later(334)).unwrap(),
        Refreshed::Unchanged
    );

    let server = certificate.server_config(Protocols::GrpcOrHttp).unwrap();
    let trusted = || trusting([authority.certificate().clone()]);
    assert!(handshake(server.clone(), trusted(), "a.example.com").is_ok());
    let fewer = names(&["b.example.com"]);
    let renamed = certificate.rename(fewer, now()).unwrap();
    assert!(
        matches!(renamed, Refreshed::Replaced { .. }),
        "names that go count too"
    );
    assert!(handshake(server.clone(), trusted(), "a.example.com").is_err());
    assert!(handshake(server, trusted(), "b.example.com").is_ok());

    let renewed = certificate.refresh(later(336)).unwrap();
    assert!(
        matches!(renewed, Refreshed::Replaced { .. }),
        "less than 30 days left"
    );
    // Never beyond the authority.
    let last = authority.issue(&wanted, later(3600)).unwrap();
    assert_eq!(last.expires_at, authority.expires_at());

    // An authority that replaced the one that signed.
    let successor = Arc::new(Authority::in_memory(now()).unwrap());
    let before = open(now()).leaf();
    let replaced =
        ServerCertificate::from_authority(successor, folder.path(), wanted.clone(), now()).unwrap();
    assert_ne!(replaced.leaf().chain_pem, before.chain_pem);

    // A key that does not fit, as after a crash between the two files.
    let before = open(now()).leaf();
    let key = authority.issue(&wanted, now()).unwrap().key_pem;
    jmp_auth::private_file::replace(&folder.path().join("server.key"), key.expose()).unwrap();
    assert_ne!(open(now()).leaf().chain_pem, before.chain_pem);
}

#[test]
fn the_certificate_of_an_administrator_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (
        folder.path().join("chain.pem"),
        folder.path().join("key.pem"),
    );
    let open = |host, when| ServerCertificate::from_files(&chain, &key, host, when);
    let error = open("lab.example.com", now()).unwrap_err();
    assert!(matches!(error, PkiError::Missing { .. }), "{error}");

    let authority = Authority::in_memory(now()).unwrap();
    let install = |names: &ServerNames| {
        let leaf = authority.issue(names, now()).unwrap();
        fs::write(&chain, &leaf.chain_pem).unwrap();
        jmp_auth::private_file::replace(&key, leaf.key_pem.expose()).unwrap();
    };
    install(&names(&["lab.example.com", "10.0.0.1", "::1"]));
    let certificate = open("lab.example.com", now()).unwrap();
    for host in ["10.0.0.1", "::1", "[::1]", "LAB.example.com"] {
        assert!(open(host, now()).is_ok(), "{host}");
    }
    let error = open("other.example.com", now()).unwrap_err();
    assert!(matches!(error, PkiError::WrongName { .. }), "{error}");
    assert!(error.to_string().contains("`other.example.com`"), "{error}");
    let error = open("lab.example.com", later(365)).unwrap_err();
    assert!(matches!(error, PkiError::Expired { .. }), "{error}");
    let error = open("lab.example.com", later(-2)).unwrap_err();
    assert!(matches!(error, PkiError::NotYetValid { .. }), "{error}");

    // The administrator's own renewal is taken without a restart; a bad one is not.
    assert_eq!(certificate.refresh(now()).unwrap(), Refreshed::Unchanged);
    install(&names(&["lab.example.com"]));
    let refreshed = certificate.refresh(now()).unwrap();
    assert!(matches!(refreshed, Refreshed::Replaced { .. }));
    let present = certificate.leaf().chain_pem;
    let other = authority
        .issue(&names(&["lab.example.com"]), now())
        .unwrap();
    fs::write(&chain, &other.chain_pem).unwrap();
    let error = certificate.refresh(now()).unwrap_err();
    assert!(matches!(error, PkiError::KeyMismatch { .. }), "{error}");
    assert_eq!(certificate.leaf().chain_pem, present);

    fs::write(&chain, "no PEM").unwrap();
    let error = certificate.refresh(now()).unwrap_err().to_string();
    assert!(error.contains("chain.pem"), "{error}");
    fs::write(&key, "no PEM").unwrap();
    fs::write(&chain, &other.chain_pem).unwrap();
    let error = certificate.refresh(now()).unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
}

#[test]
fn a_client_with_the_pin_trusts_this_authority_alone() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority_in(folder.path());
    let pin = authority.ca_pin();
    let text = pin.to_string();
    assert_eq!(text.len(), "sha256:".len() + 64);
    assert_eq!(text.parse(), Ok(pin));
    for bad in [
        "",
        "sha256:",
        &text[7..],
        &text[..70],
        &text.replace("sha256", "sha1"),
    ] {
        assert_eq!(
            bad.parse::<AuthorityPin>(),
            Err(PinError::Malformed),
            "{bad}"
        );
    }

    let serving = |leaf: Leaf| {
        ServerCertificate::given(leaf)
            .server_config(Protocols::Grpc)
            .unwrap()
    };
    let pinned = |pin| pinned_client_config(pin, vec![b"h2".to_vec()]).unwrap();
    let leaf = authority.issue(&names(&["lab"]), now()).unwrap();
    let done = handshake(serving(leaf.clone()), pinned(pin), "lab").unwrap();
    let found = pin.find(done.peer_certificates().unwrap()).unwrap();
    assert_eq!(found, authority.certificate());
    assert!(
        handshake(serving(leaf.clone()), pinned(pin), "other").is_err(),
        "names count"
    );

    // Another authority, also when it appends the certificate that the pin names.
    let other = Authority::in_memory(now()).unwrap();
    let foreign = other.issue(&names(&["lab"]), now()).unwrap();
    assert!(handshake(serving(foreign.clone()), pinned(pin), "lab").is_err());
    let appended = foreign.chain_pem.clone() + authority.certificate_pem();
    let appended = Leaf::from_pem(&appended, &foreign.key_pem).unwrap();
    assert!(handshake(serving(appended), pinned(pin), "lab").is_err());
    assert!(handshake(serving(leaf), pinned(other.ca_pin()), "lab").is_err());
}

#[test]
fn names_are_sorted_and_checked() {
    let found = names(&[
        "B.example.com.",
        "a.example.com",
        "[::1]",
        "10.0.0.1",
        "b.example.com",
    ]);
    assert_eq!(
        found.to_texts(),
        ["a.example.com", "b.example.com", "10.0.0.1", "::1"]
    );
    for bad in ["", "a b", "a:1", "*", "-", "a..b", "ü"] {
        assert!(ServerNames::new([bad]).is_err(), "{bad}");
    }
    let machine = ServerNames::of_this_machine([""; 0]).unwrap().to_texts();
    for name in ["localhost", "127.0.0.1", "::1"] {
        assert!(machine.iter().any(|have| have == name), "{machine:?}");
    }
    assert!(
        Authority::in_memory(now())
            .unwrap()
            .issue(&names(&[]), now())
            .is_err()
    );
}
