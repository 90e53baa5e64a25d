//! The names by which a server is reached.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::ServerName;

use super::PkiError;

/// The names and addresses by which a server is reached: what goes into its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    hosts: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

// === impl ServerNames ===

impl ServerNames {
    /// Exactly these: host names and addresses (also in brackets). Case does not count.
    ///
    /// # Errors
    ///
    /// If one is neither a host name nor an address.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, PkiError> {
        let mut found = Self::default();
        for name in names {
            found.add(name.as_ref())?;
        }
        Ok(found)
    }

    /// These, and those by which this machine is reached anyway: `localhost`, 127.0.0.1, ::1, its host name and the
    /// IPv4 addresses of its interfaces. IPv6 addresses other than ::1 must be given: most hosts change theirs daily.
    ///
    /// # Errors
    ///
    /// If a given one is neither a host name nor an address.
    pub fn of_this_machine<N: AsRef<str>>(
        given: impl IntoIterator<Item = N>,
    ) -> Result<Self, PkiError> {
        let mut found = Self::new(given)?;
        found.hosts.insert("localhost".to_owned());
        found.addresses.insert(Ipv4Addr::LOCALHOST.into());
        found.addresses.insert(Ipv6Addr::LOCALHOST.into());
        // A machine may be called what no certificate can say, such as `my_laptop`.
        if let Some(host) = host_name() {
            let _ = found.add(&host);
        }
        found.addresses.extend(interface_addresses());
        Ok(found)
    }

    fn add(&mut self, name: &str) -> Result<(), PkiError> {
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        if let Ok(address) = bare.parse() {
            self.addresses.insert(address);
            return Ok(());
        }
        let host = name.trim_end_matches('.').to_ascii_lowercase();
        match ServerName::try_from(host.as_str()) {
            Ok(ServerName::DnsName(_)) => {
                self.hosts.insert(host);
                Ok(())
            }
            _ => Err(PkiError::BadName {
                name: name.to_owned(),
            }),
        }
    }

    /// All of them, host names first, each kind in order.
    #[must_use]
    pub fn to_texts(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        self.hosts.iter().cloned().chain(addresses).collect()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.addresses.is_empty()
    }
}

/// The name of this machine, if it has one.
#[must_use]
pub fn host_name() -> Option<String> {
    nix::unistd::gethostname()
        .ok()?
        .into_string()
        .ok()
        .filter(|name| !name.is_empty())
}

fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
        .filter(|address| !address.is_unspecified() && !address.is_link_local())
        .map(IpAddr::V4)
        .collect()
}
