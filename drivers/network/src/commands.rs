//! `j NAME …` for networks (facts: drivers 1.2).

use std::io::{self, Write};
use std::path::Path;

use futures::future::BoxFuture;
use jmp_driver::command::{
    Argument, ClientType, Command, Commands, DeviceInfo, Invocation, ValueKind,
};
use jmp_driver::{ByteStream, Error, ErrorKind, Result};
use jmp_interfaces::network::NetworkAddressClient;
use jmp_interfaces::network::dbus::{BusKind, Dbus, KIND_LABEL};
use jmp_interfaces::network::forward::Forward;
use jmp_interfaces::network::novnc::Novnc;
use jmp_interfaces::network::ssh::Ssh;
use jmp_process::{Foreground, StdinReader};
use jmp_wire::stream::pump;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Client type of [`jmp_interfaces::network::Network`].
pub const NETWORK: ClientType = ClientType {
    classes: &["jumpstarter_driver_network.client.NetworkClient"],
    about: "Generic Network Connection",
    commands: network,
};

/// Client type of [`jmp_interfaces::network::dbus::DbusNetwork`].
pub const DBUS: ClientType = ClientType {
    classes: &["jumpstarter_driver_network.client.DbusNetworkClient"],
    about: "D-Bus message bus",
    commands: bus,
};

fn network(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    Box::pin(async {
        Ok(Commands::Group(vec![
            address(),
            connect(),
            forward_tcp(),
            forward_unix(),
            novnc(),
            ssh(),
        ]))
    })
}

fn bus(_: DeviceInfo) -> BoxFuture<'static, Result<Commands>> {
    Box::pin(async {
        Ok(Commands::Group(vec![
            connect(),
            forward_tcp(),
            forward_unix(),
            run(),
        ]))
    })
}

fn forward(invocation: &Invocation) -> Forward {
    Forward::new(invocation.device.handle.clone())
}

/// One line of data; readers of a pipe get it at once.
fn say(line: impl std::fmt::Display) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .map_err(|error| Error::from(error).context("writing to standard output"))
}

/// Ctrl-C, SIGTERM and SIGHUP, the ordinary end of a forward. They are caught before anybody
/// is told of the forward, so that its end is always a clean one.
struct Ending {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

// === impl Ending ===

impl Ending {
    fn catch() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

// === forwards ===

fn forward_tcp() -> Command {
    Command::new(
        "forward-tcp",
        "Forward a local TCP port to the device until interrupted",
        |invocation: Invocation| async move {
            let host = invocation.given.get("address").unwrap_or("localhost");
            let port = invocation.given.number("port")?.unwrap_or(0);
            let mut ending = Ending::catch()?;
            let listening = forward(&invocation).listen_tcp(host, port).await?;
            say(listening.local_addr())?;
            ending.wait().await;
            Ok(0)
        },
    )
    .argument(
        Argument::option("address", ValueKind::Text, "Local address to listen on")
            .default_value("localhost"),
    )
    .argument(Argument::positional(
        "port",
        ValueKind::Integer,
        "Local port to listen on; 0 for any free one",
    ))
    .example("forward-tcp 8080")
    .example("forward-tcp --address 0.0.0.0 0")
}

fn forward_unix() -> Command {
    Command::new(
        "forward-unix",
        "Forward a local unix socket to the device until interrupted",
        |invocation: Invocation| async move {
            let path = invocation.given.path("path");
            let mut ending = Ending::catch()?;
            let listening = forward(&invocation).listen_unix(path.as_deref())?;
            say(listening.path().display())?;
            ending.wait().await;
            Ok(0)
        },
    )
    .argument(
        Argument::positional(
            "path",
            ValueKind::File,
            "Where to make the socket; by default in a new private directory",
        )
        .requirement(false),
    )
    .example("forward-unix ./device.sock")
}

fn novnc() -> Command {
    Command::new(
        "novnc",
        "Show the device's VNC screen in a web browser until interrupted",
        |invocation: Invocation| async move {
            let port = invocation.given.number("port")?.unwrap_or(0);
            let mut ending = Ending::catch()?;
            let listening = Novnc::listen(forward(&invocation), "127.0.0.1", port).await?;
            say(listening.url(!invocation.given.is_set("no-encrypt")))?;
            ending.wait().await;
            Ok(0)
        },
    )
    .argument(
        Argument::option("port", ValueKind::Integer, "Local port; 0 for any free one")
            .default_value("0"),
    )
    .argument(Argument::flag(
        "no-encrypt",
        "For a browser on this machine: the page uses the port without TLS",
    ))
    .example("novnc --no-encrypt")
}

// === connect ===

fn connect() -> Command {
    Command::new(
        "connect",
        "Connect standard input and output to the device",
        |invocation: Invocation| async move {
            let remote = forward(&invocation).open().await?;
            let local = ByteStream::from_halves(StdinReader::new()?, tokio::io::stdout());
            let there = pump(local.reader, remote.writer);
            let back = pump(remote.reader, local.writer);
            tokio::pin!(there, back);
            tokio::select! {
                // Whatever is left of the input, nobody reads it any more.
                received = &mut back => received?,
                sent = &mut there => {
                    sent?;
                    back.await?
                }
            };
            Ok(0)
        },
    )
    .example("connect < request.txt")
}

// === address ===

fn address() -> Command {
    Command::new(
        "address",
        "Show where the service is, as the exporter sees it",
        |invocation: Invocation| async move {
            let client = NetworkAddressClient::new(invocation.device.handle.clone());
            let address = client.address().await.map_err(without_address)?;
            let given = &invocation.given;
            say(part(&address, given.is_set("host"), given.is_set("port"))?)?;
            Ok(0)
        },
    )
    .argument(Argument::flag("host", "Only the host"))
    .argument(Argument::flag("port", "Only the port"))
    .example("address --port")
}

/// The texts of shipped clients (facts: drivers 1.2).
fn without_address(error: Error) -> Error {
    let message = match error.kind() {
        ErrorKind::InvalidArgument => {
            "enable_address mode is not true in the exporter configuration: the exporter keeps \
             the address to itself; connect through it with `forward-tcp`"
        }
        ErrorKind::MethodNotFound | ErrorKind::Unimplemented => {
            "This exporter does not support direct connection yet, update exporter to 0.7.1 or \
             later"
        }
        _ => return error,
    };
    Error::new(error.kind(), message)
}

/// The wanted part of `scheme://host:port`.
fn part(address: &str, host: bool, port: bool) -> Result<String> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    if host == port {
        return Ok(rest.to_owned());
    }
    let url = url::Url::parse(address).map_err(|error| {
        Error::other(format!(
            "the exporter named `{address}`, which is no address: {error}"
        ))
    })?;
    let part = if host {
        url.host_str()
            .map(|host| host.trim_matches(['[', ']']).to_owned())
    } else {
        url.port_or_known_default().map(|port| port.to_string())
    };
    part.ok_or_else(|| {
        let missing = if host { "host" } else { "port" };
        Error::other(format!(
            "the exporter named `{address}`, which has no {missing}"
        ))
    })
}

// === programs ===

fn ssh() -> Command {
    Command::new(
        "ssh",
        "Run this machine's ssh through a forward",
        |invocation: Invocation| async move {
            let forward = forward(&invocation).listen_tcp("127.0.0.1", 0).await?;
            let mut ssh = Ssh::new(forward.local_addr()).args(invocation.given.all("args"));
            if let Some(user) = invocation.given.get("user") {
                ssh = ssh.user(user);
            }
            Ok(ssh.run().await?.shell_code())
        },
    )
    .argument(Argument::option(
        "user",
        ValueKind::Text,
        "Name to log in with",
    ))
    .argument(Argument::trailing(
        "args",
        "Options of ssh, then a command to run instead of a shell",
    ))
    .example("ssh --user root uname -a")
}

fn run() -> Command {
    Command::new(
        "run",
        "Run a program with the message bus of the device",
        |invocation: Invocation| async move {
            let words = invocation.given.all("command");
            let [program, arguments @ ..] = words else {
                return Err(Error::invalid_argument(
                    "no program given; write for example `run -- busctl list`",
                ));
            };
            let bus = Dbus::open(invocation.device.handle.clone(), kind(&invocation)?).await?;
            let (variable, address) = bus.environment();
            let status = Foreground::new(Path::new(program))
                .args(arguments)
                .env(variable, address)
                .run()
                .await;
            match status {
                Ok(status) => Ok(status.shell_code()),
                Err(error) => {
                    tracing::error!("{error}");
                    Ok(error.shell_code())
                }
            }
        },
    )
    .argument(Argument::trailing("command", "Program and its arguments"))
    .example("run -- busctl --user list")
}

fn kind(invocation: &Invocation) -> Result<BusKind> {
    let label = invocation.device.labels.get(KIND_LABEL);
    let label = label.ok_or_else(|| {
        Error::other(format!(
            "the device has no label `{KIND_LABEL}`, so it is unknown which bus it leads to"
        ))
    })?;
    label.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_addresses() {
        for (address, whole, host, port) in [
            ("tcp://192.0.2.1:22", "192.0.2.1:22", "192.0.2.1", "22"),
            ("udp://[::1]:53", "[::1]:53", "::1", "53"),
            ("tcp://dut:2222", "dut:2222", "dut", "2222"),
            ("ws://host/path", "host/path", "host", "80"),
        ] {
            assert_eq!(part(address, false, false).unwrap(), whole);
            assert_eq!(part(address, true, true).unwrap(), whole);
            assert_eq!(part(address, true, false).unwrap(), host);
            assert_eq!(part(address, false, true).unwrap(), port);
        }
        assert!(part("nonsense", false, true).is_err());
    }

    #[test]
    fn texts_of_shipped_clients() {
        let text = |kind| without_address(Error::new(kind, "x")).to_string();
        assert!(
            text(ErrorKind::InvalidArgument)
                .starts_with("enable_address mode is not true in the exporter configuration: ")
        );
        assert_eq!(
            text(ErrorKind::MethodNotFound),
            "This exporter does not support direct connection yet, update exporter to 0.7.1 or \
             later"
        );
        assert_eq!(text(ErrorKind::Timeout), "x");
    }
}
