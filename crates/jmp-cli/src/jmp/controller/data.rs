//! The data directory of a controller, and the files that let others in.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jmp_config::{AccessConfig, AccessKind, Environment, ProcessEnvironment, Secret, Tls};

use crate::error::CliError;

/// A controller's data directory.
#[derive(Debug, Clone)]
pub struct DataDirectory(PathBuf);

// === impl DataDirectory ===

impl DataDirectory {
    /// The directory, made if it is not there: the given one, `$JMP_DATA_DIRECTORY`,
    /// `/var/lib/jumpstarter` for root, or the user's own.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or others may look into it.
    pub fn open(given: Option<&Path>) -> Result<Self, CliError> {
        let path = given.map_or_else(|| default_place(&ProcessEnvironment), Path::to_owned);
        let failed = |action: &str, error: std::io::Error| {
            CliError::new(format!(
                "cannot {action} the data directory {}: {error}",
                path.display()
            ))
            .with_hint("choose another one with --data-directory or JMP_DATA_DIRECTORY")
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed("make", error))?;
        let found = std::fs::metadata(&path).map_err(|error| failed("read", error))?;
        // Keys are in there. One that was made beforehand, by a package or a service manager, is closed.
        if found.mode() & 0o077 != 0 {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
                .map_err(|error| failed("close to others", error))?;
        }
        let path = path.canonicalize().map_err(|error| failed("read", error))?;
        Ok(Self(path))
    }

    /// The directory as [`Self::open`] chooses it, left as it is.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn existing(given: Option<&Path>) -> Result<Self, CliError> {
        let path = given.map_or_else(|| default_place(&ProcessEnvironment), Path::to_owned);
        match path.canonicalize() {
            Ok(path) => Ok(Self(path)),
            Err(error) => Err(CliError::new(format!(
                "cannot read the data directory {}: {error}",
                path.display()
            ))
            .with_hint(
                "name the one of the controller with --data-directory or JMP_DATA_DIRECTORY",
            )),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.0.join("store.sqlite")
    }

    /// Keys of identity tokens.
    pub fn identity_keys(&self) -> PathBuf {
        self.0.join("identity.key")
    }

    /// Keys of tunnel tokens.
    pub fn tunnel_keys(&self) -> PathBuf {
        self.0.join("tunnel.key")
    }

    /// What lets the first administrator in.
    pub fn admin(&self) -> PathBuf {
        self.0.join("admin.yaml")
    }

    /// What lets the controller's own router in.
    pub fn router(&self) -> PathBuf {
        self.0.join("router.yaml")
    }

    /// Held by the controller's own router as long as it lives.
    pub fn router_lock(&self) -> PathBuf {
        self.0.join("router.pid")
    }

    /// What the controller's own router logs.
    pub fn router_log(&self) -> PathBuf {
        self.0.join("router.log")
    }
}

fn default_place(environment: &dyn Environment) -> PathBuf {
    if let Some(path) = environment.filled("JMP_DATA_DIRECTORY") {
        return path.into();
    }
    if rustix::process::geteuid().is_root() {
        return "/var/lib/jumpstarter".into();
    }
    let data = environment
        .filled("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| {
            let home = environment.filled("HOME").unwrap_or_else(|| "/".to_owned());
            PathBuf::from(home).join(".local/share")
        });
    data.join("jumpstarter/controller")
}

/// A file's content for somebody with that token.
pub fn access(
    kind: AccessKind,
    name: &str,
    endpoint: &str,
    authority: &str,
    token: &str,
) -> AccessConfig {
    AccessConfig {
        kind,
        name: name.to_owned(),
        endpoint: endpoint.to_owned(),
        tls: Tls {
            ca: Some(STANDARD.encode(authority)),
            insecure: None,
        },
        token: Secret::new(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_private_even_if_it_was_there() {
        let parent = tempfile::tempdir().expect("a directory");
        let open = parent.path().join("deep/data");
        std::fs::create_dir_all(&open).expect("made");
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).expect("opened");
        let data = DataDirectory::open(Some(&open)).expect("usable");
        let mode = std::fs::metadata(data.path()).expect("there").mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn the_variable_comes_first() {
        let given = [("JMP_DATA_DIRECTORY", "/d"), ("XDG_DATA_HOME", "/x")];
        assert_eq!(default_place(&given), PathBuf::from("/d"));
    }
}
