//! The client side of HTTP/2 and HPACK is written here a second time, with a table that holds text,
//! so that the walker is compared with an independent account of the standard.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const PATH_AUTHORITY: &str = "run%2Fuser%2F1000%2Fjumpstarter%2Fexporter.sock";

/// How a field is sent.
#[derive(Debug, Clone)]
struct Sent {
    name: &'static str,
    value: String,
    /// Bits 6 and 7 of the representation: with indexing, without, never.
    representation: u8,
    huffman_name: bool,
    huffman_value: bool,
    /// Take the name from the static or dynamic table when it is there.
    use_index: bool,
}

/// One request: how its block is framed, and what noise precedes it.
#[derive(Debug, Clone)]
struct Request {
    fields: Vec<Sent>,
    padding: Option<u8>,
    priority: bool,
    fragment_size: usize,
    table_size: Option<u32>,
    data: Vec<u8>,
}

/// An HPACK encoder that writes what is sent and what must come out of the rewriter.
struct Client {
    table: Vec<(String, usize)>,
    limit: usize,
}

const STATIC_NAMES: [(&str, u32); 5] = [
    (":authority", 1),
    (":path", 4),
    ("content-type", 31),
    ("user-agent", 58),
    ("www-authenticate", 61),
];

impl Client {
    fn new() -> Self {
        Self {
            table: Vec::new(),
            limit: 4096,
        }
    }

    fn request(&mut self, request: &Request, sent: &mut Vec<u8>, expected: &mut Vec<u8>) {
        let (mut block, mut block_expected) = (Vec::new(), Vec::new());
        if let Some(size) = request.table_size {
            integer(0x20, 5, size, &mut block);
            block_expected.clone_from(&block);
            self.limit = size as usize;
            self.evict(0);
        }
        for field in &request.fields {
            self.field(field, &mut block, &mut block_expected);
        }
        frames(request, &block, sent);
        frames(request, &block_expected, expected);
    }

    fn field(&mut self, field: &Sent, sent: &mut Vec<u8>, expected: &mut Vec<u8>) {
        let prefix = if field.representation == 0x40 { 6 } else { 4 };
        let in_table = self.table.iter().position(|(name, _)| name == field.name);
        let in_static = STATIC_NAMES.iter().find(|(name, _)| *name == field.name);
        let index = match (in_table, in_static) {
            (Some(place), _) => place as u32 + 62,
            (None, Some((_, index))) => *index,
            (None, None) => 0,
        };
        let index = if field.use_index { index } else { 0 };
        let start = sent.len();
        integer(field.representation, prefix, index, sent);
        if index == 0 {
            string(field.name.as_bytes(), field.huffman_name, sent);
        }
        expected.extend_from_slice(&sent[start..]);
        string(field.value.as_bytes(), field.huffman_value, sent);
        let rewritten = match field.name {
            ":authority" => reference(&field.value, field.huffman_value),
            _ => field.value.clone(),
        };
        string(rewritten.as_bytes(), field.huffman_value, expected);
        if field.representation == 0x40 {
            let size = field.name.len() + field.value.len() + 32;
            self.evict(size);
            if size <= self.limit {
                self.table.insert(0, (field.name.to_owned(), size));
            }
        }
    }

    fn evict(&mut self, room: usize) {
        while !self.table.is_empty()
            && self.table.iter().map(|(_, size)| size).sum::<usize>() + room > self.limit
        {
            self.table.pop();
        }
    }
}

/// What an escaped path becomes; other values of the tests are acceptable and stay.
fn reference(value: &str, huffman: bool) -> String {
    if huffman {
        value.replace('%', ".").replace(' ', "-").replace('/', "3")
    } else if value.starts_with('[') {
        value.to_owned()
    } else {
        let (host, path) = value.split_at(value.find('%').unwrap_or(value.len()));
        host.to_owned() + &path.replace(['%', ':', '@', '[', ']'], "-")
    }
}

fn integer(pattern: u8, prefix: u32, value: u32, out: &mut Vec<u8>) {
    let largest = (1u32 << prefix) - 1;
    if value < largest {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | largest as u8);
    let mut rest = value - largest;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(text: &[u8], coded: bool, out: &mut Vec<u8>) {
    let bytes = if coded {
        huffman::encode(text)
    } else {
        text.to_vec()
    };
    integer(if coded { 0x80 } else { 0 }, 7, bytes.len() as u32, out);
    out.extend_from_slice(&bytes);
}

fn frame(kind: u8, flags: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
    out.extend_from_slice(payload);
}

fn frames(request: &Request, block: &[u8], out: &mut Vec<u8>) {
    // The data often looks like an authority in a header block, and must not be touched.
    frame(0x4, 0, &[0, 3, 0, 0, 0, 100], out);
    let mut pieces = block.chunks(request.fragment_size).peekable();
    let mut payload = Vec::new();
    let mut flags = 0;
    if let Some(padding) = request.padding {
        flags |= FLAG_PADDED;
        payload.push(padding);
    }
    if request.priority {
        flags |= FLAG_PRIORITY;
        payload.extend_from_slice(b"%%%%%");
    }
    payload.extend_from_slice(pieces.next().unwrap_or_default());
    if let Some(padding) = request.padding {
        payload.extend(std::iter::repeat_n(b'%', padding.into()));
    }
    if pieces.peek().is_none() {
        flags |= FLAG_END_HEADERS;
    }
    frame(FRAME_HEADERS, flags, &payload, out);
    while let Some(piece) = pieces.next() {
        // Flags that mean nothing here, on purpose.
        let end = if pieces.peek().is_none() {
            FLAG_END_HEADERS
        } else {
            0
        };
        frame(FRAME_CONTINUATION, FLAG_PADDED | end, piece, out);
    }
    frame(0x0, 0x1, &request.data, out);
}

fn rewrite_in_pieces(input: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut output = input.to_vec();
    let mut rewriter = AuthorityRewriter::new();
    let mut sizes = sizes.iter().cycle();
    let mut rest = output.as_mut_slice();
    while !rest.is_empty() {
        let size = sizes.next().copied().unwrap_or(usize::MAX).max(1);
        let (piece, tail) = rest.split_at_mut(size.min(rest.len()));
        rewriter.process(piece);
        rest = tail;
    }
    output
}

/// Rewrites one raw value by way of a complete connection.
fn rewritten_value(value: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    integer(0x00, 4, 1, &mut block);
    string(value, false, &mut block);
    let mut input = PREFACE.to_vec();
    frame(FRAME_HEADERS, FLAG_END_HEADERS, &block, &mut input);
    let output = rewrite_in_pieces(&input, &[usize::MAX]);
    output[output.len() - value.len()..].to_vec()
}

fn authority_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(PATH_AUTHORITY.to_owned()),
        "[a-z]{0,9}(:[a-z]*)?%2F[a-zA-Z0-9%:@\\[\\]._~!$&'()*+,;=-]{0,200}",
        "[a-z0-9.-]{1,20}(:[0-9]{1,5})?",
        Just("[fe80::1%25eth0]:8083".to_owned()),
    ]
}

fn field() -> impl Strategy<Value = Sent> {
    let name = prop::sample::select(vec![
        ":authority",
        ":authority",
        ":path",
        "content-type",
        "user-agent",
        "www-authenticate",
        ":authorit",
        ":authority-x",
        "x-%2F-escaped",
        "grpc-timeout",
    ]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let representation = prop::sample::select(vec![0x40u8, 0x40, 0x00, 0x10]);
    (name, authority_value(), flags, representation).prop_map(
        |(name, value, (huffman_name, huffman_value, use_index), representation)| {
            // The reference for coded values knows no brackets, but neither does the code.
            Sent {
                name,
                value,
                representation,
                huffman_name,
                huffman_value,
                use_index,
            }
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    (
        vec(field(), 0..12),
        prop::option::of(any::<u8>()),
        any::<bool>(),
        1usize..600,
        prop::option::of(prop::sample::select(vec![0u32, 100, 300, 4096])),
        vec(any::<u8>(), 0..200),
    )
        .prop_map(
            |(fields, padding, priority, fragment_size, table_size, data)| Request {
                fields,
                padding,
                priority,
                fragment_size,
                table_size,
                data,
            },
        )
}

proptest! {
    #[test]
    fn rewrites_authorities_and_nothing_else(
        requests in vec(request(), 1..6),
        sizes in vec(1usize..300, 1..20),
    ) {
        let mut client = Client::new();
        let (mut sent, mut expected) = (PREFACE.to_vec(), PREFACE.to_vec());
        for request in &requests {
            client.request(request, &mut sent, &mut expected);
        }
        prop_assert_eq!(&rewrite_in_pieces(&sent, &[usize::MAX]), &expected);
        prop_assert_eq!(&rewrite_in_pieces(&sent, &sizes), &expected);
        prop_assert_eq!(&rewrite_in_pieces(&sent, &[1]), &expected);
    }

    #[test]
    fn escaped_paths_become_acceptable(
        value in "[a-z:@._~-]{0,9}%2F[a-zA-Z0-9%:@\\[\\]._~!$&'()*+,;=-]{0,100}",
    ) {
        let rewritten = rewritten_value(value.as_bytes());
        let authority = http::uri::Authority::try_from(rewritten.as_slice());
        prop_assert!(authority.is_ok(), "{}", String::from_utf8_lossy(&rewritten));
    }

    #[test]
    fn acceptable_values_stay_acceptable(value in "[a-b0-9:@%\\[\\]._~-]{1,12}") {
        if http::uri::Authority::try_from(value.as_str()).is_ok() {
            let rewritten = rewritten_value(value.as_bytes());
            prop_assert!(http::uri::Authority::try_from(rewritten.as_slice()).is_ok());
            // The `http` crate lets an IPv6 address begin in the middle of a host; nobody else does.
            let odd = value.rfind('[') > Some(0);
            if !odd && !value.contains(['%', '@']) {
                prop_assert_eq!(rewritten, value.as_bytes());
            }
        }
    }

    #[test]
    fn survives_any_bytes(data in vec(any::<u8>(), 0..600)) {
        fuzz_authority(&data);
    }

    /// Random bytes seldom get past a frame head, so this wraps them in one.
    #[test]
    fn survives_any_header_block(
        block in vec(any::<u8>(), 0..300),
        flags in any::<u8>(),
    ) {
        let mut data = Vec::new();
        frame(FRAME_HEADERS, flags, &block, &mut data);
        frame(FRAME_CONTINUATION, FLAG_END_HEADERS, &block, &mut data);
        frame(FRAME_HEADERS, FLAG_END_HEADERS, &block, &mut data);
        fuzz_authority(&data);
    }

    #[test]
    fn huffman_code_round_trips(text in vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(huffman::decode(&huffman::encode(&text)), text);
    }
}

#[test]
fn huffman_code_is_that_of_the_standard() {
    // RFC 7541, appendix C.4.1 and C.6.1.
    assert_eq!(
        huffman::encode(b"www.example.com"),
        [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff
        ]
    );
    assert_eq!(
        huffman::decode(&[
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b,
            0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff
        ]),
        b"Mon, 21 Oct 2013 20:13:21 GMT"
    );
}

#[test]
fn huffman_rewriting_changes_only_the_named_symbols() {
    for byte in 0..=255u8 {
        let text = [b'a', byte, b'z', byte, byte, b'0'];
        let mut block = Vec::new();
        integer(0x00, 4, 1, &mut block);
        let value_start = block.len() + 1;
        string(&text, true, &mut block);
        let mut input = PREFACE.to_vec();
        let block_start = input.len() + FRAME_HEAD_LENGTH;
        frame(FRAME_HEADERS, FLAG_END_HEADERS, &block, &mut input);
        let output = rewrite_in_pieces(&input, &[1]);
        let expected = match byte {
            b'%' => b'.',
            b' ' => b'-',
            b'/' => b'3',
            other => other,
        };
        let decoded = huffman::decode(&output[block_start + value_start..]);
        assert_eq!(decoded, [b'a', expected, b'z', expected, expected, b'0']);
    }
}

#[test]
fn name_is_found_through_the_dynamic_table() {
    let mut block = Vec::new();
    integer(0x40, 6, 0, &mut block);
    string(b":authority", false, &mut block);
    string(b"%2Fa", false, &mut block);
    integer(0x00, 4, 62, &mut block);
    string(b"%2Fb", false, &mut block);
    let mut input = PREFACE.to_vec();
    frame(FRAME_HEADERS, FLAG_END_HEADERS, &block, &mut input);
    let output = rewrite_in_pieces(&input, &[usize::MAX]);
    assert!(!output.contains(&b'%'));
    assert!(output.ends_with(b"-2Fb"));
}

#[test]
fn other_protocols_pass_untouched() {
    let http1 = b"GET %2F HTTP/1.1\r\nhost: %2Frun\r\n\r\n".to_vec();
    assert_eq!(rewrite_in_pieces(&http1, &[3]), http1);
    let almost = [&PREFACE[..23], b"%%%%%%%%%%%%%"].concat();
    assert_eq!(rewrite_in_pieces(&almost, &[1]), almost);
}

#[test]
fn a_header_block_of_any_length_keeps_memory_flat() {
    let mut rewriter = AuthorityRewriter::new();
    rewriter.process(&mut PREFACE.to_vec());
    // One field whose name claims 256 MiB, over frames that never end the block.
    let mut block = vec![0x40];
    integer(0x00, 7, 1 << 27, &mut block);
    block.resize(16 * 1024, b'%');
    let mut input = Vec::new();
    frame(FRAME_HEADERS, 0, &block, &mut input);
    let mut continuation = Vec::new();
    frame(FRAME_CONTINUATION, 0, &[b'%'; 16 * 1024], &mut continuation);
    rewriter.process(&mut input);
    for _ in 0..64 {
        let mut piece = continuation.clone();
        rewriter.process(&mut piece);
        assert_eq!(piece, continuation);
    }
}

#[tokio::test]
async fn the_filter_rewrites_reads_and_leaves_writes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut block = Vec::new();
    integer(0x00, 4, 1, &mut block);
    string(b"%2Frun", false, &mut block);
    let mut bytes = PREFACE.to_vec();
    frame(FRAME_HEADERS, FLAG_END_HEADERS, &block, &mut bytes);

    let (mut peer, ours) = tokio::io::duplex(7);
    let mut filter = AuthorityFilter::new(ours);
    let from_peer = bytes.clone();
    let (writing, reading) = tokio::join!(
        async {
            peer.write_all(&from_peer).await?;
            peer.shutdown().await
        },
        async {
            let mut received = b"%kept".to_vec();
            filter.read_to_end(&mut received).await.map(|_| received)
        }
    );
    writing.expect("the peer writes");
    let received = reading.expect("the filter reads");
    assert!(received.starts_with(b"%kept"));
    assert!(received.ends_with(b"-2Frun"));

    let (writing, reading) = tokio::join!(
        async {
            filter.write_all(&bytes).await?;
            filter.shutdown().await
        },
        async {
            let mut received = Vec::new();
            peer.read_to_end(&mut received).await.map(|_| received)
        }
    );
    writing.expect("the filter writes");
    assert_eq!(reading.expect("the peer reads"), bytes);
}

/// The server's own HPACK decoder reads what was rewritten, also where it was Huffman coded and
/// where a later request refers to the entry as a whole.
#[tokio::test]
async fn the_server_accepts_what_was_rewritten() {
    use tokio::io::AsyncWriteExt;

    let mut input = PREFACE.to_vec();
    frame(0x4, 0, &[], &mut input);
    // Settings concern the connection, stream 0.
    *input.last_mut().expect("a head") = 0;
    for (stream, huffman) in [(1, true), (3, false), (5, true)] {
        // POST, http, path /
        let mut block = vec![0x83, 0x86, 0x84];
        if stream == 5 {
            // The newest entry, sent before as a literal.
            block.push(0x80 | 62);
        } else {
            integer(0x40, 6, 1, &mut block);
            string(PATH_AUTHORITY.as_bytes(), huffman, &mut block);
        }
        let start = input.len();
        frame(FRAME_HEADERS, FLAG_END_HEADERS | 0x1, &block, &mut input);
        input[start + FRAME_HEAD_LENGTH - 1] = stream;
    }

    let (sender, mut authorities) = tokio::sync::mpsc::unbounded_channel();
    let service = hyper::service::service_fn(move |request: http::Request<_>| {
        let _: &hyper::body::Incoming = request.body();
        let sent = sender.send(request.uri().authority().map(ToString::to_string));
        async move {
            sent.map(|()| http::Response::new(String::new()))
                .map_err(|_| io::Error::other("nobody listens"))
        }
    });
    let (mut peer, ours) = tokio::io::duplex(64 * 1024);
    let io = hyper_util::rt::TokioIo::new(AuthorityFilter::new(ours));
    let serving = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .serve_connection(io, service);
    let receiving = async {
        peer.write_all(&input).await.expect("written");
        let mut received = Vec::new();
        for _ in 0..3 {
            received.extend(authorities.recv().await.expect("a request arrives"));
        }
        received
    };
    let received = tokio::select! {
        received = receiving => received,
        ended = serving => panic!("connection ended: {ended:?}"),
        () = tokio::time::sleep(std::time::Duration::from_secs(10)) => panic!("no requests"),
    };
    assert_eq!(
        received,
        [
            PATH_AUTHORITY.replace('%', "."),
            PATH_AUTHORITY.replace('%', "-"),
            PATH_AUTHORITY.replace('%', "-")
        ]
    );
}
