//! What a step sends out.

use super::stage::StageKind;

/// Something that happened on the board, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes on the serial console.
    Console(Vec<u8>),
    /// The board entered a stage: for logs, nothing that a real board tells.
    Entered(StageKind),
}

/// Collects the outputs of one step.
#[derive(Default)]
pub(super) struct Console {
    outputs: Vec<Output>,
    bytes: usize,
}

impl Console {
    /// Sends bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        if let Some(Output::Console(last)) = self.outputs.last_mut() {
            last.extend_from_slice(bytes);
        } else {
            self.outputs.push(Output::Console(bytes.to_vec()));
        }
    }

    /// Sends text, each line feed as carriage return and line feed.
    pub(super) fn text(&mut self, text: &str) {
        self.raw(text.replace('\n', "\r\n").as_bytes());
    }

    /// Sends text and ends the line.
    pub(super) fn line(&mut self, text: &str) {
        self.text(text);
        self.raw(b"\r\n");
    }

    pub(super) fn entered(&mut self, stage: StageKind) {
        self.outputs.push(Output::Entered(stage));
    }

    /// How many console bytes were collected.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn into_outputs(self) -> Vec<Output> {
        self.outputs
    }
}
