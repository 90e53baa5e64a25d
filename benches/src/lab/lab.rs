//! What all parts of the lab share: who is who, and how to get in.

use std::path::Path;
use std::sync::Arc;

use jmp_auth::{IdentityIssuer, IdentityKeys, Subject};
use jmp_client::Controller;
use jmp_config::{AccessConfig, AccessKind};
use jmp_types::Timestamp;
use jmp_wire::endpoint::{CallerKind, Connector, Credentials, Endpoint, ServerTrust};
use jmp_wire::tls::Trust;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The namespace of everything.
pub const NAMESPACE: &str = "default";
/// The only client.
pub const CLIENT: &str = "bench";
/// Label of exporters that can be leased.
pub const PLAYING: (&str, &str) = ("play", "yes");

/// Name of an exporter.
pub fn exporter_name(number: usize) -> String {
    format!("exporter-{number:05}")
}

/// Identifier of an exporter; those of the client are above all of them.
pub fn uid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Number of the client's identifier.
pub const CLIENT_NUMBER: usize = 999_999_999;

/// A controller and its secrets.
pub struct Place {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Trusts its certificate.
    pub connector: Connector,
    /// Its authority, as configurations have it.
    pub authority: String,
    issuer: IdentityIssuer,
}

// === impl Place ===

impl Place {
    pub fn open(data: &Path, endpoint: &str) -> Outcome<Self> {
        let keys = IdentityKeys::open(&data.join("identity.key"))?;
        let admin = AccessConfig::load(&data.join("admin.yaml"), AccessKind::Admin)?;
        let authority = admin.tls.ca.unwrap_or_default();
        let trust = ServerTrust::configured(false, Some(&authority), Trust::System)?;
        Ok(Self {
            endpoint: endpoint.parse()?,
            connector: Connector::new(trust),
            authority,
            issuer: IdentityIssuer::new(Arc::new(keys)),
        })
    }

    /// What lets the exporter of that number in.
    pub fn exporter(&self, number: usize) -> Outcome<Credentials> {
        let name = exporter_name(number);
        let subject = Subject::exporter(NAMESPACE, &name, &uid(number));
        self.credentials(CallerKind::Exporter, name, &subject)
    }

    /// What lets the client in.
    pub fn client(&self) -> Outcome<Credentials> {
        let subject = Subject::client(NAMESPACE, CLIENT, &uid(CLIENT_NUMBER));
        self.credentials(CallerKind::Client, CLIENT.to_owned(), &subject)
    }

    fn credentials(
        &self,
        kind: CallerKind,
        name: String,
        subject: &Subject,
    ) -> Outcome<Credentials> {
        let issued = self.issuer.issue(subject, 1, Timestamp::now())?;
        Ok(Credentials {
            kind,
            namespace: NAMESPACE.to_owned(),
            name,
            token: issued.token.expose().to_owned(),
        })
    }

    /// The controller as the client sees it, with connections of its own.
    pub fn controller(&self) -> Outcome<Controller> {
        let credentials = self.client()?;
        let connector = self.connector.clone();
        Ok(Controller::new(
            connector,
            self.endpoint.clone(),
            &credentials,
        )?)
    }
}

/// As many open files as the system lets us have.
pub fn raise_file_limit() -> Outcome<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let present = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: present.maximum,
        maximum: present.maximum,
    };
    Ok(setrlimit(Resource::Nofile, wanted)?)
}

/// Waits until standard input has another line, or has ended (`false`).
pub async fn line() -> bool {
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin().read_line(&mut text)
    });
    matches!(read.await, Ok(Ok(read)) if read > 0)
}

/// The value below which that part of the values is.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}
