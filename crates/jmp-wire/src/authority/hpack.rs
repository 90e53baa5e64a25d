//! Walks HPACK header blocks (RFC 7541) just closely enough to know which bytes are the value of
//! `:authority`.
//!
//! A literal may take its name from an entry of the dynamic table, so the walker keeps a shadow of
//! the peer's table. The shadow holds no text: per entry the size, the length of the name and
//! whether the name is `:authority`. Entries that are used as a whole need no work, because their
//! value was rewritten when it was first sent.
//!
//! The table starts at the 4096 bytes of the standard. Any other size has to be announced inside
//! the header blocks themselves, so the server's settings need not be known here.

use std::collections::VecDeque;

use super::huffman::HuffmanReader;

/// Why walking stopped; the text is for logs.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) &'static str);

const AUTHORITY: &[u8] = b":authority";
const ENTRY_OVERHEAD: u64 = 32;
const DEFAULT_TABLE_SIZE: u64 = 4096;
/// No server of ours allows its clients more; bounds the memory of the shadow.
const LARGEST_TABLE_SIZE: u64 = 64 * 1024;

/// Lengths of the names of the static table, by index; the name at index 1 is `:authority`.
#[rustfmt::skip]
const STATIC_NAME_LENGTHS: [u8; 62] = [
    0, 10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, // accept-charset is 15
    15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, // content-type is 31
    6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, // max-forwards is 47
    18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16, // www-authenticate is 61
];
const STATIC_AUTHORITY: u32 = 1;

/// Walks the header blocks of one connection, block after block.
#[derive(Debug)]
pub(super) struct BlockWalker {
    step: Step,
    field: Field,
    table: ShadowTable,
}

/// What the next byte of the block belongs to.
#[derive(Debug, Clone, Copy)]
enum Step {
    Representation,
    Number(Purpose, Integer),
    NameHead,
    Name { left: u32 },
    ValueHead,
    Value { left: u32 },
}

/// What an integer means once it is complete.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    IndexedField,
    TableSize,
    NameIndex,
    NameLength,
    ValueLength,
}

/// An HPACK integer under construction.
#[derive(Debug, Clone, Copy)]
struct Integer {
    value: u32,
    shift: u8,
}

/// The literal field being read.
#[derive(Debug, Default)]
struct Field {
    /// The peer adds this field to its dynamic table.
    insert: bool,
    authority: bool,
    name: NameMatch,
    name_length: u64,
    value_length: u64,
    /// State of the string being read, when it is Huffman coded.
    huffman: Option<HuffmanReader>,
    rule: AuthorityRule,
}

// === impl BlockWalker ===

impl BlockWalker {
    pub(super) fn new() -> Self {
        Self {
            step: Step::Representation,
            field: Field::default(),
            table: ShadowTable::default(),
        }
    }

    /// Walks the next bytes of the current header block.
    pub(super) fn process(&mut self, mut bytes: &mut [u8]) -> Result<(), Malformed> {
        while let [first, ..] = bytes {
            let used = match self.step {
                Step::Name { left } => {
                    let used = super::shorter(left, bytes.len());
                    self.field.read_name(&bytes[..used])?;
                    self.enter_name(left - used as u32);
                    used
                }
                Step::Value { left } => {
                    let used = super::shorter(left, bytes.len());
                    self.field.read_value(&mut bytes[..used])?;
                    self.enter_value(left - used as u32);
                    used
                }
                _ => {
                    let byte = *first;
                    self.byte(byte)?;
                    1
                }
            };
            bytes = &mut bytes[used..];
        }
        Ok(())
    }

    /// The block is complete.
    pub(super) fn end_block(&mut self) -> Result<(), Malformed> {
        match self.step {
            Step::Representation => Ok(()),
            _ => Err(Malformed("header block ends inside a field")),
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), Malformed> {
        match self.step {
            Step::Representation => self.representation(byte),
            Step::Number(purpose, mut integer) => match integer.push(byte)? {
                Some(value) => self.number(purpose, value),
                None => {
                    self.step = Step::Number(purpose, integer);
                    Ok(())
                }
            },
            Step::NameHead => self.string_head(Purpose::NameLength, byte),
            Step::ValueHead => self.string_head(Purpose::ValueLength, byte),
            Step::Name { .. } | Step::Value { .. } => {
                Err(Malformed("string bytes are handled in runs"))
            }
        }
    }

    fn representation(&mut self, byte: u8) -> Result<(), Malformed> {
        self.field = Field::default();
        let (purpose, prefix) = match byte {
            0x80.. => (Purpose::IndexedField, 7),
            0x40..=0x7f => {
                self.field.insert = true;
                (Purpose::NameIndex, 6)
            }
            0x20..=0x3f => (Purpose::TableSize, 5),
            // Never indexed and not indexed differ only for intermediaries.
            0x00..=0x1f => (Purpose::NameIndex, 4),
        };
        self.prefix(purpose, byte, prefix)
    }

    fn string_head(&mut self, purpose: Purpose, byte: u8) -> Result<(), Malformed> {
        self.field.huffman = (byte & 0x80 != 0).then(HuffmanReader::default);
        self.prefix(purpose, byte, 7)
    }

    fn prefix(&mut self, purpose: Purpose, byte: u8, bits: u32) -> Result<(), Malformed> {
        let largest = (1u8 << bits) - 1;
        let value = byte & largest;
        if value < largest {
            return self.number(purpose, u32::from(value));
        }
        let integer = Integer {
            value: u32::from(value),
            shift: 0,
        };
        self.step = Step::Number(purpose, integer);
        Ok(())
    }

    fn number(&mut self, purpose: Purpose, value: u32) -> Result<(), Malformed> {
        match purpose {
            Purpose::IndexedField => self.step = Step::Representation,
            Purpose::TableSize => {
                self.table.resize(u64::from(value))?;
                self.step = Step::Representation;
            }
            Purpose::NameIndex if value == 0 => self.step = Step::NameHead,
            Purpose::NameIndex => {
                let name = self.table.name(value)?;
                self.field.authority = name.authority;
                self.field.name_length = name.length;
                self.step = Step::ValueHead;
            }
            Purpose::NameLength => self.enter_name(value),
            Purpose::ValueLength => self.enter_value(value),
        }
        Ok(())
    }

    fn enter_name(&mut self, left: u32) {
        if left > 0 {
            self.step = Step::Name { left };
        } else {
            self.field.authority = self.field.name.is_authority();
            self.step = Step::ValueHead;
        }
    }

    fn enter_value(&mut self, left: u32) {
        if left > 0 {
            self.step = Step::Value { left };
            return;
        }
        if self.field.insert {
            self.table.insert(Entry {
                name: Name {
                    authority: self.field.authority,
                    length: self.field.name_length,
                },
                size: self.field.name_length + self.field.value_length + ENTRY_OVERHEAD,
            });
        }
        self.step = Step::Representation;
    }
}

// === impl Field ===

impl Field {
    fn read_name(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (name, length) = (&mut self.name, &mut self.name_length);
        let mut push = |byte| {
            name.push(byte);
            *length += 1;
        };
        match &mut self.huffman {
            Some(reader) => reader.read(bytes, push),
            None => {
                bytes.iter().for_each(|&byte| push(byte));
                Ok(())
            }
        }
    }

    fn read_value(&mut self, bytes: &mut [u8]) -> Result<(), Malformed> {
        self.value_length += match &mut self.huffman {
            Some(reader) if self.authority => reader.rewrite(bytes)?,
            Some(reader) if self.insert => {
                let mut symbols = 0;
                reader.read(bytes, |_| symbols += 1)?;
                symbols
            }
            // Neither the text nor its decoded length matters.
            Some(_) => 0,
            None => {
                if self.authority {
                    for byte in bytes.iter_mut() {
                        *byte = self.rule.apply(*byte);
                    }
                }
                bytes.len() as u64
            }
        };
        Ok(())
    }
}

// === impl Integer ===

impl Integer {
    fn push(&mut self, byte: u8) -> Result<Option<u32>, Malformed> {
        const TOO_LARGE: Malformed = Malformed("integer too large");
        // Four continuation bytes reach 2^28, more than any server accepts.
        if self.shift > 21 {
            return Err(TOO_LARGE);
        }
        self.value += u32::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

/// Compares a name with `:authority` as it arrives.
#[derive(Debug, Default)]
struct NameMatch {
    matched: usize,
    differs: bool,
}

// === impl NameMatch ===

impl NameMatch {
    fn push(&mut self, byte: u8) {
        if AUTHORITY.get(self.matched) == Some(&byte) {
            self.matched += 1;
        } else {
            self.differs = true;
        }
    }

    fn is_authority(&self) -> bool {
        !self.differs && self.matched == AUTHORITY.len()
    }
}

/// Decides byte by byte what an authority may keep; mirrors what the `http` crate accepts.
///
/// After a `%` the value is an escaped path rather than `host:port`, so the characters with a
/// meaning in an authority lose it too: C-core leaves `:`, `@`, `[` and `]` of a path unescaped. A
/// second `:` cannot begin a port, even before any `%`.
/// Inside the brackets of an IPv6 address a `%` introduces the zone and stays.
#[derive(Debug, Default)]
struct AuthorityRule {
    inside_host: bool,
    in_brackets: bool,
    port_begun: bool,
    escaped: bool,
}

// === impl AuthorityRule ===

impl AuthorityRule {
    fn apply(&mut self, byte: u8) -> u8 {
        let host_start = !std::mem::replace(&mut self.inside_host, true);
        match byte {
            b'[' if host_start => self.in_brackets = true,
            b']' if self.in_brackets => self.in_brackets = false,
            b'%' if self.in_brackets => {}
            b'%' => {
                self.escaped = true;
                return b'-';
            }
            b':' | b'@' if self.in_brackets => {}
            b':' | b'@' if self.escaped => return b'-',
            b':' if self.port_begun => return b'-',
            b':' => self.port_begun = true,
            // What came before was a user, not a host.
            b'@' => *self = Self::default(),
            b'[' | b']' => return b'-',
            byte if is_authority_byte(byte) => {}
            _ => return b'-',
        }
        byte
    }
}

fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$&'()*+,-.:;=_~".contains(&byte)
}

/// The peer's dynamic table without its text.
#[derive(Debug)]
struct ShadowTable {
    /// Newest first.
    entries: VecDeque<Entry>,
    size: u64,
    limit: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: Name,
    /// Size by the standard's arithmetic: decoded name, decoded value and 32.
    size: u64,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    authority: bool,
    length: u64,
}

// === impl ShadowTable ===

impl Default for ShadowTable {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit: DEFAULT_TABLE_SIZE,
        }
    }
}

impl ShadowTable {
    /// The name at `index`, which is not zero.
    fn name(&self, index: u32) -> Result<Name, Malformed> {
        let index = index as usize;
        if let Some(&length) = STATIC_NAME_LENGTHS.get(index) {
            return Ok(Name {
                authority: index == STATIC_AUTHORITY as usize,
                length: u64::from(length),
            });
        }
        let entry = self.entries.get(index - STATIC_NAME_LENGTHS.len());
        entry
            .map(|entry| entry.name)
            .ok_or(Malformed("index beyond the dynamic table"))
    }

    fn insert(&mut self, entry: Entry) {
        self.evict_to(self.limit.saturating_sub(entry.size));
        if entry.size <= self.limit {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    fn resize(&mut self, limit: u64) -> Result<(), Malformed> {
        if limit > LARGEST_TABLE_SIZE {
            return Err(Malformed("dynamic table larger than any server allows"));
        }
        self.limit = limit;
        self.evict_to(limit);
        Ok(())
    }

    fn evict_to(&mut self, size: u64) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else {
                break;
            };
            self.size -= oldest.size;
        }
    }
}
