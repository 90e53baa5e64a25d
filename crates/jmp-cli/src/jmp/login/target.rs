//! Where `jmp login` asks, and for whom.

use jmp_wire::endpoint::Endpoint;

use crate::error::CliError;

/// Port of plain HTTP.
const HTTP: u16 = 80;
/// Port of the login endpoint of `jmp controller run`.
const OF_CONTROLLER: u16 = 8086;

/// `[NAME@]HOST[:PORT]`, with `https://` or `http://` before the host if need be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who logs in.
    pub name: Option<String>,
    /// Where the login endpoint is; port 443 unless it is given.
    pub endpoint: Endpoint,
    /// Whether it is asked without TLS.
    pub plain: bool,
    /// Where `jmp controller run` has it, if no port was given.
    pub second: Option<Endpoint>,
}

// === impl Target ===

impl Target {
    /// Reads it. The name ends at the last `@`.
    ///
    /// # Errors
    ///
    /// A usage error that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, CliError> {
        let wrong = |reason: String| {
            CliError::usage(format!("cannot log in at `{text}`: {reason}")).with_hint(
                "write HOST, NAME@HOST or NAME@HOST:PORT; the port is 443 or else 8086 unless you say",
            )
        };
        let (name, host) = match text.rsplit_once('@') {
            Some((name, host)) => (Some(name), host),
            None => (None, text),
        };
        // `https://me@host` and `me@https://host` mean the same.
        let (scheme, name) = match name.and_then(|name| name.split_once("://")) {
            Some((scheme, name)) => (Some(scheme), Some(name)),
            None => (None, name),
        };
        let (scheme, host) = match host.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host),
            None => (scheme, host),
        };
        let plain = match scheme {
            None | Some("https") => false,
            Some("http") => true,
            Some(other) => return Err(wrong(format!("`{other}` is neither https nor http"))),
        };
        if name.is_some_and(str::is_empty) {
            return Err(wrong("there is nothing before the @".to_owned()));
        }
        let host = host.split('/').next().unwrap_or_default();
        let endpoint: Endpoint = host.parse().map_err(|error| wrong(format!("{error}")))?;
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(before, _)| !before.contains(':') || before.ends_with(']'));
        let endpoint = if plain && !has_port {
            let whole = format!("{}:{HTTP}", bracketed(endpoint.host()));
            whole.parse().map_err(|error| wrong(format!("{error}")))?
        } else {
            endpoint
        };
        let second = (!plain && !has_port)
            .then(|| {
                format!("{}:{OF_CONTROLLER}", bracketed(endpoint.host()))
                    .parse()
                    .ok()
            })
            .flatten();
        Ok(Self {
            second,
            name: name.map(str::to_owned),
            endpoint,
            plain,
        })
    }

    /// The page that is asked for.
    pub fn url(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{}/v1/auth/config", self.endpoint)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<String>, String, bool) {
        let target = Target::parse(text).expect("a target");
        (target.name, target.endpoint.to_string(), target.plain)
    }

    #[test]
    fn without_a_port_there_is_a_second_place() {
        let second = |text| {
            let target = Target::parse(text).expect("a target");
            target.second.map(|endpoint| endpoint.to_string())
        };
        assert_eq!(second("me@lab").as_deref(), Some("lab:8086"));
        assert_eq!(second("https://[::1]").as_deref(), Some("[::1]:8086"));
        assert_eq!(second("lab:443"), None);
        assert_eq!(second("http://lab"), None);
    }

    #[test]
    fn names_ports_and_schemes() {
        let named = |name: &str| Some(name.to_owned());
        let lab = |port: u16| format!("lab.example.com:{port}");
        assert_eq!(parsed("lab.example.com"), (None, lab(443), false));
        assert_eq!(parsed("me@lab.example.com"), (named("me"), lab(443), false));
        assert_eq!(
            parsed("me@lab.example.com:8086"),
            (named("me"), lab(8086), false)
        );
        assert_eq!(
            parsed("me@example.com@lab.example.com"),
            (named("me@example.com"), lab(443), false)
        );
        assert_eq!(
            parsed("https://me@lab.example.com/"),
            (named("me"), lab(443), false)
        );
        assert_eq!(
            parsed("me@http://lab.example.com"),
            (named("me"), lab(80), true)
        );
        assert_eq!(
            parsed("http://lab.example.com:8086"),
            (None, lab(8086), true)
        );
        assert_eq!(
            parsed("me@[::1]:8086"),
            (named("me"), "[::1]:8086".into(), false)
        );
        assert_eq!(
            Target::parse("me@lab:1").expect("a target").url(),
            "https://lab:1/v1/auth/config"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["", "@lab", "me@", "ftp://lab", "lab:0", "lab:x", "a b"] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
    }
}
