//! Plays a script against a board with a fake clock.

use std::time::Duration;

use crate::board::{
    Board, BoardConfig, ImageOptions, Input, MuxSide, Output, StageKind, build_image,
};

/// No script needs more simulated time than this.
const LIMIT: Duration = Duration::from_secs(3600);

pub(super) struct Player {
    pub(super) board: Board,
    pub(super) now: Duration,
    /// Everything the console said.
    pub(super) console: Vec<u8>,
    pub(super) stages: Vec<StageKind>,
    /// How much of the transcript was matched already.
    matched: usize,
}

impl Player {
    pub(super) fn new(config: BoardConfig, medium: Vec<u8>) -> Self {
        Self::with_board(Board::new(config, Box::new(medium)).unwrap())
    }

    pub(super) fn with_board(board: Board) -> Self {
        Self {
            board,
            now: Duration::ZERO,
            console: Vec::new(),
            stages: Vec::new(),
            matched: 0,
        }
    }

    /// A board with a small image in it, connected and switched on.
    pub(super) fn started(config: BoardConfig) -> Self {
        Self::switched_on(config, small_image())
    }

    pub(super) fn switched_on(config: BoardConfig, medium: Vec<u8>) -> Self {
        let mut player = Self::new(config, medium);
        player.input(Input::Mux(MuxSide::Dut));
        player.input(Input::PowerOn);
        player
    }

    /// A board at the prompt of U-Boot.
    pub(super) fn at_uboot(config: BoardConfig, medium: Vec<u8>) -> Self {
        let mut player = Self::switched_on(config, medium);
        player.expect("stop autoboot").send(" ").expect("=> ");
        player
    }

    pub(super) fn input(&mut self, input: Input<'_>) -> &mut Self {
        for output in self.board.step(self.now, input) {
            match output {
                Output::Console(bytes) => self.console.extend(bytes),
                Output::Entered(stage) => self.stages.push(stage),
            }
        }
        self
    }

    pub(super) fn send(&mut self, text: &str) -> &mut Self {
        self.input(Input::Console(text.as_bytes()))
    }

    /// Sleeps from deadline to deadline until the console has said `text`.
    #[track_caller]
    pub(super) fn expect(&mut self, text: &str) -> &mut Self {
        loop {
            let rest = String::from_utf8_lossy(&self.console[self.matched..]).into_owned();
            if let Some(position) = rest.find(text) {
                self.matched += position + text.len();
                return self;
            }
            assert!(
                self.advance(),
                "{text:?} did not come:\n{}",
                self.transcript()
            );
        }
    }

    /// Sends a line to a shell or prompt and waits until it ends with `prompt`.
    #[track_caller]
    pub(super) fn run(&mut self, line: &str, prompt: &str) -> &mut Self {
        self.send(line).send("\r").expect(prompt)
    }

    /// Lives until nothing more happens by itself.
    pub(super) fn settle(&mut self) -> &mut Self {
        while self.advance() {}
        self
    }

    pub(super) fn wait(&mut self, time: Duration) -> &mut Self {
        let until = self.now + time;
        while self
            .board
            .next_deadline()
            .is_some_and(|deadline| deadline <= until)
            && self.advance()
        {}
        self.now = until;
        self.input(Input::Tick)
    }

    fn advance(&mut self) -> bool {
        let Some(deadline) = self.board.next_deadline() else {
            return false;
        };
        self.now = self.now.max(deadline);
        assert!(self.now < LIMIT, "no end in sight:\n{}", self.transcript());
        self.input(Input::Tick);
        true
    }

    /// What the console said, with control characters made visible.
    pub(super) fn transcript(&self) -> String {
        let text = String::from_utf8_lossy(&self.console).replace("\r\n", "\n");
        text.replace('\x08', "␈")
            .replace('\r', "␍")
            .replace('\x07', "␇")
            .trim_end_matches(' ')
            .to_owned()
    }
}

pub(super) fn image_options() -> ImageOptions {
    ImageOptions {
        version: "4.2".to_owned(),
        hostname: "demo".to_owned(),
        length: 64 << 10,
        ..Default::default()
    }
}

pub(super) fn small_image() -> Vec<u8> {
    build_image(&image_options()).unwrap()
}

pub(super) fn config() -> BoardConfig {
    BoardConfig::default()
}
