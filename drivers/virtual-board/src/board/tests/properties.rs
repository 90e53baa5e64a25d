//! What holds for every input at every time.

use std::time::Duration;

use proptest::prelude::*;

use super::player::{Player, config, small_image};
use crate::board::{Board, BoardConfig, FaultsConfig, Input, MAXIMUM_STEP_OUTPUT, MuxSide, Output};

#[derive(Debug, Clone)]
enum Event {
    Power(bool),
    Type(Vec<u8>),
    Mux(MuxSide),
    Tick,
    /// Sleeps until the deadline instead of for the given time.
    Deadline,
    Reset,
}

fn typed() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "root\r",
        "boot\r",
        "reset\r",
        "reboot\r",
        "poweroff\r",
        "help\r",
        "dmesg\r",
        "printenv;printenv;printenv\r",
        "setenv bootcmd 'reset'; setenv bootdelay -2; saveenv\r",
        "setenv a 'run a; run a'; run a\r",
        "sleep 1; ls\r",
        "hash sha256 mmc; boot\r",
        "sha256sum /dev/mmcblk0\r",
        "echo $bootcmd ${x} \"$?\"\r",
        "\x03",
        " ",
        "\x15",
        "\x04",
        "\x1b[A",
        "setenv bootdelay 0\r",
        "echo 'ä\x08\x7f\r",
    ]);
    prop_oneof![
        4 => line.prop_map(|line| line.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
        1 => (prop::sample::select(vec!["help\r", "printenv\r", "dmesg\r", "x"]), 1..2000usize)
            .prop_map(|(text, count)| text.repeat(count).into_bytes()),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => prop::bool::weighted(0.8).prop_map(Event::Power),
        6 => typed().prop_map(Event::Type),
        2 => prop::sample::select(vec![MuxSide::Host, MuxSide::Dut, MuxSide::Dut, MuxSide::Off]).prop_map(Event::Mux),
        2 => Just(Event::Tick),
        8 => Just(Event::Deadline),
        1 => Just(Event::Reset),
    ]
}

/// Times that go on by a little, by a lot, not at all, and to the very end.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        6 => (0..2000u64).prop_map(Duration::from_millis),
        2 => (0..100_000u64).prop_map(Duration::from_secs),
        1 => Just(Duration::ZERO),
        1 => Just(Duration::MAX),
    ]
}

fn any_config() -> impl Strategy<Value = BoardConfig> {
    let probability = || prop_oneof![3 => Just(0.0), 1 => 0.0..=1.0f64];
    (
        any::<u64>(),
        probability(),
        probability(),
        -2..4i32,
        prop::sample::select(vec![0.01, 1.0, 1e6]),
    )
        .prop_map(
            |(seed, does_not_boot, garbles_serial, autoboot_seconds, speed)| BoardConfig {
                speed,
                autoboot_seconds,
                faults: FaultsConfig {
                    seed,
                    does_not_boot,
                    garbles_serial,
                    flash_fails: 0.5,
                },
                ..config()
            },
        )
}

fn image() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(small_image()),
        1 => Just(Vec::new()),
        1 => (0..65536usize).prop_map(|offset| {
            let mut image = small_image();
            image[offset] ^= 0x20;
            image
        }),
        1 => (0..65536usize).prop_map(|length| small_image()[..length].to_vec()),
    ]
}

/// A script that starts cold, at U-Boot's prompt or in the shell: by chance
/// alone hardly any would get that far.
fn script() -> impl Strategy<Value = Vec<(Duration, Event)>> {
    let long = Duration::from_secs(100_000);
    let on = vec![
        (Duration::ZERO, Event::Mux(MuxSide::Dut)),
        (Duration::ZERO, Event::Power(true)),
    ];
    let mut uboot = on.clone();
    uboot.extend(vec![
        (Duration::ZERO, Event::Type(b"  ".to_vec())),
        (long, Event::Tick),
    ]);
    let mut shell = on;
    shell.extend(vec![(long, Event::Tick); 4]);
    shell.push((Duration::ZERO, Event::Type(b"root\r".to_vec())));
    let start = prop::sample::select(vec![Vec::new(), uboot, shell]);
    (start, prop::collection::vec((pause(), event()), 0..60)).prop_map(|(mut script, rest)| {
        script.extend(rest);
        script
    })
}

fn play(board: &mut Board, script: &[(Duration, Event)]) -> Result<Vec<Output>, TestCaseError> {
    let mut now = Duration::ZERO;
    let mut transcript = Vec::new();
    for (pause, event) in script {
        now = match (event, board.next_deadline()) {
            (Event::Deadline, Some(deadline)) => now.max(deadline),
            (Event::Deadline, None) => now,
            _ => now.saturating_add(*pause),
        };
        let input = match event {
            Event::Power(true) => Input::PowerOn,
            Event::Power(false) => Input::PowerOff,
            Event::Type(bytes) => Input::Console(bytes),
            Event::Mux(side) => Input::Mux(*side),
            Event::Tick | Event::Deadline => Input::Tick,
            Event::Reset => {
                board.reset();
                Input::Tick
            }
        };
        let outputs = board.step(now, input);
        let bytes: usize = outputs
            .iter()
            .map(|output| match output {
                Output::Console(bytes) => bytes.len(),
                Output::Entered(_) => 0,
            })
            .sum();
        prop_assert!(bytes <= MAXIMUM_STEP_OUTPUT, "{bytes} bytes in one step");
        prop_assert!(
            outputs.len() < 10_000,
            "{} outputs in one step",
            outputs.len()
        );
        // One side at a time, whatever happened.
        let host = board.read_storage(0, &mut [0; 16]).is_ok();
        prop_assert_eq!(host, board.mux() == MuxSide::Host);
        let measured = board.measure(now);
        prop_assert!(measured.volts.is_finite() && measured.amps.is_finite());
        prop_assert_eq!(measured.amps > 0.0, board.is_powered());
        transcript.extend(outputs);
    }
    Ok(transcript)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics_and_every_step_is_bounded(
        config in any_config(),
        image in image(),
        script in script(),
    ) {
        let mut one = Board::new(config.clone(), Box::new(image.clone())).unwrap();
        let mut two = Board::new(config, Box::new(image)).unwrap();
        let first = play(&mut one, &script)?;
        prop_assert_eq!(first, play(&mut two, &script)?, "the same seed and inputs");
    }

    /// Needless steps change nothing: the shell may wake as often as it likes.
    #[test]
    fn the_transcript_does_not_depend_on_how_time_is_cut(
        cuts in prop::collection::vec(0..9000u64, 0..40),
        seed in any::<u64>(),
        late in any::<bool>(),
    ) {
        let faults = FaultsConfig { seed, garbles_serial: 0.01, ..Default::default() };
        let config = BoardConfig { faults, ..config() };
        let mut smooth = Player::started(config.clone());
        smooth.settle();
        let mut cut = Player::started(config);
        let mut cuts = cuts;
        cuts.sort_unstable();
        for milliseconds in cuts {
            let at = Duration::from_millis(milliseconds);
            if late {
                cut.now = at;
                cut.input(Input::Tick);
            } else {
                cut.wait(at.saturating_sub(cut.now));
            }
        }
        cut.settle();
        prop_assert_eq!(smooth.transcript(), cut.transcript());
    }
}

#[test]
fn time_that_runs_backwards_is_taken_as_standing_still() {
    let mut player = Player::started(config());
    player.expect("stop autoboot");
    let deadline = player.board.next_deadline();
    assert!(player.board.step(Duration::ZERO, Input::Tick).is_empty());
    assert_eq!(player.board.next_deadline(), deadline);
    player
        .expect("login: ")
        .run("root", "# ")
        .run("cat /proc/uptime", "\r\n3.10 ")
        .expect("# ");
    player.now = Duration::ZERO;
    player.run("cat /proc/uptime", "\r\n3.10 ");
}

#[test]
fn typing_without_end_is_bounded() {
    let mut player = Player::started(config());
    // Not taken while the loader runs: the receive buffer overruns instead of growing.
    for _ in 0..1000 {
        player.send(&"x".repeat(10_000));
    }
    player.expect("=> ").settle();
    assert!(player.console.len() < 10_000, "{}", player.console.len());
}
