//! Editing a line on a serial console: echo, backspace, Ctrl-C, Ctrl-D, Ctrl-U.

use super::console::Console;

/// Longest line in bytes; more is answered with a bell, as a real console does.
pub(super) const MAXIMUM_LINE: usize = 1024;

const INTERRUPT: u8 = 0x03;
const END_OF_FILE: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const BELL: u8 = 0x07;
const KILL: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// One line being typed.
#[derive(Default)]
pub(super) struct LineEditor {
    line: Vec<u8>,
    silent: bool,
    after_carriage_return: bool,
    escape: Escape,
}

/// Where in an escape sequence (an arrow key, say) the input is: sequences are
/// swallowed whole instead of leaving `[A` on the line.
#[derive(Default, Clone, Copy, PartialEq)]
enum Escape {
    #[default]
    None,
    Started,
    Parameters,
}

/// What a byte amounted to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Pending,
    Line(String),
    Interrupt,
    /// Ctrl-D on an empty line.
    EndOfFile,
}

impl LineEditor {
    /// An editor that shows nothing, for passwords.
    pub(super) fn silent() -> Self {
        Self {
            silent: true,
            ..Self::default()
        }
    }

    /// Takes one byte and echoes what it does to the line.
    pub(super) fn feed(&mut self, byte: u8, console: &mut Console) -> Edit {
        let after_carriage_return = std::mem::take(&mut self.after_carriage_return);
        if self.swallow_escape(byte) {
            return Edit::Pending;
        }
        match byte {
            b'\n' if after_carriage_return => Edit::Pending,
            b'\r' | b'\n' => {
                self.after_carriage_return = byte == b'\r';
                console.raw(b"\r\n");
                let line = std::mem::take(&mut self.line);
                Edit::Line(String::from_utf8_lossy(&line).into_owned())
            }
            INTERRUPT => {
                self.line.clear();
                Edit::Interrupt
            }
            END_OF_FILE if self.line.is_empty() => Edit::EndOfFile,
            BACKSPACE | DELETE => {
                self.erase(console);
                Edit::Pending
            }
            KILL => {
                while self.erase(console) {}
                Edit::Pending
            }
            b' '..=b'~' | 0x80.. => {
                self.insert(byte, console);
                Edit::Pending
            }
            _ => Edit::Pending,
        }
    }

    fn swallow_escape(&mut self, byte: u8) -> bool {
        let before = self.escape;
        self.escape = match (before, byte) {
            (_, ESCAPE) => Escape::Started,
            (Escape::Started, b'[' | b'O') => Escape::Parameters,
            (Escape::Parameters, b'0'..=b'?') => Escape::Parameters,
            // A control byte ends a broken sequence and keeps its own meaning.
            (_, 0..b' ') => {
                self.escape = Escape::None;
                return false;
            }
            _ => Escape::None,
        };
        before != Escape::None || byte == ESCAPE
    }

    fn insert(&mut self, byte: u8, console: &mut Console) {
        if self.line.len() >= MAXIMUM_LINE {
            console.raw(&[BELL]);
            return;
        }
        self.line.push(byte);
        if !self.silent {
            console.raw(&[byte]);
        }
    }

    /// Removes the last character, with all bytes of its UTF-8 form.
    fn erase(&mut self, console: &mut Console) -> bool {
        let Some(mut byte) = self.line.pop() else {
            return false;
        };
        while byte & 0xC0 == 0x80 {
            match self.line.pop() {
                Some(previous) => byte = previous,
                None => break,
            }
        }
        if !self.silent {
            console.raw(b"\x08 \x08");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::console::Output;

    /// The edits that are not pending, and the echo.
    fn play(mut editor: LineEditor, bytes: &[u8]) -> (Vec<Edit>, String) {
        let mut console = Console::default();
        let edits = bytes
            .iter()
            .map(|&byte| editor.feed(byte, &mut console))
            .filter(|edit| *edit != Edit::Pending)
            .collect();
        let echo = console
            .into_outputs()
            .into_iter()
            .map(|output| match output {
                Output::Console(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Output::Entered(_) => String::new(),
            });
        (edits, echo.collect())
    }

    fn line(text: &str) -> Edit {
        Edit::Line(text.to_owned())
    }

    #[test]
    fn lines_end_with_any_convention_once() {
        let (edits, echo) = play(LineEditor::default(), b"a\rb\nc\r\n\r\r\n");
        assert_eq!(edits, [line("a"), line("b"), line("c"), line(""), line("")]);
        assert_eq!(echo, "a\r\nb\r\nc\r\n\r\n\r\n");
    }

    #[test]
    fn backspace_and_kill_erase_whole_characters() {
        let (edits, echo) = play(LineEditor::default(), "aä\x08\x7f\x08x\x15ok\r".as_bytes());
        assert_eq!(edits, [line("ok")]);
        assert_eq!(echo, "aä\x08 \x08\x08 \x08x\x08 \x08ok\r\n");
    }

    #[test]
    fn control_keys_and_arrow_keys() {
        let (edits, echo) = play(
            LineEditor::default(),
            b"ab\x03\x04x\x04\x1b[A\x1b[1;5C\x1bOPy\x1b[\r",
        );
        assert_eq!(edits, [Edit::Interrupt, Edit::EndOfFile, line("xy")]);
        assert_eq!(echo, "abxy\r\n");
    }

    #[test]
    fn passwords_are_not_echoed_and_lines_are_bounded() {
        assert_eq!(
            play(LineEditor::silent(), b"secret\x08T\r"),
            (vec![line("secreT")], "\r\n".to_owned())
        );
        let long = [b'x'; MAXIMUM_LINE + 3];
        let (_, echo) = play(LineEditor::default(), &long);
        assert!(echo.ends_with("x\x07\x07\x07"));
    }
}
