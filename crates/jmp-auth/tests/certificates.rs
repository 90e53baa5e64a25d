//! The authority's certificates in real handshakes.

use std::sync::Arc;

use jmp_auth::pki::{Authority, Protocols, Refreshed, ServerCertificate, ServerNames};
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
