//! What the file kinds share: header, metadata, TLS and gRPC options.

use serde_json::{Map, Value};

use crate::Document;
use crate::decode::{At, Decoder, UnknownKeys, sentence_list};
use crate::diagnostic::Diagnostic;
use crate::document::Spot;
use crate::nearest::nearest;

/// The only version of every file kind.
pub const API_VERSION: &str = "jumpstarter.dev/v1alpha1";

/// Who this configuration is in the controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Name in the controller; environment and flags can supply it.
    pub name: Option<String>,
    /// Namespace in the controller.
    pub namespace: Option<String>,
}

/// How the controller's certificate is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Base64 of a PEM bundle, on one line; empty for the system's roots.
    pub ca: Option<String>,
    /// Fetch the server's chain and trust it.
    pub insecure: Option<bool>,
}

/// gRPC channel options by their names, numbers and texts, in the order of the file.
pub type GrpcOptions = Map<String, Value>;

/// What a file says it is.
pub(crate) struct Expected {
    /// Accepted spellings of `kind`, the one that is written first.
    pub(crate) kinds: &'static [&'static str],
    /// `a client configuration`, for messages.
    pub(crate) name: &'static str,
}

/// Checks `apiVersion` and `kind`. A missing one is a warning, since the documentation shows fragments; a
/// different one is an error.
pub(crate) fn header(decoder: &mut Decoder, document: &Document, expected: &Expected) {
    let root = At::root(document);
    if root.node.as_mapping().is_none() {
        if !root.node.is_null() {
            let wanted = format!("a mapping, {}", expected.name);
            let diagnostic = decoder.mismatch(&root, &wanted);
            decoder.push(diagnostic);
        }
        return;
    }
    let found = decoder.string(&root, "apiVersion");
    check_word(
        decoder,
        document,
        "apiVersion",
        found,
        &[API_VERSION],
        expected,
    );
    let found = decoder.string(&root, "kind");
    check_word(decoder, document, "kind", found, expected.kinds, expected);
}

fn check_word(
    decoder: &mut Decoder,
    document: &Document,
    key: &'static str,
    found: Option<String>,
    accepted: &[&'static str],
    expected: &Expected,
) {
    let advice = format!("write `{key}: {}`", accepted[0]);
    match found {
        Some(word) if accepted.contains(&word.as_str()) => {}
        Some(word) => {
            let message = format!("`{key}: {word}` is not {}", expected.name);
            let near = nearest(&word, accepted.iter().copied());
            let help = match near {
                Some(_) => advice,
                None => format!("{} says `{key}: {}`", expected.name, accepted[0]),
            };
            let diagnostic = document
                .error_at(&[key], Spot::Value, message)
                .with_nearest(near)
                .with_help(help);
            decoder.push(diagnostic);
        }
        // A misspelt `kind` is reported where the key stands.
        None if document.get(&[key]).is_some() => {
            let message = format!("`{key}` is empty");
            let diagnostic = document.error_at(&[key], Spot::Key, message);
            decoder.push(diagnostic.with_help(advice));
        }
        None => {
            let message = format!(
                "`{key}` is missing, the file is taken for {}",
                expected.name
            );
            let diagnostic = Diagnostic::error(document.source(), None, message).as_warning();
            decoder.push(diagnostic.with_help(advice));
        }
    }
}

pub(crate) fn metadata(decoder: &mut Decoder, root: &At<'_>, policy: UnknownKeys) -> Metadata {
    let Some(at) = root.get("metadata") else {
        return Metadata::default();
    };
    if decoder
        .mapping(&at, "a mapping with `name` and `namespace`")
        .is_none()
    {
        return Metadata::default();
    }
    decoder.unknown_keys(&at, &["name", "namespace"], policy, "`metadata`");
    Metadata {
        name: decoder.string(&at, "name"),
        namespace: decoder.string(&at, "namespace"),
    }
}

pub(crate) fn tls(decoder: &mut Decoder, root: &At<'_>) -> Tls {
    let Some(at) = root.get("tls") else {
        return Tls::default();
    };
    if decoder
        .mapping(&at, "a mapping with `ca` and `insecure`")
        .is_none()
    {
        return Tls::default();
    }
    decoder.unknown_keys(&at, &["ca", "insecure"], UnknownKeys::Warn, "`tls`");
    Tls {
        ca: decoder.string(&at, "ca"),
        insecure: decoder.boolean(&at, "insecure"),
    }
}

/// Reads `grpcOptions`, and `grpcConfig` as one page of the documentation spells it; where both give an
/// option, `grpcOptions` counts.
pub(crate) fn grpc_options(decoder: &mut Decoder, root: &At<'_>) -> GrpcOptions {
    let mut options = GrpcOptions::new();
    for key in ["grpcConfig", "grpcOptions"] {
        let Some(at) = root.get(key) else { continue };
        let Some(mapping) = decoder.mapping(&at, "a mapping of option names to values") else {
            continue;
        };
        for entry in &mapping.entries {
            let value = entry.value.to_json();
            if value.is_string() || value.is_i64() || value.is_u64() {
                options.insert(entry.key.text.clone(), value);
            } else {
                let at = at.child(entry);
                let diagnostic = decoder.mismatch(&at, "a whole number or text");
                decoder.push(diagnostic);
            }
        }
    }
    options
}

/// Reads an endpoint, `host:port` without a scheme; empty is valid for local use.
pub(crate) fn endpoint(decoder: &mut Decoder, root: &At<'_>) -> Option<String> {
    let endpoint = decoder.string(root, "endpoint")?;
    if let (Some((_, rest)), Some(at)) = (endpoint.split_once("://"), root.get("endpoint")) {
        let diagnostic = decoder
            .at(
                &at,
                at.node.span,
                "`endpoint` should be host and port without a scheme",
            )
            .with_help(format!(
                "write `endpoint: {:?}`",
                rest.trim_end_matches('/')
            ));
        decoder.push(diagnostic);
    }
    Some(endpoint)
}

/// One of a few words, with the nearest in the message.
pub(crate) fn one_of<T: Copy>(
    decoder: &mut Decoder,
    parent: &At<'_>,
    key: &str,
    words: &[(&str, T)],
) -> Option<T> {
    let text = decoder.string(parent, key)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let at = parent.get(key)?;
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let expected = format!("one of {}", sentence_list(&names));
    let diagnostic = decoder
        .mismatch(&at, &expected)
        .with_nearest(nearest(&text, names));
    decoder.push(diagnostic);
    None
}

/// Inserts `value` unless it is `None`.
pub(crate) fn put<T: Into<Value>>(map: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

/// `apiVersion`, `kind` and `metadata`. 0.9.0 wants both members of `metadata` present, null or not.
pub(crate) fn header_json(kind: &str, metadata: &Metadata) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("apiVersion".into(), API_VERSION.into());
    map.insert("kind".into(), kind.into());
    map.insert(
        "metadata".into(),
        serde_json::json!({"namespace": metadata.namespace, "name": metadata.name}),
    );
    map
}

pub(crate) fn put_tls(map: &mut Map<String, Value>, tls: &Tls) {
    let mut inner = Map::new();
    put(&mut inner, "ca", tls.ca.clone().filter(|ca| !ca.is_empty()));
    put(
        &mut inner,
        "insecure",
        tls.insecure.filter(|insecure| *insecure),
    );
    if !inner.is_empty() {
        map.insert("tls".into(), inner.into());
    }
}
