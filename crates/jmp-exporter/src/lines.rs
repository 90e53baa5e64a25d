//! Lines out of what a terminal shows.

/// Longest line of the log, in bytes; longer ones are logged in pieces.
const LINE_LIMIT: usize = 4096;

/// Cuts output into lines without their ends. Bytes that are no text become U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    line: Vec<u8>,
}

// === impl LineSplitter ===

impl LineSplitter {
    /// The lines that are complete now.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            // The end of a line has two bytes at most.
            while self.line.len() > LINE_LIMIT + 2 {
                lines.push(self.cut());
            }
            if self.line.last() == Some(&b'\n') {
                lines.push(self.take());
            }
        }
        lines
    }

    /// The line that has no end, if there is one.
    pub fn finish(&mut self) -> Option<String> {
        (!self.line.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.line);
        let last = line.iter().rposition(|byte| !b"\r\n".contains(byte));
        let end = last.map_or(0, |last| last + 1);
        String::from_utf8_lossy(&line[..end]).into_owned()
    }

    /// Takes a piece from the front of a line that is too long, not within a character.
    fn cut(&mut self) -> String {
        let is_inside = |at: usize| self.line[at] & 0xc0 == 0x80;
        let at = (LINE_LIMIT - 3..=LINE_LIMIT)
            .rev()
            .find(|at| !is_inside(*at))
            .unwrap_or(LINE_LIMIT);
        let rest = self.line.split_off(at);
        let piece = std::mem::replace(&mut self.line, rest);
        String::from_utf8_lossy(&piece).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_pieces() {
        let mut splitter = LineSplitter::default();
        assert_eq!(splitter.feed(b"one\r\ntw"), ["one"]);
        assert_eq!(splitter.feed(b"o\n\nthree"), ["two", ""]);
        assert_eq!(splitter.finish().as_deref(), Some("three"));
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = "€".repeat(10_000);
        let mut splitter = LineSplitter::default();
        let mut pieces = splitter.feed(text.as_bytes());
        pieces.extend(splitter.feed(b"\r\n"));
        assert!(pieces.iter().all(|piece| piece.len() <= LINE_LIMIT + 2));
        assert_eq!(pieces.concat(), text);
        assert_eq!(splitter.finish(), None);
    }
}
