//! UDP sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures::Sink;
use futures::stream::Stream;
use jmp_driver::{ByteStream, Driver, Error, Interface, Logger, OpenContext, Result};
use jmp_interfaces::network::forward::{bare_host, host_and_port};
use jmp_interfaces::network::{
    Network, NetworkAddress, network_address_interface, network_interface,
};
use tokio::net::UdpSocket;

use crate::address;
use crate::connect::connect;
use crate::tcp::HostConfig;

/// Largest payload of a datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// Each stream is a connected UDP socket: one chunk is one datagram, both ways.
///
/// Nobody needs to listen for a stream to open, and datagrams that nobody takes are lost, as
/// with UDP everywhere. Empty datagrams cannot travel: an empty chunk means nothing to a stream.
#[derive(Debug)]
pub struct UdpNetwork {
    config: HostConfig,
    log: Logger,
}

// === impl UdpNetwork ===

impl Network for UdpNetwork {
    async fn connect(&self) -> Result<ByteStream> {
        let HostConfig { host, port, .. } = &self.config;
        let address = format!("udp://{}", host_and_port(host, *port));
        let socket = connect(&address, open(bare_host(host), *port)).await?;
        let socket = Arc::new(socket);
        let reader = receive(Arc::clone(&socket), self.log.clone());
        Ok(ByteStream::new(reader, send(socket)))
    }
}

impl NetworkAddress for UdpNetwork {
    async fn address(&self) -> Result<String> {
        address::check_enabled(self.config.enable_address)?;
        Ok(address::resolved("udp", &self.config.host, self.config.port).await)
    }
}

impl Driver for UdpNetwork {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_network.driver.UdpNetwork"];
    const SUMMARY: &'static str = "Datagrams to and from a UDP port";
    type Config = HostConfig;

    async fn open(config: HostConfig, context: OpenContext) -> Result<Self> {
        Ok(Self {
            config,
            log: context.log,
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![network_interface(), network_address_interface()]
    }
}

/// A socket connected to the first address there is a route to.
async fn open(host: &str, port: u16) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for remote in tokio::net::lookup_host((host, port)).await? {
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(remote).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn receive(
    socket: Arc<UdpSocket>,
    log: Logger,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    async_stream::stream! {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut told = false;
        loop {
            match socket.recv(&mut buffer).await {
                Ok(count) => yield Ok(Bytes::copy_from_slice(&buffer[..count])),
                // The answer to a datagram that nobody took: the next one may find a listener.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if !told {
                        told = true;
                        log.warning(format!("datagram lost: {}", refusal(&socket)));
                    }
                }
                Err(error) => {
                    yield Err(error);
                    return;
                }
            }
        }
    }
}

fn refusal(socket: &UdpSocket) -> String {
    match socket.peer_addr() {
        Ok(peer) => format!("nobody listens on {peer}"),
        Err(_) => "nobody listens there".into(),
    }
}

fn send(socket: Arc<UdpSocket>) -> impl Sink<Bytes, Error = io::Error> + Send + 'static {
    futures::sink::unfold(socket, async |socket: Arc<UdpSocket>, chunk: Bytes| {
        if chunk.len() > MAX_DATAGRAM {
            return Err(Error::invalid_argument(format!(
                "a chunk of {} bytes does not fit into a datagram, which holds up to {MAX_DATAGRAM}",
                chunk.len()
            ))
            .into());
        }
        match socket.send(&chunk).await {
            Ok(_) => Ok(socket),
            // Reports an earlier datagram and takes the place of this one, so send it again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                match socket.send(&chunk).await {
                    Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
                    _ => Ok(socket),
                }
            }
            Err(error) => Err(error),
        }
    })
}
