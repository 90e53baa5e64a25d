//! Resources: bulk data that a client lends to one driver call.
//!
//! A handle is an ordinary call argument, a struct tagged by `kind` (facts: protocol 4.1). For
//! `client_stream` the client first opens a byte stream of kind `resource`, learns the handle
//! from the initial metadata and passes it on; for `presigned_request` the exporter performs the
//! HTTP request itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Request metadata key of a byte stream.
pub const REQUEST_KEY: &str = "request";
/// Initial metadata key that holds the handle of a new resource.
pub const RESOURCE_KEY: &str = "resource";
/// Initial metadata key that names the accepted encoding. Present but empty means that the
/// client must not transcode; absent means that it must.
pub const ACCEPT_ENCODING_KEY: &str = "x_jmp_accept_encoding";

/// What a client wants to open, the JSON value of the `request` metadata entry. Unknown members
/// are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StreamRequest {
    /// A byte stream of a driver.
    Driver {
        /// The driver instance.
        uuid: Uuid,
        /// Name of its stream method, by convention `connect`.
        method: String,
    },
    /// The data of a resource.
    Resource {
        /// The driver instance that will use it.
        uuid: Uuid,
        /// How the client's bytes are compressed, if they are.
        #[serde(default)]
        x_jmp_content_encoding: Option<String>,
    },
}

/// A call argument that stands for readable or writable data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ResourceHandle {
    /// Data that the client streams; good for one use.
    ClientStream {
        /// Identifies the resource within its driver instance.
        uuid: Uuid,
        /// How the client's bytes are compressed: `gzip`, `xz`, `bz2` or `zstd`.
        #[serde(default)]
        x_jmp_content_encoding: Option<String>,
    },
    /// An HTTP request for the exporter to perform.
    PresignedRequest {
        /// Headers of the request.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Absolute address; its query may be a secret.
        url: String,
        /// `GET` to read, `PUT` to write.
        method: String,
    },
}

/// Body of the fuzz target for request metadata: arbitrary bytes never panic, and what is read
/// survives being written again.
#[doc(hidden)]
pub fn fuzz_request(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<StreamRequest>(data) {
        let text = serde_json::to_vec(&request).unwrap_or_default();
        assert_eq!(
            serde_json::from_slice::<StreamRequest>(&text).ok(),
            Some(request)
        );
    }
    if let Ok(handle) = serde_json::from_slice::<ResourceHandle>(data) {
        let text = serde_json::to_vec(&handle).unwrap_or_default();
        assert_eq!(
            serde_json::from_slice::<ResourceHandle>(&text).ok(),
            Some(handle)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_metadata_never_panics(
            kind in "driver|resource|client_stream|presigned_request|.{0,8}",
            uuid in "[0-9a-f-]{0,40}",
            method in ".{0,12}",
            cut in 0usize..120,
        ) {
            let text = serde_json::json!({
                "kind": kind, "uuid": uuid, "method": method, "url": method, "headers": {},
            })
            .to_string();
            fuzz_request(text.as_bytes());
            fuzz_request(&text.as_bytes()[..cut.min(text.len())]);
        }
    }

    #[test]
    fn requests_are_read_as_shipped_clients_write_them() {
        let text = r#"{"uuid":"6f1d7a2e-6c52-4f4b-b4b1-6b3e5f6a7c11","kind":"driver","method":"connect","extra":1}"#;
        let request: StreamRequest = serde_json::from_str(text).unwrap();
        assert!(matches!(request, StreamRequest::Driver { method, .. } if method == "connect"));
        let text = r#"{"kind":"resource","uuid":"6f1d7a2e6c524f4bb4b16b3e5f6a7c11","x_jmp_content_encoding":null}"#;
        let request: StreamRequest = serde_json::from_str(text).unwrap();
        assert!(matches!(
            request,
            StreamRequest::Resource {
                x_jmp_content_encoding: None,
                ..
            }
        ));
    }

    #[test]
    fn handles_keep_their_wire_shape() {
        let handle = ResourceHandle::ClientStream {
            uuid: Uuid::nil(),
            x_jmp_content_encoding: Some("gzip".into()),
        };
        assert_eq!(
            serde_json::to_value(&handle).unwrap(),
            serde_json::json!({
                "kind": "client_stream",
                "uuid": "00000000-0000-0000-0000-000000000000",
                "x_jmp_content_encoding": "gzip",
            })
        );
    }
}
