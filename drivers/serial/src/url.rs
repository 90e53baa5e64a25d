//! Serial port URLs as pyserial writes them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::form_urlencoded;

/// What a URL may look like, for error messages.
const SUPPORTED: &str = "a device path such as /dev/ttyUSB0, loop://, socket://HOST:PORT, rfc2217://HOST:PORT, \
                         spy://DEVICE, alt://DEVICE or hwgrep://REGEX";

/// Longest time one step of the RFC 2217 negotiation may be given.
const LONGEST_STEP: Duration = Duration::from_secs(3600);

/// A parsed serial port URL.
#[derive(Debug, Clone, PartialEq)]
pub enum PortUrl {
    /// A device of this computer.
    Device(PathBuf),
    /// An echo in memory.
    Loopback,
    /// The bytes of a TCP connection.
    Socket(Address),
    /// A port behind an RFC 2217 server.
    Rfc2217(Rfc2217Url),
    /// Another port with a log of its traffic.
    Spy(SpyUrl),
    /// The first device of this computer whose path, description or hardware id matches.
    HardwareGrep(HardwareGrepUrl),
}

/// Host and TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// `rfc2217://HOST:PORT[?ign_set_control][&poll_modem][&timeout=SECONDS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rfc2217Url {
    /// The server.
    pub address: Address,
    /// Do not wait for answers to SET-CONTROL, which some servers never give.
    pub ignore_set_control: bool,
    /// Ask for the modem lines each time instead of trusting notifications.
    pub poll_modem: bool,
    /// How long each step may take; 3 s unless the URL says otherwise.
    pub step_timeout: Duration,
}

impl Rfc2217Url {
    /// The URL of a server, with the usual behaviour.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            ignore_set_control: false,
            poll_modem: false,
            step_timeout: Duration::from_secs(3),
        }
    }
}

/// `spy://DEVICE[?file=PATH]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SpyUrl {
    /// The port that is watched.
    pub inner: Box<PortUrl>,
    /// Where the log goes; standard error if `None`.
    pub file: Option<PathBuf>,
}

/// `hwgrep://REGEX[&n=NUMBER][&skip_busy]`.
#[derive(Debug, Clone)]
pub struct HardwareGrepUrl {
    /// What to look for, without regard to case.
    pub pattern: Regex,
    /// Which match to take, counted from 1.
    pub number: usize,
    /// Pass over ports that cannot be opened because they are in use.
    pub skip_busy: bool,
}

impl PartialEq for HardwareGrepUrl {
    fn eq(&self, other: &Self) -> bool {
        (self.pattern.as_str(), self.number, self.skip_busy)
            == (other.pattern.as_str(), other.number, other.skip_busy)
    }
}

/// Why a URL is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortUrlError {
    url: String,
    reason: String,
}

impl fmt::Display for PortUrlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "serial port url `{}`: {}", self.url, self.reason)
    }
}

impl std::error::Error for PortUrlError {}

impl From<PortUrlError> for io::Error {
    fn from(error: PortUrlError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

// === impl PortUrl ===

impl FromStr for PortUrl {
    type Err = PortUrlError;

    fn from_str(text: &str) -> Result<Self, PortUrlError> {
        parse(text).map_err(|reason| PortUrlError {
            url: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<PortUrl, String> {
    if text.trim().is_empty() {
        return Err(format!("it is empty; write {SUPPORTED}"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(PortUrl::Device(PathBuf::from(text)));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "loop" => {
            let (name, options) = Options::split(rest);
            options.finish(&["logging"])?;
            if !name.trim_matches('/').is_empty() {
                return Err(format!("nothing may follow loop://, not `{name}`"));
            }
            Ok(PortUrl::Loopback)
        }
        "socket" => {
            let (name, options) = Options::split(rest);
            options.finish(&["logging"])?;
            Ok(PortUrl::Socket(address(name)?))
        }
        "rfc2217" => rfc2217(rest).map(PortUrl::Rfc2217),
        "spy" => spy(rest).map(PortUrl::Spy),
        "alt" => {
            // The class selects between pyserial's implementations of one device, of which there is one here.
            let (name, options) = Options::split(rest);
            options.finish(&["class"])?;
            device(name).map(PortUrl::Device)
        }
        "hwgrep" => hardware_grep(rest).map(PortUrl::HardwareGrep),
        "cp2110" => Err("CP2110 bridges (USB HID) are not supported; their kernel driver offers none of the serial \
             devices that are"
            .to_owned()),
        other => Err(format!("the scheme `{other}://` is unknown; write {SUPPORTED}")),
    }
}

fn address(text: &str) -> Result<Address, String> {
    let expected = || format!("`{text}` is not HOST:PORT (an IPv6 host goes into brackets)");
    let (host, port) = text
        .trim_end_matches('/')
        .rsplit_once(':')
        .ok_or_else(expected)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let valid = match bare {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && !host.contains([':', '/', '[', ']', '@'])
                && !host.contains(char::is_whitespace)
        }
    };
    let port = port.parse::<u16>().ok().filter(|&port| port != 0);
    match (valid, port) {
        (true, Some(port)) => Ok(Address {
            host: bare.unwrap_or(host).to_owned(),
            port,
        }),
        (true, None) => Err(format!(
            "the port of `{text}` is not a number from 1 to 65535"
        )),
        (false, _) => Err(expected()),
    }
}

fn device(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the device path is missing".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn rfc2217(rest: &str) -> Result<Rfc2217Url, String> {
    let (name, mut options) = Options::split(rest);
    let mut url = Rfc2217Url::new(address(name)?);
    url.ignore_set_control = options.take("ign_set_control").is_some();
    url.poll_modem = options.take("poll_modem").is_some();
    if let Some(value) = options.take("timeout") {
        url.step_timeout = value
            .parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|duration| !duration.is_zero() && *duration <= LONGEST_STEP)
            .ok_or_else(|| {
                format!("timeout `{value}` is not a number of seconds above 0 and up to 3600")
            })?;
    }
    options.finish(&["logging", "ign_set_control", "poll_modem", "timeout"])?;
    Ok(url)
}

fn spy(rest: &str) -> Result<SpyUrl, String> {
    let (name, mut options) = Options::split(rest);
    let file = options.take("file").map(PathBuf::from);
    options.finish(&["file", "color", "raw", "all"])?;
    device(name)?;
    let inner = match parse(name)? {
        PortUrl::Spy(_) => return Err("spy:// inside spy:// adds nothing".to_owned()),
        inner => Box::new(inner),
    };
    Ok(SpyUrl { inner, file })
}

fn hardware_grep(rest: &str) -> Result<HardwareGrepUrl, String> {
    // pyserial separates these options by `&` from the start, because `?` belongs to the regular expression.
    let (pattern, query) = rest.split_once('&').unwrap_or((rest, ""));
    let mut options = Options::parse(query);
    let number = match options.take("n") {
        None => 1,
        Some(value) => value
            .parse()
            .ok()
            .filter(|&number| number > 0)
            .ok_or_else(|| format!("n `{value}` is not a number from 1 on"))?,
    };
    let skip_busy = options.take("skip_busy").is_some();
    options.finish(&["n", "skip_busy"])?;
    let pattern = RegexBuilder::new(pattern)
        .case_insensitive(true)
        .size_limit(1 << 20)
        .build()
        .map_err(|error| format!("the regular expression is not valid: {error}"))?;
    Ok(HardwareGrepUrl {
        pattern,
        number,
        skip_busy,
    })
}

impl fmt::Display for PortUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(formatter, "{}", path.display()),
            Self::Loopback => formatter.write_str("loop://"),
            Self::Socket(address) => write!(formatter, "socket://{address}"),
            Self::Rfc2217(url) => write!(formatter, "rfc2217://{}", url.address),
            Self::Spy(url) => write!(formatter, "spy://{}", url.inner),
            Self::HardwareGrep(url) => write!(formatter, "hwgrep://{}", url.pattern),
        }
    }
}

impl From<&Path> for PortUrl {
    fn from(path: &Path) -> Self {
        Self::Device(path.to_owned())
    }
}

// === impl Address ===

impl Address {
    /// Connects with a deadline; small writes go out at once.
    ///
    /// # Errors
    /// When the host cannot be resolved or reached, or does not answer within `deadline`.
    pub(crate) async fn connect(&self, deadline: Duration) -> io::Result<TcpStream> {
        let failed = |kind, reason: &dyn fmt::Display| {
            io::Error::new(
                kind,
                format!("failed to connect to the serial server {self}: {reason}"),
            )
        };
        let socket = timeout(
            deadline,
            TcpStream::connect((self.host.as_str(), self.port)),
        )
        .await
        .map_err(|_| {
            failed(
                io::ErrorKind::TimedOut,
                &format_args!("no answer within {deadline:?}"),
            )
        })?
        .map_err(|error| failed(error.kind(), &error))?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// Query options of a URL.
struct Options(Vec<(String, String)>);

impl Options {
    /// Cuts `NAME?OPTIONS`.
    fn split(text: &str) -> (&str, Self) {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        (name, Self::parse(query))
    }

    fn parse(query: &str) -> Self {
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(index).1)
    }

    /// Refuses what is left unless it is known; known ones that change nothing here are accepted.
    fn finish(self, known: &[&str]) -> Result<(), String> {
        match self
            .0
            .iter()
            .find(|(key, _)| !known.contains(&key.as_str()))
        {
            None => Ok(()),
            Some((key, _)) => Err(format!(
                "the option `{key}` is unknown; known are {}",
                known.join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> PortUrl {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        text.parse::<PortUrl>().unwrap_err().to_string()
    }

    fn address(host: &str, port: u16) -> Address {
        Address {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn devices() {
        let device = PortUrl::Device("/dev/ttyUSB0".into());
        assert_eq!(parsed("/dev/ttyUSB0"), device);
        assert_eq!(parsed("alt:///dev/ttyUSB0?class=PosixPollSerial"), device);
        assert_eq!(
            parsed("spy:///dev/ttyUSB0?file=/log.txt"),
            PortUrl::Spy(SpyUrl {
                inner: Box::new(device),
                file: Some("/log.txt".into())
            })
        );
    }

    #[test]
    fn network_ports() {
        assert_eq!(parsed("loop://"), PortUrl::Loopback);
        assert_eq!(parsed("LOOP://?logging=debug"), PortUrl::Loopback);
        assert_eq!(
            parsed("socket://lab-7:2000"),
            PortUrl::Socket(address("lab-7", 2000))
        );
        assert_eq!(
            parsed("socket://[::1]:2000/"),
            PortUrl::Socket(address("::1", 2000))
        );
        assert_eq!(
            parsed("rfc2217://lab-7:2000"),
            PortUrl::Rfc2217(Rfc2217Url::new(address("lab-7", 2000)))
        );
        assert_eq!(
            parsed("rfc2217://lab-7:2000?ign_set_control&poll_modem&timeout=0.5"),
            PortUrl::Rfc2217(Rfc2217Url {
                address: address("lab-7", 2000),
                ignore_set_control: true,
                poll_modem: true,
                step_timeout: Duration::from_millis(500),
            })
        );
    }

    #[test]
    fn hardware_expressions() {
        let PortUrl::HardwareGrep(url) = parsed("hwgrep://0403:60.?1&n=2&skip_busy") else {
            panic!("not a hardware expression");
        };
        assert_eq!(
            (url.pattern.as_str(), url.number, url.skip_busy),
            ("0403:60.?1", 2, true)
        );
    }

    #[test]
    fn refusals_say_what_to_write() {
        assert!(
            refused("tcp://lab:1").contains("rfc2217://HOST:PORT"),
            "{}",
            refused("tcp://lab:1")
        );
        assert!(refused("").contains("loop://"));
        assert!(refused("cp2110://x").contains("not supported"));
        assert!(refused("socket://lab").contains("HOST:PORT"));
        assert!(refused("socket://::1:20").contains("brackets"));
        assert!(refused("socket://lab:99999").contains("65535"));
        assert!(refused("rfc2217://lab:1?tmeout=3").contains("known are logging"));
        assert!(refused("rfc2217://lab:1?timeout=-3").contains("seconds"));
        assert!(refused("rfc2217://lab:1?timeout=nan").contains("seconds"));
        assert!(refused("hwgrep://(").contains("regular expression"));
        assert!(refused("loop://x").contains("loop://"));
        assert!(refused("spy://").contains("missing"));
        assert!(refused("spy://spy:///dev/x").contains("spy"));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(scheme in "(loop|socket|rfc2217|spy|hwgrep|alt)://", rest in ".{0,40}") {
            let _ = format!("{scheme}{rest}").parse::<PortUrl>();
        }
    }
}
