//! The last part of a conversation, for people.

use std::collections::VecDeque;
use std::fmt::Write;

/// Bytes of output kept.
const LIMIT: usize = 64 * 1024;
/// Lines shown with an error.
const LINES: usize = 20;
/// Characters of a line shown with an error.
const WIDTH: usize = 200;

/// Keeps the end of what a console has shown.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    bytes: VecDeque<u8>,
}

// === impl Transcript ===

impl Transcript {
    pub(super) fn push(&mut self, data: &[u8]) {
        let kept = &data[data.len().saturating_sub(LIMIT)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(LIMIT);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().copied().collect()
    }

    /// The last lines, one marked line each, control characters made visible.
    pub(super) fn last_lines(&self) -> String {
        let bytes = self.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let lines: Vec<&str> = text.split('\n').collect();
        let mut shown = String::new();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let mut visible: String = line.chars().take(WIDTH).map(visible).collect();
            if line.chars().count() > WIDTH {
                visible.push('…');
            }
            let _ = write!(shown, "\n  | {visible}");
        }
        shown
    }
}

/// Control characters as Unicode's pictures of them, so that no terminal obeys them.
fn visible(character: char) -> char {
    match character {
        '\0'..='\x1f' => char::from_u32(0x2400 + character as u32).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        character if character.is_control() => '\u{fffd}',
        character => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_and_obey_nobody() {
        let mut transcript = Transcript::default();
        for number in 0..30 {
            transcript.push(format!("line {number}\r\n").as_bytes());
        }
        transcript.push(b"\x1b[31mred\x7f\xff");
        let shown = transcript.last_lines();
        assert_eq!(shown.lines().filter(|line| !line.is_empty()).count(), LINES);
        assert!(
            shown.contains("\n  | line 29\n  | ␛[31mred␡\u{fffd}"),
            "{shown}"
        );
    }

    #[test]
    fn the_transcript_is_bounded() {
        let mut transcript = Transcript::default();
        for _ in 0..3 {
            transcript.push(&vec![b'x'; LIMIT - 1]);
        }
        transcript.push(b"end");
        assert_eq!(transcript.bytes().len(), LIMIT);
        assert!(transcript.bytes().ends_with(b"xend"));
    }
}
