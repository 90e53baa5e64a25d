//! OpenDAL services: which there are, how they are opened, what their errors say.

use std::collections::BTreeMap;

use jmp_driver::{Error, ErrorKind, Result};
use jmp_interfaces::opendal::{Capability, EntryMode, Metadata, PresignedRequest};
use opendal::Operator;

/// Opens a service by its scheme, for example `fs` with the option `root`.
///
/// # Errors
///
/// If the scheme is not known or its options are wrong; the message lists what there is.
pub fn open(scheme: &str, options: &BTreeMap<String, String>) -> Result<Operator> {
    jmp_wire::tls::install_provider();
    opendal::init_default_registry();
    opendal_http_transport_reqwest::install_default();
    let options = options
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()));
    Operator::via_iter(scheme, options).map_err(|error| {
        Error::configuration(format!(
            "OpenDAL service `{scheme}` cannot be opened: {}",
            text(&error)
        ))
    })
}

/// An OpenDAL error as shipped exporters report it: UNKNOWN, with a text that begins with kind,
/// operation and message (observed on 0.9.0: `NotFound (permanent) at stat => entity not found`).
pub fn failed(error: opendal::Error) -> Error {
    Error::new(ErrorKind::Other, text(&error)).with_source(error)
}

/// What OpenDAL spreads over paragraphs, in one line.
fn text(error: &opendal::Error) -> String {
    let long = format!("{error:?}");
    let mut lines = long.lines();
    let mut text = lines.next().unwrap_or_default().trim().to_owned();
    let mut section = String::new();
    let mut context = Vec::new();
    let mut source = None;
    for line in lines {
        if let Some(name) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            section = name.to_owned();
        } else if line.trim().is_empty() {
            continue;
        } else if section == "Context" {
            context.push(line.trim().to_owned());
        } else if section == "Source" && source.is_none() {
            source = Some(line.trim().to_owned());
        }
    }
    if !context.is_empty() {
        text = format!("{text} ({})", context.join(", "));
    }
    match source {
        Some(source) => format!("{text}: {source}"),
        None => text,
    }
}

/// What a service can do, in the keys of the wire.
pub fn capability(operator: &Operator) -> Capability {
    let from = operator.info().capability();
    let size = |size: Option<usize>| size.map(|size| size as u64);
    Capability {
        stat: from.stat,
        stat_with_if_match: from.stat_with_if_match,
        stat_with_if_none_match: from.stat_with_if_none_match,
        read: from.read,
        read_with_if_match: from.read_with_if_match,
        read_with_if_none_match: from.read_with_if_none_match,
        read_with_override_cache_control: from.read_with_override_cache_control,
        read_with_override_content_disposition: from.read_with_override_content_disposition,
        read_with_override_content_type: from.read_with_override_content_type,
        write: from.write,
        write_can_multi: from.write_can_multi,
        write_can_empty: from.write_can_empty,
        write_can_append: from.write_can_append,
        write_with_content_type: from.write_with_content_type,
        write_with_content_disposition: from.write_with_content_disposition,
        write_with_cache_control: from.write_with_cache_control,
        write_multi_max_size: size(from.write_multi_max_size),
        write_multi_min_size: size(from.write_multi_min_size),
        write_total_max_size: size(from.write_total_max_size),
        create_dir: from.create_dir,
        delete: from.delete,
        copy: from.copy,
        rename: from.rename,
        list: from.list,
        list_with_limit: from.list_with_limit,
        list_with_start_after: from.list_with_start_after,
        list_with_recursive: from.list_with_recursive,
        presign: from.presign,
        presign_read: from.presign_read,
        presign_stat: from.presign_stat,
        presign_write: from.presign_write,
        shared: from.shared,
        // Gone from OpenDAL; 0.9.0 says true for every service.
        blocking: true,
    }
}

/// What is known about an entry, in the shape of the wire.
pub fn metadata(from: &opendal::Metadata) -> Metadata {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Metadata {
        content_disposition: text(from.content_disposition()),
        content_length: from.content_length(),
        content_md5: text(from.content_md5()),
        content_type: text(from.content_type()),
        etag: text(from.etag()),
        mode: EntryMode {
            entry_is_file: from.is_file(),
            entry_is_dir: from.is_dir(),
        },
    }
}

/// A presigned request in the shape of the wire.
///
/// # Errors
///
/// If it has a header that is no text.
pub fn presigned(request: &opendal::raw::PresignedRequest) -> Result<PresignedRequest> {
    let mut headers = BTreeMap::new();
    for (name, value) in request.header() {
        let value = value.to_str().map_err(|_| {
            Error::other(format!(
                "header `{name}` of the presigned request is no text"
            ))
        })?;
        headers.insert(name.to_string(), value.to_owned());
    }
    Ok(PresignedRequest {
        url: request.uri().to_string(),
        method: request.method().to_string(),
        headers,
    })
}
