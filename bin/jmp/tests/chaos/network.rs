//! Where the parts of a lab are: each in a network namespace of its own, at the end of a cable that can
//! be cut, or all on the loopback device where namespaces are not permitted.
//!
//! The test program starts itself again in a fresh network namespace, the hub: nothing that is done to
//! the network there can be seen from outside, and the kernel removes it with the last process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, ExitStatus, Stdio};

/// Set in the program that runs in the hub.
const INSIDE: &str = "JMP_CHAOS_INSIDE";
/// Keeps even loopback for itself, when `0`.
const WANTED: &str = "JMP_CHAOS_NAMESPACES";
/// A private place for the names of namespaces, then the program.
const ENTER: &str = "mount -t tmpfs none /run && exec \"$0\" \"$@\"";

/// The network of a lab.
#[derive(Debug)]
pub enum Network {
    /// Everything at 127.0.0.1; no cable can be cut.
    Loopback,
    /// A star with this program in the middle.
    Star,
}

/// Where one part is.
#[derive(Clone, Debug)]
pub struct Place {
    number: usize,
    address: Ipv4Addr,
    is_star: bool,
}

/// Runs the test of that name in a hub if that is permitted; `None` if it is to be run here.
pub fn run_in_hub(test: &str) -> Option<ExitStatus> {
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let Some(options) = ways_in() else {
        eprintln!(
            "SKIPPED: cut networks. Network namespaces are not permitted here, or `unshare` and `ip` are \
             missing; all other faults happen on the loopback device"
        );
        return None;
    };
    let program = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(options)
        .args(["sh", "-c", ENTER])
        .arg(program)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    Some(status)
}

/// The options of `unshare` that work here: as root, else as one that is root inside only.
fn ways_in() -> Option<&'static [&'static str]> {
    if std::env::var(WANTED).is_ok_and(|wanted| wanted == "0") {
        return None;
    }
    let ways: [&[&str]; 2] = [
        &["--net", "--mount"],
        &["--net", "--mount", "--map-root-user"],
    ];
    let attempt = "mount -t tmpfs none /run && ip netns add a && ip link add x type veth peer name y netns a \
                   && echo 1 > /proc/sys/net/ipv4/ip_forward";
    ways.into_iter().find(|options| {
        let tried = Command::new("unshare")
            .args(*options)
            .args(["sh", "-c", attempt])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    })
}

// === impl Network ===

impl Network {
    /// The network that this program is in, with so many places.
    pub fn set_up(places: usize) -> Self {
        if std::env::var_os(INSIDE).is_none() {
            return Self::Loopback;
        }
        shell("ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward");
        for number in 1..=places {
            shell(&format!(
                "n={number}; ip netns add p$n && ip link add h$n type veth peer name eth0 netns p$n \
                 && ip address add 10.213.$n.1/30 dev h$n && ip link set h$n up \
                 && ip -n p$n address add 10.213.$n.2/30 dev eth0 && ip -n p$n link set eth0 up \
                 && ip -n p$n link set lo up && ip -n p$n route add default via 10.213.$n.1"
            ));
        }
        Self::Star
    }

    /// The place of that number, from 1.
    pub fn place(&self, number: usize) -> Place {
        let last = u8::try_from(number).unwrap();
        match self {
            Self::Loopback => Place {
                number,
                address: Ipv4Addr::LOCALHOST,
                is_star: false,
            },
            Self::Star => Place {
                number,
                address: Ipv4Addr::new(10, 213, last, 2),
                is_star: true,
            },
        }
    }

    pub fn has_cables(&self) -> bool {
        matches!(self, Self::Star)
    }
}

// === impl Place ===

impl Place {
    /// An address that nobody else listens on, for as long as the lab lives.
    pub fn address(&self) -> SocketAddr {
        if self.is_star {
            return (self.address, 8082).into();
        }
        let listener = TcpListener::bind((self.address, 0)).unwrap();
        listener.local_addr().unwrap()
    }

    /// A program at this place. The process has the number of the one that is started.
    pub fn command(&self, program: &std::path::Path) -> tokio::process::Command {
        if !self.is_star {
            return tokio::process::Command::new(program);
        }
        let mut command = tokio::process::Command::new("nsenter");
        command.arg(format!("--net=/run/netns/p{}", self.number));
        command.arg("--").arg(program);
        command
    }

    /// Pulls the cable: what is sent is lost, nobody is told.
    pub fn cut(&self) {
        shell(&format!("ip link set h{} down", self.number));
    }

    /// Plugs it in again.
    pub fn mend(&self) {
        if self.is_star {
            shell(&format!("ip link set h{} up", self.number));
        }
    }
}

fn shell(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
}
