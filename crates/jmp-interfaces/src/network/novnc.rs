//! A local WebSocket that leads to a byte stream, as web viewers such as noVNC want it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use jmp_driver::{Error, ErrorKind, Result};
use jmp_wire::stream::pump;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::Response;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_util::task::AbortOnDropHandle;

use super::forward::{Forward, accept_all, bind_tcp};
use super::websocket::{CLOSE_TIMEOUT, byte_stream, io_error};

/// How long a browser may take to ask for a WebSocket.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// First byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// A local port that speaks WebSocket, without TLS, and leads to a device. Dropping it closes
/// the port and all connections.
#[derive(Debug)]
pub struct Novnc {
    local: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

// === impl Novnc ===

impl Novnc {
    /// Listens on a TCP port; port 0 takes any free one.
    ///
    /// # Errors
    ///
    /// If the host is unknown or the port cannot be used.
    pub async fn listen(forward: Forward, host: &str, port: u16) -> Result<Self> {
        let listener = bind_tcp(host, port).await?;
        let local = listener.local_addr()?;
        let limit = forward.connection_limit();
        let accepting = accept_all(listener, limit, local.to_string(), move |browser| {
            let forward = forward.clone();
            async move { serve(&forward, browser).await }
        });
        Ok(Self {
            local,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The page of noVNC that shows the screen behind this port (facts: drivers 1.2). With
    /// `encrypt` the page uses TLS, so something in front of the port has to speak it; without,
    /// a browser on this machine can use the port as it is.
    pub fn url(&self, encrypt: bool) -> String {
        format!(
            "https://novnc.com/noVNC/vnc.html?encrypt={}&autoconnect=1&reconnect=1&host={}&port={}",
            u8::from(encrypt),
            self.local.ip(),
            self.local.port()
        )
    }
}

/// Serves one browser. When either end closes, so does the other: a WebSocket is never half
/// open.
async fn serve(forward: &Forward, browser: TcpStream) -> Result<()> {
    let browser = byte_stream(handshake(browser).await?);
    let remote = forward.open().await?;
    let there = pump(browser.reader, remote.writer);
    let back = pump(remote.reader, browser.writer);
    tokio::pin!(there, back);
    tokio::select! {
        ended = &mut there => drain(ended, back).await,
        ended = &mut back => drain(ended, there).await,
    }
}

/// One direction has ended; the other may finish what it has at hand.
async fn drain(
    ended: std::io::Result<u64>,
    other: impl Future<Output = std::io::Result<u64>>,
) -> Result<()> {
    ended?;
    // Its failures are the consequence of the end, not news.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, other).await;
    Ok(())
}

async fn handshake(browser: TcpStream) -> Result<WebSocketStream<TcpStream>> {
    let shaking = async {
        let mut first = [0];
        browser.peek(&mut first).await?;
        if first[0] == TLS_HANDSHAKE {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the browser speaks TLS, which this port does not; open the page with encrypt=0",
            ));
        }
        tokio_tungstenite::accept_hdr_async(browser, AgreeToBinary)
            .await
            .map_err(|error| Error::from(io_error(error)).context("WebSocket handshake"))
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await {
        Ok(shaken) => shaken,
        Err(_) => Err(Error::timeout(format!(
            "WebSocket handshake: nothing came within {} s",
            HANDSHAKE_TIMEOUT.as_secs()
        ))),
    }
}

/// Viewers that ask for the subprotocol `binary` refuse a server that does not answer it.
struct AgreeToBinary;

impl Callback for AgreeToBinary {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
        let offers_binary = offered
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|name| name.trim() == "binary");
        if offers_binary {
            let binary = HeaderValue::from_static("binary");
            response
                .headers_mut()
                .insert(SEC_WEBSOCKET_PROTOCOL, binary);
        }
        Ok(response)
    }
}
