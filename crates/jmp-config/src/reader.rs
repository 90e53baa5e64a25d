//! YAML events into the located tree.
//!
//! Upstream reads YAML 1.1. What its users rely on is kept: merge keys, keys that look like booleans
//! (as text), unquoted `yes` and `no` (decided by the reader of the value). What only hides mistakes is
//! refused: duplicate keys, second documents, tags that would construct something.

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, StrInput, Tag};

use crate::diagnostic::{ConfigError, Diagnostic};
use crate::document::{Source, Span};
use crate::node::{Entry, Key, Mapping, Node, Scalar, Value};

/// The largest file that is read, in bytes.
const MAXIMUM_BYTES: usize = 4 << 20;
/// Levels of nesting, aliases followed.
const MAXIMUM_DEPTH: usize = 64;
/// Nodes, aliases followed; a long text counts as several.
const MAXIMUM_NODES: usize = 250_000;
/// Characters of text that count as one node.
const TEXT_PER_NODE: usize = 32;

pub(crate) fn read(source: &Arc<Source>) -> Result<Node, ConfigError> {
    if source.text().len() > MAXIMUM_BYTES {
        return Err(Diagnostic::error(source, None, "the file is larger than 4 MiB").into());
    }
    let options = granit_parser::options! {
        emit_comments: false,
        block_nesting_limit: 2 * MAXIMUM_DEPTH,
        flow_nesting_limit: 2 * MAXIMUM_DEPTH,
    };
    let mut reader = Reader {
        source,
        parser: Parser::new_from_str_with_options(source.text(), options),
        anchors: HashMap::new(),
        nodes: 0,
    };
    reader.document()
}

struct Anchored {
    node: Node,
    nodes: usize,
    height: usize,
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
}

type Step<'a> = (Event<'a>, granit_parser::Span);

/// A node and how many levels it has.
type Built = (Node, usize);

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, ConfigError> {
        let mut root = None;
        while let Some((event, at)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(self
                        .error(span(&at), "a second document starts here")
                        .with_help("a configuration file holds one document; remove the `---` or put the rest into a file of its own")
                        .into());
                }
                Event::DocumentStart(..) => {}
                Event::StreamEnd => break,
                event => root = Some(self.node((event, at), 0)?.0),
            }
        }
        Ok(root.unwrap_or_else(Node::null))
    }

    fn next(&mut self) -> Result<Option<Step<'a>>, ConfigError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(step)) => Ok(Some(step)),
            Some(Err(error)) => Err(self.syntax_error(&error).into()),
        }
    }

    /// The next event inside a node, where the stream cannot end.
    fn inner(&mut self) -> Result<Step<'a>, ConfigError> {
        match self.next()? {
            Some(step) => Ok(step),
            None => Err(Diagnostic::error(self.source, None, "the file ends too early").into()),
        }
    }

    fn node(&mut self, (event, at): Step<'a>, depth: usize) -> Result<Built, ConfigError> {
        let place = span(&at);
        if depth > MAXIMUM_DEPTH {
            return Err(self.too_deep(place));
        }
        let before = self.nodes;
        let (anchor, (node, height)) = match event {
            Event::Alias(id) => return self.alias(id, place, depth),
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(1 + text.len() / TEXT_PER_NODE, place)?;
                let plain = self.is_plain(style, tag.as_deref(), place)?;
                let text = text.into_owned();
                let value = Value::Scalar(Scalar { text, plain });
                (anchor, (Node { span: place, value }, 0))
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), place)?;
                (anchor, self.sequence(place, depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), place)?;
                (anchor, self.mapping(place, depth)?)
            }
            _ => return Err(self.error(place, "a value is missing here").into()),
        };
        if anchor != 0 {
            let anchored = Anchored {
                node: node.clone(),
                nodes: self.nodes - before,
                height,
            };
            // The copy kept for aliases is memory too.
            self.charge(anchored.nodes, place)?;
            self.anchors.insert(anchor, anchored);
        }
        Ok((node, height))
    }

    fn alias(&mut self, id: usize, place: Span, depth: usize) -> Result<Built, ConfigError> {
        let Some(anchored) = self.anchors.get(&id) else {
            return Err(self.error(place, "the alias refers to itself").into());
        };
        if depth + anchored.height > MAXIMUM_DEPTH {
            return Err(self.too_deep(place));
        }
        let (nodes, height) = (anchored.nodes, anchored.height);
        self.nodes += nodes;
        self.charge(0, place)?;
        let mut node = self.anchors[&id].node.clone();
        node.span = place;
        Ok((node, height))
    }

    fn sequence(&mut self, place: Span, depth: usize) -> Result<Built, ConfigError> {
        self.charge(1, place)?;
        let mut items = Vec::new();
        let mut height = 0;
        loop {
            let step = self.inner()?;
            if matches!(step.0, Event::SequenceEnd) {
                break;
            }
            let (item, item_height) = self.node(step, depth + 1)?;
            height = height.max(item_height + 1);
            items.push(item);
        }
        let value = Value::Sequence(items);
        Ok((Node { span: place, value }, height))
    }

    fn mapping(&mut self, place: Span, depth: usize) -> Result<Built, ConfigError> {
        self.charge(1, place)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut merges = Vec::new();
        let mut height = 0;
        loop {
            let step = self.inner()?;
            if matches!(step.0, Event::MappingEnd) {
                break;
            }
            let (key, plain) = self.key(step, depth)?;
            let step = self.inner()?;
            let (value, value_height) = self.node(step, depth + 1)?;
            height = height.max(value_height + 1);
            if plain && key.text == "<<" {
                merges.push((key, value));
                continue;
            }
            if let Some(first) = seen.get(&key.text) {
                return Err(self.duplicate(&entries[*first].key, &key));
            }
            seen.insert(key.text.clone(), entries.len());
            entries.push(Entry { key, value });
        }
        for (key, value) in merges {
            self.merge(&key, value, &mut entries, &mut seen)?;
        }
        let value = Value::Mapping(Mapping { entries });
        Ok((Node { span: place, value }, height))
    }

    fn key(&mut self, step: Step<'a>, depth: usize) -> Result<(Key, bool), ConfigError> {
        let place = span(&step.1);
        match self.node(step, depth + 1)?.0.value {
            Value::Scalar(Scalar { text, plain }) => Ok((Key { text, span: place }, plain)),
            _ => Err(self
                .error(place, "a key must be plain text, not a list or a mapping")
                .with_help("quote text that starts with `[` or `{`")
                .into()),
        }
    }

    /// `<<: *defaults`: entries of the merged mapping apply where there is no entry of that name.
    fn merge(
        &self,
        key: &Key,
        value: Node,
        entries: &mut Vec<Entry>,
        seen: &mut HashMap<String, usize>,
    ) -> Result<(), ConfigError> {
        let mappings = match value.value {
            Value::Mapping(mapping) => vec![mapping],
            Value::Sequence(items) if items.iter().all(|item| item.as_mapping().is_some()) => items
                .into_iter()
                .filter_map(|item| match item.value {
                    Value::Mapping(mapping) => Some(mapping),
                    _ => None,
                })
                .collect(),
            _ => {
                return Err(self
                    .error(key.span, "`<<` merges a mapping or a list of mappings")
                    .with_help(
                        "write for example `<<: *defaults`, where `&defaults` marks a mapping",
                    )
                    .into());
            }
        };
        for entry in mappings.into_iter().flat_map(|mapping| mapping.entries) {
            if !seen.contains_key(&entry.key.text) {
                seen.insert(entry.key.text.clone(), entries.len());
                entries.push(entry);
            }
        }
        Ok(())
    }

    fn is_plain(
        &self,
        style: ScalarStyle,
        tag: Option<&Tag>,
        place: Span,
    ) -> Result<bool, ConfigError> {
        self.check_tag(tag, place)?;
        match tag.and_then(Tag::core_suffix) {
            Some("str") => Ok(false),
            Some(_) => Ok(true),
            None => Ok(style == ScalarStyle::Plain),
        }
    }

    fn check_tag(&self, tag: Option<&Tag>, place: Span) -> Result<(), ConfigError> {
        let Some(tag) = tag else { return Ok(()) };
        // A lone `!` says "not a plain scalar" and constructs nothing.
        if tag.original() == "!" {
            return Ok(());
        }
        match tag.core_suffix() {
            Some("str" | "int" | "float" | "bool" | "null" | "map" | "seq") => Ok(()),
            _ => Err(self
                .error(
                    place,
                    format!("the tag `{}` is not supported", tag.original()),
                )
                .with_help("remove the tag and write the plain value")
                .into()),
        }
    }

    fn charge(&mut self, nodes: usize, place: Span) -> Result<(), ConfigError> {
        self.nodes += nodes;
        if self.nodes > MAXIMUM_NODES {
            return Err(self
                .error(
                    place,
                    "the file holds too many values once its aliases are followed",
                )
                .into());
        }
        Ok(())
    }

    fn too_deep(&self, place: Span) -> ConfigError {
        let message = format!("more than {MAXIMUM_DEPTH} levels of nesting");
        self.error(place, message).into()
    }

    fn duplicate(&self, first: &Key, second: &Key) -> ConfigError {
        self.error(
            second.span,
            format!(
                "the key `{}` is written twice, first in line {}",
                second.text, first.span.line
            ),
        )
        .with_related(first.span, "first here")
        .with_help("keep one of the two")
        .into()
    }

    fn error(&self, place: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.source, Some(place), message)
    }

    fn syntax_error(&self, error: &granit_parser::ScanError) -> Diagnostic {
        let marker = error.marker();
        let place = Span {
            line: count(marker.line()).max(1),
            column: count(marker.col()).saturating_add(1),
            width: 1,
        };
        let info = error.info();
        let diagnostic = self.error(place, format!("this is not valid YAML: {info}"));
        let tab = self
            .source
            .line(place.line)
            .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
        if tab {
            diagnostic.with_help("YAML is indented with spaces; replace the tab")
        } else if info.contains("quoted scalar") {
            diagnostic.with_help("a quotation mark that opens above is not closed before this line")
        } else {
            diagnostic
        }
    }
}

fn span(at: &granit_parser::Span) -> Span {
    let (start, end) = (at.start, at.end);
    let width = if start.line() == end.line() {
        end.col().saturating_sub(start.col())
    } else {
        1
    };
    Span {
        line: count(start.line()).max(1),
        column: count(start.col()).saturating_add(1),
        width: count(width).max(1),
    }
}

fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
