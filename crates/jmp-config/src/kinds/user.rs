//! `config.yaml`: which client is current.

use jmp_types::Alias;
use serde_json::{Map, Value, json};

use crate::decode::{At, Decoder, UnknownKeys};
use crate::diagnostic::{ConfigError, Diagnostic};
use crate::document::Document;
use crate::kinds::common::{API_VERSION, Expected, header};

const EXPECTED: Expected = Expected {
    kinds: &["UserConfig"],
    name: "a user configuration",
};

/// The user's own settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserConfig {
    /// The client used when none is named. The file it names may be gone.
    pub current_client: Option<Alias>,
}

impl UserConfig {
    /// Reads the document.
    ///
    /// # Errors
    /// [`ConfigError`] with every complaint about the file.
    pub fn from_document(document: &Document) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        let mut decoder = Decoder::new(document);
        header(&mut decoder, document, &EXPECTED);
        let root = At::root(document);
        let known = ["apiVersion", "kind", "config"];
        decoder.unknown_keys(
            &root,
            &known,
            UnknownKeys::RejectNear,
            "the user configuration",
        );
        let mut config = Self::default();
        if let Some(at) = root.get("config") {
            if decoder
                .mapping(&at, "a mapping with `current-client`")
                .is_some()
            {
                let known = ["current-client"];
                decoder.unknown_keys(&at, &known, UnknownKeys::RejectNear, "`config`");
            }
            if let Some(text) = decoder
                .string(&at, "current-client")
                .filter(|text| !text.is_empty())
            {
                match Alias::new(text) {
                    Ok(alias) => config.current_client = Some(alias),
                    Err(error) => {
                        let path = ["config", "current-client"];
                        let spot = crate::document::Spot::Value;
                        decoder.push(document.error_at(&path, spot, error.to_string()));
                    }
                }
            }
        }
        decoder.finish(config)
    }

    /// The file's content; an absent current client is written as an empty mapping, as 0.9.0 does.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut config = Map::new();
        if let Some(alias) = &self.current_client {
            config.insert("current-client".into(), alias.as_str().into());
        }
        json!({"apiVersion": API_VERSION, "kind": "UserConfig", "config": config})
    }
}
