//! The HPACK Huffman code (RFC 7541, appendix B), read bit by bit and rewritten without decoding.
//!
//! A rewritten value must keep its length in bits, and a bit that has been handed on cannot be taken
//! back when the rest of a code arrives later. Both hold for the bytes that occur in escaped paths:
//!
//! | byte | code | written | byte | decided by |
//! |---|---|---|---|---|
//! | space | `010100` | `010110` | `-` | fifth bit, after `0101` |
//! | `%` | `010101` | `010111` | `.` | fifth bit, after `0101` |
//! | `/` | `011000` | `011001` | `3` | sixth bit, after `01100` |
//!
//! No other code begins with `01010`, and the only other code after `01100` is `3` itself, so each
//! decision needs only bits already seen. Other refused bytes have no partner that could be chosen
//! this way; no client escapes a path with them, so they are left for the server to refuse.

use std::sync::LazyLock;

use super::hpack::Malformed;

/// The end-of-string code, which must not appear inside a string.
const END_OF_STRING: u16 = 256;
const LONGEST_CODE: usize = 30;

/// Bits in the code of each byte, then of the end of string. The code is canonical: codes of one
/// length are consecutive in byte order, so lengths alone define it.
#[rustfmt::skip]
const CODE_LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Canonical decoding tables: for each code length the first code, and where its symbols begin.
struct Tables {
    first_code: [u32; LONGEST_CODE + 1],
    count: [u32; LONGEST_CODE + 1],
    offset: [usize; LONGEST_CODE + 1],
    symbols: Vec<u16>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = Tables {
        first_code: [0; LONGEST_CODE + 1],
        count: [0; LONGEST_CODE + 1],
        offset: [0; LONGEST_CODE + 1],
        symbols: Vec::with_capacity(CODE_LENGTHS.len()),
    };
    let mut code = 0;
    for length in 1..=LONGEST_CODE {
        code <<= 1;
        tables.first_code[length] = code;
        tables.offset[length] = tables.symbols.len();
        for (symbol, _) in (0u16..)
            .zip(CODE_LENGTHS)
            .filter(|&(_, bits)| usize::from(bits) == length)
        {
            tables.symbols.push(symbol);
            tables.count[length] += 1;
            code += 1;
        }
    }
    tables
});

/// Reads one Huffman-coded string; a code may straddle pieces of input.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HuffmanReader {
    code: u32,
    length: usize,
}

// === impl HuffmanReader ===

impl HuffmanReader {
    /// Reads the bits of `bytes` and reports each symbol that completes.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        mut symbol: impl FnMut(u8),
    ) -> Result<(), Malformed> {
        for &byte in bytes {
            for shift in (0..8).rev() {
                if let Some(complete) = self.push(byte >> shift & 1)? {
                    symbol(complete);
                }
            }
        }
        Ok(())
    }

    /// As [`read`](Self::read), and replaces codes of refused bytes (see the module head). The
    /// symbols themselves are only counted.
    pub(super) fn rewrite(&mut self, bytes: &mut [u8]) -> Result<u64, Malformed> {
        let mut symbols = 0;
        for byte in bytes {
            for shift in (0..8).rev() {
                let complete = self.push(*byte >> shift & 1)?;
                let space_or_percent = self.length == 5 && self.code == 0b01010;
                // `push` forgets a code once it is complete.
                if space_or_percent || complete == Some(b'/') {
                    *byte |= 1 << shift;
                }
                symbols += u64::from(complete.is_some());
            }
        }
        Ok(symbols)
    }

    fn push(&mut self, bit: u8) -> Result<Option<u8>, Malformed> {
        let tables = &*TABLES;
        self.code = self.code << 1 | u32::from(bit);
        self.length += 1;
        let index = self.code.wrapping_sub(tables.first_code[self.length]);
        if index < tables.count[self.length] {
            let symbol = tables.symbols[tables.offset[self.length] + index as usize];
            *self = Self::default();
            return match u8::try_from(symbol) {
                Ok(byte) => Ok(Some(byte)),
                Err(_) => {
                    debug_assert_eq!(symbol, END_OF_STRING);
                    Err(Malformed("end of string inside a Huffman-coded string"))
                }
            };
        }
        // The code is complete, so thirty bits always end in a symbol.
        debug_assert!(self.length < LONGEST_CODE);
        Ok(None)
    }
}

/// Encodes `text`, for tests that play the client.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut bits = Vec::new();
    for &byte in text {
        let length = usize::from(CODE_LENGTHS[usize::from(byte)]);
        let place = TABLES.symbols[TABLES.offset[length]..]
            .iter()
            .position(|&symbol| symbol == u16::from(byte))
            .expect("every byte has a code") as u32;
        let code = TABLES.first_code[length] + place;
        bits.extend((0..length).rev().map(|shift| (code >> shift & 1) as u8));
    }
    while bits.len() % 8 != 0 {
        bits.push(1);
    }
    bits.chunks(8)
        .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit))
        .collect()
}

/// Decodes to text, for tests that play the server.
#[cfg(test)]
pub(super) fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    HuffmanReader::default()
        .read(bytes, |symbol| text.push(symbol))
        .expect("well-formed Huffman string");
    text
}
