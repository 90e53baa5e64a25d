//! The least that a relay with TLS on both sides can be: what a tunnel is compared with.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::lab::Outcome;

const BUFFER: usize = 256 * 1024;
/// Bytes before the clock starts.
const WARM_UP: u64 = 32 << 20;

/// Prints `value N`, 10^6 bytes a second from source to sink.
pub async fn run(count: u64) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(directory.path().join("cert.der"), made.cert.der())?;
    std::fs::write(
        directory.path().join("key.der"),
        made.signing_key.serialize_der(),
    )?;
    let (_source, port) = child(&["relay-source"], directory.path()).await?;
    let (_relay, port) = child(&["relay-server", &port.to_string()], directory.path()).await?;
    let mut stream = connect(directory.path(), port).await?;
    let total = WARM_UP + count;
    stream.write_all(&total.to_le_bytes()).await?;
    stream.flush().await?;
    let mut buffer = vec![0; BUFFER];
    let (mut left, mut begin, mut warm) = (total, Instant::now(), false);
    while left > 0 {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err("the relay ended early".into());
        }
        left = left.saturating_sub(read as u64);
        if !warm && left <= count {
            warm = true;
            begin = Instant::now();
        }
    }
    println!(
        "value {}",
        count as f64 / begin.elapsed().as_secs_f64() / 1e6
    );
    Ok(())
}

/// Starts this program again; it says its port.
async fn child(arguments: &[&str], directory: &Path) -> Outcome<(Child, u16)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let line = BufReader::new(output).lines().next_line().await?;
    let port = line.ok_or("the child said nothing")?.parse()?;
    Ok((child, port))
}

/// Sends as many bytes as the first eight say.
pub async fn source(directory: &Path) -> Outcome<()> {
    let (listener, acceptor) = listen(directory).await?;
    loop {
        let mut stream = acceptor.accept(accept(&listener).await?).await?;
        let mut left = stream.read_u64_le().await?;
        let block = vec![0x5a; BUFFER];
        while left > 0 {
            let size = left.min(BUFFER as u64) as usize;
            stream.write_all(&block[..size]).await?;
            left -= size as u64;
        }
        stream.shutdown().await?;
    }
}

/// Joins each connection with one to the source.
pub async fn server(source: u16, directory: &Path) -> Outcome<()> {
    let (listener, acceptor) = listen(directory).await?;
    loop {
        let near = acceptor.accept(accept(&listener).await?).await?;
        let far = connect(directory, source).await?;
        let (near_reader, near_writer) = tokio::io::split(near);
        let (far_reader, far_writer) = tokio::io::split(far);
        let there = tokio::spawn(copy(near_reader, far_writer));
        // How it ended does not matter here.
        let _ = tokio::spawn(copy(far_reader, near_writer)).await?;
        there.abort();
    }
}

async fn copy<R, W>(mut from: R, mut to: W) -> io::Result<()>
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn listen(directory: &Path) -> Outcome<(TcpListener, TlsAcceptor)> {
    let certificate = std::fs::read(directory.join("cert.der"))?;
    let key = std::fs::read(directory.join("key.der"))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    Ok((listener, TlsAcceptor::from(Arc::new(config))))
}

async fn connect(
    directory: &Path,
    port: u16,
) -> Outcome<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(std::fs::read(directory.join("cert.der"))?.into())?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}
