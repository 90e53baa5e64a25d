//! Text out of bytes that arrive in pieces.

/// Turns pieces of a byte stream into text; a character that is cut in two waits for its rest.
/// Bytes that cannot be text become U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Utf8Decoder {
    /// The beginning of a character, at most three bytes.
    pending: Vec<u8>,
}

// === impl Utf8Decoder ===

impl Utf8Decoder {
    /// The text of what came before and of `bytes`, as far as it is complete.
    pub fn feed(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let complete = complete_length(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..complete]).into_owned();
        self.pending.drain(..complete);
        text
    }

    /// What is left when nothing more comes.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// Length without the beginning of a character at the end.
fn complete_length(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    match last.map(|chunk| chunk.invalid()) {
        // The standard library's own word for "cut off": the error has no length.
        Some(rest) if !rest.is_empty() && is_cut_off(rest) => bytes.len() - rest.len(),
        _ => bytes.len(),
    }
}

fn is_cut_off(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_survive_every_cut() {
        let text = "a ü € 🦀 z";
        for cut in 0..=text.len() {
            let mut decoder = Utf8Decoder::default();
            let (left, right) = text.as_bytes().split_at(cut);
            let joined = decoder.feed(left) + &decoder.feed(right) + &decoder.finish();
            assert_eq!(joined, text, "cut at {cut}");
        }
        let mut decoder = Utf8Decoder::default();
        let bytewise: String = text
            .bytes()
            .map(|byte| decoder.feed(&[byte]))
            .collect::<Vec<_>>()
            .concat();
        assert_eq!(bytewise, text);
    }

    #[test]
    fn only_what_is_invalid_is_replaced() {
        let mut decoder = Utf8Decoder::default();
        assert_eq!(decoder.feed(b"a\xffb\xc3"), "a\u{fffd}b");
        assert_eq!(decoder.feed(b"x"), "\u{fffd}x");
        assert_eq!(decoder.feed("€".as_bytes().split_at(2).0), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
    }
}
