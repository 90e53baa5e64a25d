//! The connections of the login endpoint: TLS, HTTP/1.1 or HTTP/2, and an end to everything.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jmp_auth::{Places, peer_network};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::LoginService;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// Those of one host, which must not keep the others out; more are closed at once.
const CONNECTIONS_OF_ONE: usize = 32;
/// The longest time for a TLS handshake and for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest life of a connection, whatever it does.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// The longest head of a request in bytes.
const HEAD_SIZE: usize = 16 * 1024;
/// After a failure to accept, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers on `listener` until `stop`, then ends every connection. The application protocols of
/// `tls` are replaced by those spoken here.
///
/// # Errors
/// None at present: single connections may fail, the endpoint stays.
pub async fn serve(
    listener: TcpListener,
    tls: &TlsAcceptor,
    service: Arc<LoginService>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut config = tls.config().as_ref().clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let hosts = Places::new(CONNECTIONS_OF_ONE);
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            // Nobody closes the semaphore.
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "login endpoint: cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(host) = hosts.take(peer_network(peer.ip())) else {
                tracing::debug!(%peer, "login endpoint: too many connections of this host");
                continue;
            };
            let (tls, service) = (tls.clone(), Arc::clone(&service));
            let stop = stop.clone();
            connections.spawn(async move {
                let whole = secure(tls, stream, peer, service);
                let bounded = timeout(CONNECTION_TIME, whole);
                let ended = stop.run_until_cancelled(bounded).await;
                tracing::trace!(%peer, ?ended, "login endpoint: connection ended");
                drop((place, host));
            });
        }
    };
    stop.run_until_cancelled(accepting).await;
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn secure(
    tls: TlsAcceptor,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    service: Arc<LoginService>,
) -> io::Result<()> {
    let stream = timeout(HEAD_TIME, tls.accept(stream)).await??;
    let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    connection(stream, second, peer, service)
        .await
        .map_err(io::Error::other)
}

/// Everything after TLS.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    second: bool,
    peer: SocketAddr,
    service: Arc<LoginService>,
) -> hyper::Result<()> {
    let answers = service_fn(move |request: Request<Incoming>| {
        let response = service.respond(peer, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let stream = TokioIo::new(stream);
    if second {
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server
            .timer(TokioTimer::new())
            .max_concurrent_streams(16)
            .max_header_list_size(16 * 1024)
            .max_send_buf_size(64 * 1024);
        pin!(server.serve_connection(stream, answers)).await
    } else {
        let mut server = hyper::server::conn::http1::Builder::new();
        server
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_SIZE);
        pin!(server.serve_connection(stream, answers)).await
    }
}

/// What a fuzzer runs: `data` as all that one connection sends, first byte choosing the protocol.
///
/// # Panics
/// Never, which is what the fuzzer looks for, unless there is no runtime to be had.
pub fn fuzz_login(data: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
    else {
        return;
    };
    runtime.block_on(async {
        let service = Arc::new(LoginService::new(&super::LoginSettings::default()));
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let serving = connection(theirs, choice & 1 == 1, peer, service);
        let asking = async {
            // The server may hang up at any time.
            let _ = ours.write_all(bytes).await;
            let _ = ours.shutdown().await;
            let mut answer = Vec::new();
            let _ = ours.read_to_end(&mut answer).await;
        };
        let _ = timeout(CONNECTION_TIME, async { tokio::join!(serving, asking) }).await;
    });
}
