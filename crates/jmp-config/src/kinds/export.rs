//! The export tree: which drivers an exporter serves.
//!
//! An entry is a driver (`type`), a group (only `children`) or a reference (`ref`). 0.9.0 turns an entry
//! it cannot read into an empty group without a word; here everything it does not know is an error, because
//! a misspelt key may never lose a driver.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde_json::{Map, Value, json};

use crate::decode::{At, Decoder, UnknownKeys, sentence_list};
use crate::document::Location;
use crate::document::{Document, Span};
use crate::nearest::nearest;
use crate::redact;

const NODE_KEYS: [&str; 6] = [
    "type",
    "config",
    "children",
    "description",
    "methods_description",
    "ref",
];

/// Named entries in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExportMap(Vec<(String, ExportNode)>);

/// One entry of the export tree.
#[derive(Clone, PartialEq)]
pub enum ExportNode {
    /// A driver to be made.
    Driver {
        /// Dotted class path, such as `jumpstarter_driver_power.driver.MockPower`.
        driver_type: String,
        /// Its parameters, always an object. Scalars have the type they look like
        /// (see [`Node::to_json`](crate::Node::to_json)); unquoted `yes` and `on` are text.
        config: Value,
        /// Drivers it is built on, by role.
        children: ExportMap,
        /// Help text that replaces the client's own.
        description: Option<String>,
        /// Help texts of commands, by command.
        methods_description: BTreeMap<String, String>,
        /// Where its `type` stands.
        location: Location,
    },
    /// A group of entries without a driver of its own.
    Group {
        /// The entries.
        children: ExportMap,
        /// Help text of the group.
        description: Option<String>,
        /// Where the entry stands.
        location: Location,
    },
    /// Another name for an entry elsewhere.
    Reference {
        /// Dotted path from the root of the export tree, such as `nested.p1`.
        target: String,
        /// Where the path stands.
        location: Location,
    },
}

// === impl ExportMap ===

impl ExportMap {
    /// The entries in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ExportNode)> {
        self.0.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The entry called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ExportNode> {
        self.iter()
            .find_map(|(found, node)| (found == name).then_some(node))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, name: impl Into<String>, node: ExportNode) {
        self.0.push((name.into(), node));
    }

    /// The content as it is written to a file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let entries: Map<String, Value> = self
            .iter()
            .map(|(name, node)| (name.to_owned(), node.to_json()))
            .collect();
        entries.into()
    }
}

impl FromIterator<(String, ExportNode)> for ExportMap {
    fn from_iter<I: IntoIterator<Item = (String, ExportNode)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl IntoIterator for ExportMap {
    type Item = (String, ExportNode);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

// === impl ExportNode ===

impl ExportNode {
    /// Where the entry stands.
    #[must_use]
    pub fn location(&self) -> &Location {
        match self {
            Self::Driver { location, .. }
            | Self::Group { location, .. }
            | Self::Reference { location, .. } => location,
        }
    }

    /// The content as it is written to a file, secrets included.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Reference { target, .. } => json!({"ref": target}),
            Self::Group {
                children,
                description,
                ..
            } => {
                let mut map = Map::new();
                if let Some(description) = description {
                    map.insert("description".into(), description.as_str().into());
                }
                map.insert("children".into(), children.to_json());
                map.into()
            }
            Self::Driver {
                driver_type,
                config,
                children,
                description,
                methods_description,
                ..
            } => {
                let mut map = Map::new();
                map.insert("type".into(), driver_type.as_str().into());
                if let Some(description) = description {
                    map.insert("description".into(), description.as_str().into());
                }
                if !methods_description.is_empty() {
                    map.insert("methods_description".into(), json!(methods_description));
                }
                if config.as_object().is_some_and(|config| !config.is_empty()) {
                    map.insert("config".into(), config.clone());
                }
                if !children.is_empty() {
                    map.insert("children".into(), children.to_json());
                }
                map.into()
            }
        }
    }
}

/// Passwords in `config` are replaced.
impl fmt::Debug for ExportNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} @ {}",
            redact::json(&self.to_json()),
            self.location()
        )
    }
}

// === reading ===

/// Reads `export:` and checks that references can lead somewhere.
pub(crate) fn export(decoder: &mut Decoder, document: &Document, root: &At<'_>) -> ExportMap {
    let Some(at) = root.get("export") else {
        return ExportMap::default();
    };
    let mut reader = ExportReader {
        decoder,
        file: document.source().name(),
        references: Vec::new(),
    };
    let map = reader.map(&at, "a mapping of driver names to drivers");
    let references = reader.references;
    // Also entries that were refused count: one complaint about them is enough.
    let written: HashSet<&str> = at
        .node
        .as_mapping()
        .into_iter()
        .flat_map(|mapping| &mapping.entries)
        .map(|entry| entry.key.text.as_str())
        .collect();
    for (target, path, span) in references {
        let first = target.split('.').next().unwrap_or_default();
        if !written.contains(first) && !decoder.is_full() {
            let place = At {
                node: at.node,
                path,
            };
            dangling_reference(decoder, &map, &target, span, &place);
        }
    }
    map
}

struct ExportReader<'d> {
    decoder: &'d mut Decoder,
    file: &'d str,
    references: Vec<(String, Vec<String>, Span)>,
}

impl ExportReader<'_> {
    fn map(&mut self, at: &At<'_>, expected: &str) -> ExportMap {
        let Some(mapping) = self.decoder.mapping(at, expected) else {
            return ExportMap::default();
        };
        let mut map = ExportMap::default();
        for entry in &mapping.entries {
            let child = at.child(entry);
            if let Some(node) = self.node(&child, entry.key.span) {
                map.push(entry.key.text.clone(), node);
            }
        }
        map
    }

    fn node(&mut self, at: &At<'_>, key: Span) -> Option<ExportNode> {
        let name = entry_name(at);
        let Some(mapping) = at.node.as_mapping() else {
            let diagnostic = if at.node.is_null() {
                self.decoder.at(at, key, format!("{name} is empty"))
            } else {
                self.decoder
                    .mismatch(at, "a mapping with `type`, `ref` or `children`")
            };
            let help = "write `type:` for a driver, `ref:` for another name of one, or `children:` for a group";
            self.decoder.push(diagnostic.with_help(help));
            return None;
        };
        self.decoder
            .unknown_keys(at, &NODE_KEYS, UnknownKeys::Reject, &name);
        let location = |span: Span| Location {
            file: self.file.to_owned(),
            line: span.line,
            column: span.column,
        };
        let place = |key_name: &str| mapping.get(key_name).map_or(key, |node| node.span);
        if at.get("type").is_some() {
            let location = location(place("type"));
            return self.driver(at, location);
        }
        if at.get("ref").is_some() {
            let location = location(place("ref"));
            return self.reference(at, location, place("ref"));
        }
        // `children:` with nothing below it is a group that is still empty.
        if mapping.get("children").is_some() {
            let location = location(key);
            return Some(self.group(at, location));
        }
        let near_miss = mapping
            .entries
            .iter()
            .any(|entry| nearest(&entry.key.text, ["type", "ref", "children"]).is_some());
        if !near_miss {
            let message = format!("{name} has none of `type`, `ref` and `children`");
            let diagnostic = self.decoder.at(at, key, message).with_help(
                "name the driver, for example `type: jumpstarter_driver_power.driver.MockPower`",
            );
            self.decoder.push(diagnostic);
        }
        None
    }

    fn driver(&mut self, at: &At<'_>, location: Location) -> Option<ExportNode> {
        let name = entry_name(at);
        if let Some(reference) = at.get("ref") {
            let message = format!("`ref` has no effect in {name}, because it has a `type`");
            let diagnostic = self.decoder.at(&reference, reference.node.span, message);
            self.decoder
                .push(diagnostic.as_warning().with_help("remove one of the two"));
        }
        let driver_type = self.decoder.string(at, "type")?;
        let config = match at.get("config") {
            Some(config) => {
                let mapping = self
                    .decoder
                    .mapping(&config, "a mapping of driver parameters");
                mapping.map_or_else(|| json!({}), crate::node::Mapping::to_json)
            }
            None => json!({}),
        };
        Some(ExportNode::Driver {
            driver_type,
            config,
            children: self.children(at),
            description: self.decoder.string(at, "description"),
            methods_description: self.methods_description(at),
            location,
        })
    }

    fn reference(&mut self, at: &At<'_>, location: Location, span: Span) -> Option<ExportNode> {
        let name = entry_name(at);
        for extra in ["config", "children", "description", "methods_description"] {
            if let Some(found) = at.get(extra) {
                let message = format!("{name} is a reference, so it can have no `{extra}`");
                let diagnostic = self.decoder.at(&found, found.node.span, message);
                let help = "put it at the entry that `ref` names";
                self.decoder.push(diagnostic.with_help(help));
            }
        }
        let target = self.decoder.string(at, "ref")?;
        self.references
            .push((target.clone(), at.path.clone(), span));
        Some(ExportNode::Reference { target, location })
    }

    fn group(&mut self, at: &At<'_>, location: Location) -> ExportNode {
        let name = entry_name(at);
        for extra in ["config", "methods_description"] {
            if let Some(found) = at.get(extra) {
                let message = format!("{name} has `{extra}`, but no `type` it could belong to");
                let diagnostic = self.decoder.at(&found, found.node.span, message);
                let help = "add the driver's `type:`, or remove it from this group";
                self.decoder.push(diagnostic.with_help(help));
            }
        }
        ExportNode::Group {
            children: self.children(at),
            description: self.decoder.string(at, "description"),
            location,
        }
    }

    fn children(&mut self, at: &At<'_>) -> ExportMap {
        match at.get("children") {
            Some(children) => self.map(&children, "a mapping of names to drivers"),
            None => ExportMap::default(),
        }
    }

    fn methods_description(&mut self, at: &At<'_>) -> BTreeMap<String, String> {
        let Some(found) = at.get("methods_description") else {
            return BTreeMap::new();
        };
        let Some(mapping) = self
            .decoder
            .mapping(&found, "a mapping of commands to help texts")
        else {
            return BTreeMap::new();
        };
        mapping
            .entries
            .iter()
            .filter_map(|entry| {
                if entry.value.is_null() {
                    return None;
                }
                let text = self.decoder.text(&found.child(entry))?;
                Some((entry.key.text.clone(), text))
            })
            .collect()
    }
}

/// The first step of a reference must be an entry of the export tree; what a driver has below it is only
/// known once it is made.
fn dangling_reference(
    decoder: &mut Decoder,
    map: &ExportMap,
    target: &str,
    span: Span,
    place: &At<'_>,
) {
    let first = target.split('.').next().unwrap_or_default();
    let names: Vec<&str> = map.iter().map(|(name, _)| name).collect();
    let message = format!(
        "{} refers to `{target}`, but `export` has no `{first}`",
        entry_name(place)
    );
    let diagnostic = decoder
        .at(place, span, message)
        .with_nearest(nearest(first, names.iter().copied()))
        .with_help(format!(
            "a reference is a dotted path from `export:`, which holds {}",
            sentence_list(&names)
        ));
    decoder.push(diagnostic);
}

/// ``the driver entry `nested.p1` ``, from the path `export.nested.children.p1`.
fn entry_name(at: &At<'_>) -> String {
    let names: Vec<&str> = at
        .path
        .iter()
        .skip(1)
        .step_by(2)
        .map(String::as_str)
        .collect();
    format!("the driver entry `{}`", names.join("."))
}
