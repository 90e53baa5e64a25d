//! Finding, loading, saving and deleting configuration files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jmp_types::{Alias, Secret};
use serde_json::Value;

use crate::diagnostic::{ConfigError, Diagnostic};
use crate::document::Spot;
use crate::document::{Document, path_name};
use crate::environment::Paths;
use crate::error::{Error, Kind};
use crate::kinds::client::ClientConfig;
use crate::kinds::exporter::ExporterConfig;
use crate::kinds::user::UserConfig;
use crate::nearest;
use crate::save;

/// Which of the documented places a file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The user's directory, or a path given by the user.
    User,
    /// `/etc`.
    System,
}

/// A configuration with where it came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// Its name, absent for a file given by path.
    pub alias: Option<Alias>,
    /// The file.
    pub path: PathBuf,
    /// Where the file is.
    pub place: Place,
    /// The content.
    pub config: T,
    /// The located tree, for pointing at lines.
    pub document: Document,
    /// What should be said about the file although it can be used.
    pub warnings: Vec<Diagnostic>,
}

/// One file of a listing: a broken one does not spoil the rest.
#[derive(Debug)]
pub struct Listed<T> {
    /// Its name.
    pub alias: Alias,
    /// The file.
    pub path: PathBuf,
    /// Where the file is.
    pub place: Place,
    /// The content, or why it cannot be used.
    pub result: Result<Loaded<T>, Error>,
}

/// What deleting left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// The file that is gone.
    pub path: PathBuf,
    /// For a client that was current: which one is now.
    pub current: Option<Alias>,
    /// For an exporter: the machine's file of the same name, now visible again.
    pub remaining: Option<PathBuf>,
}

/// The configuration files below [`Paths`].
#[derive(Debug, Clone)]
pub struct Store {
    paths: Paths,
}

trait Configuration: Sized {
    const KIND: Kind;
    fn read(document: &Document) -> Result<(Self, Vec<Diagnostic>), ConfigError>;
}

impl Configuration for ClientConfig {
    const KIND: Kind = Kind::Client;
    fn read(document: &Document) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        Self::from_document(document)
    }
}

impl Configuration for ExporterConfig {
    const KIND: Kind = Kind::Exporter;
    fn read(document: &Document) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        Self::from_document(document)
    }
}

// === impl Store ===

impl Store {
    /// A store over those places. Nothing is read or created.
    #[must_use]
    pub fn new(paths: Paths) -> Self {
        Self { paths }
    }

    /// The places.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    // --- user configuration ---

    /// The user's settings; an absent file is an empty one and stays absent.
    ///
    /// # Errors
    /// [`Error`] for a file that cannot be read or is wrong.
    pub fn user_config(&self) -> Result<(UserConfig, Document), Error> {
        let path = self.paths.user_config();
        match fs::read(&path) {
            Ok(bytes) => {
                let document = Document::parse(&path_name(&path), &bytes)?;
                let (config, _) = UserConfig::from_document(&document)?;
                Ok((config, document))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((
                UserConfig::default(),
                Document::synthetic(&path_name(&path)),
            )),
            Err(source) => Err(io_error("read", &path, source)),
        }
    }

    /// The current client, or none when none is chosen or its file is gone.
    ///
    /// # Errors
    /// As [`Store::user_config`].
    pub fn current_client(&self) -> Result<Option<Alias>, Error> {
        let alias = self.user_config()?.0.current_client;
        Ok(alias.filter(|alias| self.client_path(alias).exists()))
    }

    /// Makes a client current, or none.
    ///
    /// # Errors
    /// [`Error::UnknownAlias`] when there is no such client; else as for reading and writing.
    pub fn use_client(&self, alias: Option<&Alias>) -> Result<PathBuf, Error> {
        if let Some(alias) = alias {
            self.find::<ClientConfig>(alias.as_str())?;
        }
        let (mut user, _) = self.user_config()?;
        user.current_client = alias.cloned();
        let path = self.paths.user_config();
        write(&path, &user.to_json())?;
        Ok(path)
    }

    // --- clients ---

    /// Where a client of that name is, or would be.
    #[must_use]
    pub fn client_path(&self, alias: &Alias) -> PathBuf {
        self.paths.clients().join(format!("{alias}.yaml"))
    }

    /// Loads a client by name.
    ///
    /// # Errors
    /// [`Error::UnknownAlias`] with the near names, or what is wrong with the file.
    pub fn load_client(&self, alias: &str) -> Result<Loaded<ClientConfig>, Error> {
        self.load(alias)
    }

    /// Loads a client by path.
    ///
    /// # Errors
    /// [`Error`] for a file that cannot be read or is wrong.
    pub fn load_client_file(&self, path: &Path) -> Result<Loaded<ClientConfig>, Error> {
        load_file(None, path, Place::User)
    }

    /// All clients, sorted by name.
    ///
    /// # Errors
    /// [`Error::Io`] when a directory is there but cannot be listed.
    pub fn list_clients(&self) -> Result<Vec<Listed<ClientConfig>>, Error> {
        self.list()
    }

    /// Saves a client under its name, replacing what was there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save_client(&self, alias: &Alias, config: &ClientConfig) -> Result<PathBuf, Error> {
        let path = self.client_path(alias);
        write(&path, &config.to_json())?;
        Ok(path)
    }

    /// Saves a client to a path, making directories above it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save_client_file(&self, path: &Path, config: &ClientConfig) -> Result<(), Error> {
        write(path, &config.to_json())
    }

    /// Saves a new client. The only one there is becomes current.
    ///
    /// # Errors
    /// [`Error::Exists`], or [`Error::Io`].
    pub fn create_client(&self, alias: &Alias, config: &ClientConfig) -> Result<PathBuf, Error> {
        let path = self.client_path(alias);
        refuse_existing(Kind::Client, alias, &path)?;
        self.save_client(alias, config)?;
        if self.files::<ClientConfig>()?.len() == 1 {
            self.use_client(Some(alias))?;
        }
        Ok(path)
    }

    /// Deletes a client. If it was current, the first of the others becomes current.
    ///
    /// # Errors
    /// [`Error::UnknownAlias`], or [`Error::Io`].
    pub fn delete_client(&self, alias: &Alias) -> Result<Deleted, Error> {
        let found = self.find::<ClientConfig>(alias.as_str())?;
        let (user, _) = self.user_config()?;
        fs::remove_file(&found.path).map_err(|source| io_error("delete", &found.path, source))?;
        let mut current = self.current_client()?;
        if user.current_client.as_ref() == Some(alias) {
            current = self
                .files::<ClientConfig>()?
                .into_iter()
                .next()
                .map(|file| file.alias);
            self.use_client(current.as_ref())?;
        }
        Ok(Deleted {
            path: found.path,
            current,
            remaining: None,
        })
    }

    // --- exporters ---

    /// Where the user's exporter of that name is, or would be.
    #[must_use]
    pub fn exporter_path(&self, alias: &Alias) -> PathBuf {
        self.paths.user_exporters().join(format!("{alias}.yaml"))
    }

    /// Where the exporter of that name is found, the user's before the machine's.
    ///
    /// # Errors
    /// [`Error::UnknownAlias`] with the near names.
    pub fn find_exporter(&self, alias: &str) -> Result<(PathBuf, Place), Error> {
        let found = self.find::<ExporterConfig>(alias)?;
        Ok((found.path, found.place))
    }

    /// Loads an exporter by name, the user's before the machine's.
    ///
    /// # Errors
    /// [`Error::UnknownAlias`] with the near names, or what is wrong with the file.
    pub fn load_exporter(&self, alias: &str) -> Result<Loaded<ExporterConfig>, Error> {
        self.load(alias)
    }

    /// Loads an exporter by path.
    ///
    /// # Errors
    /// [`Error`] for a file that cannot be read or is wrong.
    pub fn load_exporter_file(&self, path: &Path) -> Result<Loaded<ExporterConfig>, Error> {
        load_file(None, path, Place::User)
    }

    /// All exporters: the user's first, then the machine's that are not hidden by one of the user's.
    ///
    /// # Errors
    /// [`Error::Io`] when a directory is there but cannot be listed.
    pub fn list_exporters(&self) -> Result<Vec<Listed<ExporterConfig>>, Error> {
        self.list()
    }

    /// Saves an exporter in the user's directory, replacing what was there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save_exporter(&self, alias: &Alias, config: &ExporterConfig) -> Result<PathBuf, Error> {
        let path = self.exporter_path(alias);
        write(&path, &config.to_json())?;
        Ok(path)
    }

    /// Writes an exporter configuration to any file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save_exporter_file(&self, path: &Path, config: &ExporterConfig) -> Result<(), Error> {
        write(path, &config.to_json())
    }

    /// Puts a new token into a client or exporter file. Everything else stays as it was written, comments
    /// and all.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Config`] when the file is not YAML.
    pub fn replace_token(&self, path: &Path, token: &Secret) -> Result<(), Error> {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let document = Document::parse(&path.display().to_string(), &bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let line = document
            .locate(&["token"], Spot::Key)
            .and_then(|location| usize::try_from(location.line).ok());
        let new = format!("token: {}\n", token.expose());
        let mut written = String::with_capacity(text.len() + new.len());
        for (index, old) in text.split_inclusive('\n').enumerate() {
            // A value that goes on over several lines is not what anybody writes for a token.
            if Some(index + 1) == line {
                written.push_str(&new);
            } else {
                written.push_str(old);
            }
        }
        if line.is_none() {
            if !written.is_empty() && !written.ends_with('\n') {
                written.push('\n');
            }
            written.push_str(&new);
        }
        Document::parse(&path.display().to_string(), written.as_bytes())?;
        save::replace(path, &written)
    }

    /// Saves a new exporter in the user's directory; one of the machine may be hidden by it.
    ///
    /// # Errors
    /// [`Error::Exists`], or [`Error::Io`].
    pub fn create_exporter(
        &self,
        alias: &Alias,
        config: &ExporterConfig,
    ) -> Result<PathBuf, Error> {
        refuse_existing(Kind::Exporter, alias, &self.exporter_path(alias))?;
        self.save_exporter(alias, config)
    }

    /// Deletes the user's exporter of that name.
    ///
    /// # Errors
    /// [`Error::SystemFile`] when there is only the machine's, [`Error::UnknownAlias`], or [`Error::Io`].
    pub fn delete_exporter(&self, alias: &Alias) -> Result<Deleted, Error> {
        let found = self.find::<ExporterConfig>(alias.as_str())?;
        if found.place == Place::System {
            return Err(Error::SystemFile {
                alias: alias.to_string(),
                path: found.path,
            });
        }
        fs::remove_file(&found.path).map_err(|source| io_error("delete", &found.path, source))?;
        let system = self.paths.system_exporters.join(format!("{alias}.yaml"));
        Ok(Deleted {
            path: found.path,
            current: None,
            remaining: system.exists().then_some(system),
        })
    }

    // --- both ---

    fn directories(&self, kind: Kind) -> Vec<(PathBuf, Place)> {
        match kind {
            Kind::Client => vec![(self.paths.clients(), Place::User)],
            Kind::Exporter => vec![
                (self.paths.user_exporters(), Place::User),
                (self.paths.system_exporters.clone(), Place::System),
            ],
        }
    }

    fn find<T: Configuration>(&self, alias: &str) -> Result<Found, Error> {
        let alias = Alias::new(alias)?;
        for (directory, place) in self.directories(T::KIND) {
            let path = directory.join(format!("{alias}.yaml"));
            if path.exists() {
                return Ok(Found { alias, path, place });
            }
        }
        let existing: Vec<String> = self
            .files::<T>()?
            .into_iter()
            .map(|file| file.alias.to_string())
            .collect();
        let near = nearest::ranked(alias.as_str(), existing.iter().map(String::as_str))
            .into_iter()
            .map(str::to_owned)
            .collect();
        Err(Error::UnknownAlias {
            kind: T::KIND,
            alias: alias.to_string(),
            near,
            existing,
            looked_in: self
                .directories(T::KIND)
                .into_iter()
                .map(|(directory, _)| directory)
                .collect(),
        })
    }

    fn load<T: Configuration>(&self, alias: &str) -> Result<Loaded<T>, Error> {
        let found = self.find::<T>(alias)?;
        load_file(Some(found.alias), &found.path, found.place)
    }

    fn list<T: Configuration>(&self) -> Result<Vec<Listed<T>>, Error> {
        let files = self.files::<T>()?;
        Ok(files
            .into_iter()
            .map(|Found { alias, path, place }| Listed {
                result: load_file(Some(alias.clone()), &path, place),
                alias,
                path,
                place,
            })
            .collect())
    }

    fn files<T: Configuration>(&self) -> Result<Vec<Found>, Error> {
        let mut files: Vec<Found> = Vec::new();
        for (directory, place) in self.directories(T::KIND) {
            let mut here: Vec<Found> = aliases_in(&directory)?
                .into_iter()
                .filter(|alias| !files.iter().any(|file| &file.alias == alias))
                .map(|alias| Found {
                    path: directory.join(format!("{alias}.yaml")),
                    alias,
                    place,
                })
                .collect();
            here.sort_by(|left, right| left.alias.cmp(&right.alias));
            files.append(&mut here);
        }
        Ok(files)
    }
}

struct Found {
    alias: Alias,
    path: PathBuf,
    place: Place,
}

fn aliases_in(directory: &Path) -> Result<Vec<Alias>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io_error("list", directory, source)),
    };
    let mut aliases = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io_error("list", directory, source))?;
        let name = entry.file_name();
        let alias = name.to_str().and_then(|name| name.strip_suffix(".yaml"));
        if let Some(Ok(alias)) = alias.map(Alias::new) {
            aliases.push(alias);
        }
    }
    Ok(aliases)
}

fn load_file<T: Configuration>(
    alias: Option<Alias>,
    path: &Path,
    place: Place,
) -> Result<Loaded<T>, Error> {
    let bytes = fs::read(path).map_err(|source| io_error("read", path, source))?;
    let document = Document::parse(&path_name(path), &bytes)?;
    let (config, warnings) = T::read(&document)?;
    Ok(Loaded {
        alias,
        path: path.to_owned(),
        place,
        config,
        document,
        warnings,
    })
}

fn refuse_existing(kind: Kind, alias: &Alias, path: &Path) -> Result<(), Error> {
    if path.exists() {
        return Err(Error::Exists {
            kind,
            alias: alias.to_string(),
            path: path.to_owned(),
        });
    }
    Ok(())
}

fn write(path: &Path, content: &Value) -> Result<(), Error> {
    let text = save::to_yaml(content).map_err(|source| io_error("write", path, source))?;
    save::replace(path, &text)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
