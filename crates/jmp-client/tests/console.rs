//! The console helper over streams in memory.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_client::ByteStream;
use jmp_client::console::{Console, ConsoleError, Match, Pattern};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(5);

fn board() -> (Console, ByteStream) {
    let (near, far) = ByteStream::pair(64);
    (Console::new(near), far)
}

async fn say(board: &mut ByteStream, text: impl Into<Bytes>) {
    board.writer.send(text.into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_login_is_a_conversation() {
    let (mut console, mut board) = board();
    let playing = async {
        for (answer, prompt) in [
            ("", "login: "),
            ("root\n", "Pass"),
            ("", "word: "),
            ("pw\n", "# "),
        ] {
            if !answer.is_empty() {
                assert_eq!(board.reader.next().await.unwrap().unwrap(), answer);
            }
            say(&mut board, prompt).await;
        }
    };
    let talking = async {
        console.expect("login: ", PATIENCE).await.unwrap();
        console.send_line("root").await.unwrap();
        console.expect("Password: ", PATIENCE).await.unwrap();
        console.send_line("pw").await.unwrap();
        console.expect("# ", PATIENCE).await.unwrap();
    };
    tokio::join!(playing, talking);
    assert_eq!(console.transcript(), b"login: Password: # ");
    assert!(console.pending().is_empty());
}

#[tokio::test(start_paused = true)]
async fn groups_before_and_rest_of_a_match() {
    let (mut console, mut board) = board();
    say(&mut board, "boot ok\r\nvoltage 4950 mV\r\n> ").await;
    let pattern = Pattern::regex(r"(\d+) (m)?(u)?V").unwrap();
    let found = console.expect(pattern, PATIENCE).await.unwrap();
    assert_eq!(found.before_text(), "boot ok\r\nvoltage ");
    assert_eq!(found.text(), "4950 mV");
    assert_eq!(found.group(1).as_deref(), Some("4950"));
    assert_eq!(
        (found.group(3), found.group(0), found.group(9)),
        (None, None, None)
    );
    assert_eq!(console.pending(), b"\r\n> ");
    let stream = console.into_stream();
    drop(board);
    let rest: Vec<_> = stream.reader.map(Result::unwrap).collect().await;
    assert_eq!(rest, ["\r\n> "]);
}

#[tokio::test(start_paused = true)]
async fn the_pattern_that_comes_first_wins() {
    let (mut console, mut board) = board();
    say(&mut board, "PANIC then login: ").await;
    let patterns = [
        "login: ".into(),
        "PANIC".into(),
        Pattern::regex("PAN").unwrap(),
    ];
    let (index, found) = console.expect_any(&patterns, PATIENCE).await.unwrap();
    assert_eq!((index, found.matched), (1, "PANIC".into()));
}

#[tokio::test(start_paused = true)]
async fn failures_show_the_last_lines() {
    let (mut console, mut board) = board();
    say(&mut board, "first\r\n\x1b[1mU-Boot\x07> ").await;
    let error = console
        .expect("login", Duration::from_secs(2))
        .await
        .unwrap_err();
    assert!(matches!(error, ConsoleError::Timeout { .. }));
    assert_eq!(
        error.to_string(),
        "waited 2s for \"login\", which the console did not show; its last lines are\n  | first\n  \
         | ␛[1mU-Boot␇> "
    );
    // What was shown may still be expected.
    console.expect("U-Boot", PATIENCE).await.unwrap();
    drop(board);
    let patterns = [Pattern::from("a\n"), Pattern::regex("b+").unwrap()];
    let error = console.expect_any(&patterns, PATIENCE).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("the console ended before it showed \"a\\n\" or /b+/; "),
        "{text}"
    );
    let error = console.send_line("x").await.unwrap_err();
    assert!(matches!(error, ConsoleError::Lost { .. }));
}

#[tokio::test(start_paused = true)]
async fn quiet_is_waited_for() {
    let (mut console, mut board) = board();
    let chattering = async {
        for _ in 0..5 {
            say(&mut board, "tick ").await;
            tokio::time::sleep(Duration::from_millis(80)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let quiet = Duration::from_millis(100);
    let (_, output) = tokio::join!(chattering, console.wait_for_quiet(quiet, PATIENCE));
    assert_eq!(output.unwrap(), "tick tick tick tick tick ");
    let endless = async {
        loop {
            say(&mut board, ".").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = endless => {}
        waited = console.wait_for_quiet(quiet, Duration::from_secs(1)) => {
            assert!(waited.unwrap_err().to_string().starts_with("waited 1s for 100ms of silence"));
        }
    }
}

#[tokio::test]
async fn a_person_takes_over_and_hands_back() {
    let (mut console, mut board) = board();
    say(&mut board, "prompt> rest").await;
    console.expect("prompt>", PATIENCE).await.unwrap();
    let (mut keyboard, input) = tokio::io::duplex(64);
    let (mut screen, output) = tokio::io::duplex(64);
    let playing = async {
        let mut shown = [0; 5];
        screen.read_exact(&mut shown).await.unwrap();
        assert_eq!(&shown, b" rest");
        keyboard.write_all(b"ls").await.unwrap();
        assert_eq!(board.reader.next().await.unwrap().unwrap(), "ls");
        say(&mut board, "files").await;
        screen.read_exact(&mut shown).await.unwrap();
        assert_eq!(&shown, b"files");
        drop(keyboard);
    };
    let (_, ended) = tokio::join!(playing, console.interact(input, output));
    ended.unwrap();
    say(&mut board, "done").await;
    console.expect("done", PATIENCE).await.unwrap();
}

#[tokio::test]
async fn an_endless_stream_fills_no_memory() {
    let endless = futures::stream::repeat_with(|| Ok(Bytes::from(vec![b'x'; 60_000])));
    let stream = ByteStream::new(endless.take(100), ByteStream::echo(1).writer);
    let mut console = Console::new(stream);
    let ended = console.expect("never", PATIENCE).await;
    assert!(matches!(ended, Err(ConsoleError::Ended { .. })));
    assert_eq!(console.pending().len(), 256 * 1024);
}

proptest! {
    /// However the output is cut, the same is found.
    #[test]
    fn chunks_do_not_matter(
        text in "[ab>]{0,40}",
        cuts in proptest::collection::vec(1..7_usize, 40),
        literal in "[ab>]{1,4}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut console, mut board) = board();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                say(&mut board, Bytes::copy_from_slice(chunk)).await;
                rest = after;
            }
            drop(board);
            let found = console.expect(literal.as_str(), PATIENCE).await.ok();
            let expected = text.find(&literal).map(|start| Match {
                before: Bytes::copy_from_slice(&text.as_bytes()[..start]),
                matched: Bytes::copy_from_slice(literal.as_bytes()),
                groups: Vec::new(),
            });
            assert_eq!(found, expected);
        });
    }
}
